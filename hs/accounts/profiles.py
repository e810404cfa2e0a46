"""Display names and avatars of local users. Spec: client-server-api "Profiles"."""

from cachetools import LRUCache

from hs.matrix.errors import InvalidParam, NotFound, ProfileTooLarge
from hs.storage.users import UserStore

FIELDS = ("displayname", "avatar_url")

# Two short strings each.
_CACHED = 20_000
# A member event has 64 KiB for everything; the profile goes into each of the user's.
MAX_NAME_BYTES = 256 * 4
MAX_URL_BYTES = 1024


class Profiles:
    """Reads and changes profiles."""

    def __init__(self, users: UserStore, server_name: str) -> None:
        self._users = users
        self._server_name = server_name
        self._cache: LRUCache[str, dict[str, str]] = LRUCache(_CACHED)
        self._changes = 0

    async def member_fields(self, user_id: str) -> dict[str, str]:
        """`displayname` and `avatar_url` as they go into a member event; absent where not set, {} for others' users."""
        return dict(await self._find(user_id) or {})

    async def get(self, user_id: str) -> dict[str, str]:
        """The profile; NotFound where there is no such user on this server."""
        found = await self._find(user_id)
        if found is None:
            raise NotFound("no such user")
        return dict(found)

    async def set_field(self, user_id: str, field: str, value: str | None) -> bool:
        """Whether the profile has changed; None and "" take the field away.

        Raises InvalidParam for another field or what is no text, ProfileTooLarge for one that is too long.
        """
        check_field(field, value)
        before = await self.get(user_id)
        if (value or None) == before.get(field):
            return False
        try:
            await self._users.set_profile_field(user_id, field, value or None)
        finally:
            # Also where we are cut off: the change may stand already.
            self.forget_user(user_id)
        return True

    def forget_user(self, user_id: str) -> None:
        """Read the profile again at the next request."""
        self._changes += 1
        self._cache.pop(user_id, None)

    async def _find(self, user_id: str) -> dict[str, str] | None:
        if user_id in self._cache:
            return self._cache[user_id]
        if user_id.partition(":")[2] != self._server_name:
            return None
        before = self._changes
        row = await self._users.find_user(user_id)
        if row is None or row.is_deactivated:
            return None
        values = {"displayname": row.display_name, "avatar_url": row.avatar_url}
        found = {name: value for name, value in values.items() if value is not None}
        # A change that overtook the query must not be overwritten by what was before it.
        if before == self._changes:
            self._cache[user_id] = found
        return found


def check_field(field: str, value: str | None) -> None:
    """InvalidParam for another field or what is no text, ProfileTooLarge for a value that is too long."""
    if field not in FIELDS:
        raise InvalidParam(f"profiles have {' and '.join(FIELDS)} here")
    limit = MAX_NAME_BYTES if field == "displayname" else MAX_URL_BYTES
    if value is not None and len(value.encode()) > limit:
        raise ProfileTooLarge(f"{field} has at most {limit} bytes")
    if value is not None and "\x00" in value:
        raise InvalidParam(f"{field} must not hold a NUL character")
