"""Profiles. Spec: client-server-api "Profiles"."""

from collections.abc import Awaitable, Callable

import msgspec

from hs.accounts.finishing import Finisher
from hs.accounts.profiles import Profiles, check_field_name
from hs.accounts.remote_profiles import RemoteProfiles
from hs.client_api.own_user import check_own
from hs.client_api.paths import v3
from hs.http.endpoint import Auth, Caller, ClientInfo, Empty, RawJson, endpoint
from hs.matrix.errors import MissingParam
from hs.matrix.ids import parse_user_id
from hs.net.fetch_budget import FetchBudget

# Before version 1.16 of the specification had fields of any name.
_UNSTABLE = "/_matrix/client/unstable/uk.tcpip.msc4133"
_PROFILE = (*v3("/profile/{user_id}"), f"{_UNSTABLE}/profile/{{user_id}}")
_FIELD = (*v3("/profile/{user_id}/{field}"), f"{_UNSTABLE}/profile/{{user_id}}/{{field}}")

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class ProfileApi:
    """Shows profiles of everybody and changes the caller's."""

    def __init__(
        self,
        profiles: Profiles,
        on_profile_change: Callable[[str], Awaitable[None]],
        remote: RemoteProfiles | None,
        budget: FetchBudget,
    ) -> None:
        """`on_profile_change` is awaited with the user id; it tells the rooms that the user is in.

        `remote` is None where this server keeps to itself; the budget is for who has no account here.
        """
        self._profiles = profiles
        self._budget = budget
        self._remote = remote
        self._on_profile_change = on_profile_change
        self._finisher = Finisher()

    @endpoint("GET", *_PROFILE, auth=Auth.OPTIONAL_USER, limit="other")
    async def get_profile(self, caller: Caller | None, client: ClientInfo, user_id: str) -> RawJson:
        """The whole profile."""
        return RawJson(await self._source(caller, client, user_id).get_json(user_id))

    @endpoint("GET", *_FIELD, auth=Auth.OPTIONAL_USER, limit="other")
    async def get_profile_field(
        self, caller: Caller | None, client: ClientInfo, user_id: str, field: str
    ) -> RawJson:
        """One field of the profile."""
        check_field_name(field)
        value = await self._source(caller, client, user_id).get_field_json(user_id, field)
        return RawJson(b'{"%b":%b}' % (field.encode(), value))

    def _source(self, caller: Caller | None, client: ClientInfo, user_id: str) -> Profiles | RemoteProfiles:
        """Who knows the user. Strangers can have us ask other servers now and then, not at will."""
        parse_user_id(user_id)
        if self._remote is None or self._profiles.is_local(user_id):
            return self._profiles
        may_ask = caller is not None or self._budget.take(client.address, 1) > 0
        return self._remote if may_ask else self._profiles

    @endpoint("PUT", *_FIELD, auth=Auth.USER, limit="profile")
    async def put_profile_field(self, caller: Caller, user_id: str, field: str, body: RawJson) -> Empty:
        """Change a field; a name or an avatar in the caller's rooms, too."""
        check_own(caller, user_id)
        check_field_name(field)
        value = _decode_fields(body.body).get(field)
        if value is None:
            raise MissingParam(f"{field} is missing")
        await self._finisher.finish(self._set(user_id, field, bytes(value)), "profile change")
        return Empty()

    @endpoint("DELETE", *_FIELD, auth=Auth.USER, limit="profile")
    async def delete_profile_field(self, caller: Caller, user_id: str, field: str) -> Empty:
        """Take a field away; a name or an avatar in the caller's rooms, too."""
        check_own(caller, user_id)
        check_field_name(field)
        await self._finisher.finish(self._delete(user_id, field), "profile change")
        return Empty()

    async def _set(self, user_id: str, field: str, value: bytes) -> None:
        if await self._profiles.set_field(user_id, field, value):
            await self._on_profile_change(user_id)

    async def _delete(self, user_id: str, field: str) -> None:
        if await self._profiles.delete_field(user_id, field):
            await self._on_profile_change(user_id)
