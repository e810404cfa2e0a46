"""Profiles. Spec: client-server-api "Profiles"."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

from hs.accounts.finishing import Finisher
from hs.accounts.profiles import FIELDS, Profiles
from hs.client_api.own_user import check_own
from hs.client_api.paths import v3
from hs.http.endpoint import Auth, Caller, Empty, endpoint
from hs.matrix.errors import BadJson, Forbidden, InvalidParam, KeyTooLarge, MissingParam, NotFound
from hs.matrix.ids import parse_user_id

_FIELD = v3("/profile/{user_id}/{field}")
# Spec: appendices "Common Namespaced Identifier Grammar".
_FIELD_NAME = re.compile(r"avatar_url|displayname|m\.tz|[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")
_MAX_FIELD_NAME_BYTES = 255


class ProfileApi:
    """Shows profiles of everybody and changes the caller's."""

    def __init__(self, profiles: Profiles, on_profile_change: Callable[[str], Awaitable[None]]) -> None:
        """`on_profile_change` is awaited with the user id; it tells the rooms that the user is in."""
        self._profiles = profiles
        self._on_profile_change = on_profile_change
        self._finisher = Finisher()

    @endpoint("GET", *v3("/profile/{user_id}"), auth=Auth.NONE, limit="other")
    async def get_profile(self, user_id: str) -> dict[str, Any]:
        """The whole profile."""
        parse_user_id(user_id)
        return await self._profiles.get(user_id)

    @endpoint("GET", *_FIELD, auth=Auth.NONE, limit="other")
    async def get_profile_field(self, user_id: str, field: str) -> dict[str, Any]:
        """One field of the profile."""
        parse_user_id(user_id)
        _check_name(field)
        profile = await self._profiles.get(user_id)
        if field not in profile:
            raise NotFound("this user has no such field")
        return {field: profile[field]}

    @endpoint("PUT", *_FIELD, auth=Auth.USER, limit="profile")
    async def put_profile_field(
        self, caller: Caller, user_id: str, field: str, body: dict[str, Any]
    ) -> Empty:
        """Change a field, here and in the caller's rooms."""
        _check_change(caller, user_id, field)
        if field not in body:
            raise MissingParam(f"{field} is missing")
        value = body[field]
        # null is not in the specification, but what clients send to have a field taken away.
        if value is not None and not isinstance(value, str):
            raise BadJson(f"{field} must be a string")
        await self._set(user_id, field, value)
        return Empty()

    @endpoint("DELETE", *_FIELD, auth=Auth.USER, limit="profile")
    async def delete_profile_field(self, caller: Caller, user_id: str, field: str) -> Empty:
        """Take a field away, here and in the caller's rooms."""
        _check_change(caller, user_id, field)
        await self._set(user_id, field, None)
        return Empty()

    async def _set(self, user_id: str, field: str, value: str | None) -> None:
        # A user in many rooms may hang up before all of them know; half of them would be worse.
        await self._finisher.finish(self._change(user_id, field, value), "profile change")

    async def _change(self, user_id: str, field: str, value: str | None) -> None:
        if await self._profiles.set_field(user_id, field, value):
            await self._on_profile_change(user_id)


def _check_name(field: str) -> None:
    if len(field.encode()) > _MAX_FIELD_NAME_BYTES:
        raise KeyTooLarge(f"the name of a field has at most {_MAX_FIELD_NAME_BYTES} bytes")
    if _FIELD_NAME.fullmatch(field) is None:
        raise InvalidParam("not the name of a profile field")


def _check_change(caller: Caller, user_id: str, field: str) -> None:
    check_own(caller, user_id)
    _check_name(field)
    if field not in FIELDS:
        # As m.profile_fields of the capabilities says.
        raise Forbidden("profiles have only a display name and an avatar here")
