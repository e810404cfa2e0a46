"""Profiles of our users, and where our aliases lead. Spec: server-server-api "Querying for information"; query.yaml."""

from typing import Any

import msgspec

from hs.accounts.profiles import Profiles, check_field_name
from hs.directory.aliases import AliasDirectory
from hs.http.endpoint import Auth, RawJson, endpoint
from hs.matrix.errors import NotFound, Unrecognized
from hs.matrix.ids import parse_user_id, server_of
from hs.storage.memberships import MembershipStore

_API = "/_matrix/federation/v1/query"
# Whoever joins tries a few of them.
_MOST_SERVERS = 50


class ProfileQuery(msgspec.Struct):
    """Whose profile, and which part of it."""

    user_id: str
    field: str | None = None


class AliasQuery(msgspec.Struct):
    """Which alias."""

    room_alias: str


class QueriesApi:
    """Answers what other servers' users want to know."""

    def __init__(
        self, profiles: Profiles, directory: AliasDirectory, members: MembershipStore, server_name: str
    ) -> None:
        self._profiles = profiles
        self._directory = directory
        self._members = members
        self._server_name = server_name

    @endpoint("GET", _API + "/profile", auth=Auth.SERVER, limit="federation")
    async def get_profile(self, origin: str, query: ProfileQuery) -> RawJson:
        """A profile, or one field of it."""
        if parse_user_id(query.user_id).server_name != self._server_name:
            raise NotFound("the user is none of this server")
        if query.field is None:
            return RawJson(await self._profiles.get_json(query.user_id))
        check_field_name(query.field)
        value = await self._profiles.get_field_json(query.user_id, query.field)
        return RawJson(b'{"%b":%b}' % (query.field.encode(), value))

    @endpoint("GET", _API + "/directory", auth=Auth.SERVER, limit="federation")
    async def get_directory(self, origin: str, query: AliasQuery) -> dict[str, Any]:
        """The room that an alias leads to, and servers that are in it: ourselves first, if we are."""
        if server_of(query.room_alias) != self._server_name:
            raise NotFound("the alias is none of this server")
        room = await self._directory.resolve(query.room_alias)
        servers = await self._members.list_joined_servers(room.room_nid, _MOST_SERVERS)
        is_in = bool(await self._members.list_local_joined(room.room_nid, 1))
        others = [name for name in servers if name != self._server_name]
        return {"room_id": room.room_id, "servers": [self._server_name, *others] if is_in else others}

    @endpoint("GET", _API + "/{query_type}", auth=Auth.SERVER, limit="federation")
    async def get_other(self, origin: str, query_type: str) -> dict[str, Any]:
        """Nothing: there are no other queries."""
        raise Unrecognized("this server knows no such query")
