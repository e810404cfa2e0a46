"""Profiles of local users: display name, avatar, and whatever else clients put there. Spec: client-server-api "Profiles".

Only the display name and the avatar go into rooms. They are kept in memory; the rest may be large, is asked
for rarely, and is read from the database each time, by users that have any.
"""

import re
from dataclasses import dataclass

import msgspec
from cachetools import LRUCache

from hs.matrix.errors import BadJson, InvalidParam, KeyTooLarge, NotFound, ProfileTooLarge
from hs.matrix.ids import server_of
from hs.storage.profiles import ProfileStore

# These go into member events.
NAMES = ("displayname", "avatar_url")

# Two short strings each.
_CACHED = 20_000
# A member event has 64 KiB for everything; these go into each of the user's.
MAX_NAME_BYTES = 256 * 4
MAX_URL_BYTES = 1024
# Spec: "the total profile MUST be under 64 KiB".
MAX_PROFILE_BYTES = 64 * 1024 - 1
MAX_FIELD_NAME_BYTES = 255
# Spec: content repository "Matrix Content (mxc://) URIs".
_MXC = re.compile(r"mxc://[^/\s]+/[^/\s]+")
# Spec: appendices "Common Namespaced Identifier Grammar".
_FIELD_NAME = re.compile(r"[a-z][a-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class _Known:
    """What is kept of a profile."""

    names: dict[str, str]
    has_more: bool


class Profiles:
    """Reads and changes profiles."""

    def __init__(self, store: ProfileStore, server_name: str) -> None:
        self._store = store
        self._server_name = server_name
        self._cache: LRUCache[str, _Known] = LRUCache(_CACHED)
        self._changes = 0

    def is_local(self, user_id: str) -> bool:
        """Whether the user is one of this server."""
        return server_of(user_id) == self._server_name

    async def member_fields(self, user_id: str) -> dict[str, str]:
        """`displayname` and `avatar_url` as they go into a member event; absent where not set, {} for others' users."""
        found = await self._find(user_id)
        return {} if found is None else dict(found.names)

    async def get_json(self, user_id: str) -> bytes:
        """The whole profile, a JSON object; NotFound where there is no such user on this server."""
        found = await self._get(user_id)
        more = await self._store.list_fields(user_id) if found.has_more else []
        fields = [*((name, msgspec.json.encode(value)) for name, value in found.names.items()), *more]
        return b"{%b}" % b",".join(b'"%b":%b' % (name.encode(), value) for name, value in fields)

    async def get_field_json(self, user_id: str, field: str) -> bytes:
        """The value of one field; NotFound where the user, or the field, is not there."""
        check_field_name(field)
        found = await self._get(user_id)
        value: bytes | None = None
        if field in found.names:
            value = msgspec.json.encode(found.names[field])
        elif found.has_more and field not in NAMES:
            value = await self._store.find_field(user_id, field)
        if value is None:
            raise NotFound("this user has no such field")
        return value

    async def set_field(self, user_id: str, field: str, value: bytes) -> bool:
        """Set a field to a JSON value; whether rooms are to hear of it.

        null and "" take a display name or avatar away. Raises KeyTooLarge, ProfileTooLarge, InvalidParam
        or BadJson for what cannot be set.
        """
        check_field_name(field)
        if field in NAMES:
            return await self._set_name(user_id, field, _decode_name(field, value))
        if field == "m.tz" and not value.startswith(b'"'):
            raise BadJson("m.tz must be a string")
        await self._store_field(user_id, field, value)
        return False

    async def delete_field(self, user_id: str, field: str) -> bool:
        """Take a field away; whether rooms are to hear of it."""
        check_field_name(field)
        if field in NAMES:
            return await self._set_name(user_id, field, None)
        try:
            await self._store.delete_field(user_id, field)
        finally:
            self.forget_user(user_id)
        return False

    def forget_user(self, user_id: str) -> None:
        """Read the profile again at the next request."""
        self._changes += 1
        self._cache.pop(user_id, None)

    async def _set_name(self, user_id: str, field: str, value: str | None) -> bool:
        check_name(field, value)
        before = (await self._get(user_id)).names.get(field)
        if (value or None) == before:
            return False
        try:
            is_set = await self._store.set_name(user_id, field, value or None, MAX_PROFILE_BYTES)
        finally:
            # Also where we are cut off: the change may stand already.
            self.forget_user(user_id)
        if not is_set:
            raise ProfileTooLarge(f"a profile has at most {MAX_PROFILE_BYTES} bytes")
        return True

    async def _store_field(self, user_id: str, field: str, value: bytes) -> None:
        if len(value) > MAX_PROFILE_BYTES:
            raise ProfileTooLarge(f"a profile has at most {MAX_PROFILE_BYTES} bytes")
        try:
            is_set = await self._store.set_field(user_id, field, value, MAX_PROFILE_BYTES)
        finally:
            self.forget_user(user_id)
        if not is_set:
            raise ProfileTooLarge(f"a profile has at most {MAX_PROFILE_BYTES} bytes")

    async def _get(self, user_id: str) -> _Known:
        found = await self._find(user_id)
        if found is None:
            raise NotFound("no such user")
        return found

    async def _find(self, user_id: str) -> _Known | None:
        if user_id in self._cache:
            return self._cache[user_id]
        if not self.is_local(user_id):
            return None
        before = self._changes
        row = await self._store.find_profile(user_id)
        if row is None:
            return None
        values = {"displayname": row.display_name, "avatar_url": row.avatar_url}
        names = {name: value for name, value in values.items() if value is not None}
        found = _Known(names, row.has_fields)
        # A change that overtook the query must not be overwritten by what was before it.
        if before == self._changes:
            self._cache[user_id] = found
        return found


def check_field_name(field: str) -> None:
    """KeyTooLarge or InvalidParam for what cannot be the name of a field."""
    if len(field.encode()) > MAX_FIELD_NAME_BYTES:
        raise KeyTooLarge(f"the name of a field has at most {MAX_FIELD_NAME_BYTES} bytes")
    if _FIELD_NAME.fullmatch(field) is None:
        raise InvalidParam("not the name of a profile field")


def check_name(field: str, value: str | None) -> None:
    """ProfileTooLarge for a display name or an avatar that is too long, InvalidParam for what is none."""
    limit = MAX_NAME_BYTES if field == "displayname" else MAX_URL_BYTES
    if value is not None and len(value.encode()) > limit:
        raise ProfileTooLarge(f"{field} has at most {limit} bytes")
    if value is not None and "\x00" in value:
        raise InvalidParam(f"{field} must not hold a NUL character")
    if value and field == "avatar_url" and _MXC.fullmatch(value) is None:
        raise InvalidParam("avatar_url must be an MXC URI")


def _decode_name(field: str, value: bytes) -> str | None:
    try:
        # null is not in the specification, but what clients send to have a name taken away.
        return msgspec.json.decode(value, type=str | None)
    except msgspec.ValidationError as error:
        raise BadJson(f"{field} must be a string") from error
