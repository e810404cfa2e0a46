"""Room aliases and the published list of rooms.

Spec: client-server-api "Room aliases" and "Published room directory".
"""

from typing import Any, Literal

import msgspec

from hs.client_api.paths import v3
from hs.client_api.room_params import get_own_room, get_room
from hs.directory.aliases import AliasDirectory
from hs.directory.public_rooms import ListBody, PublicRooms
from hs.directory.remote_lists import RemoteLists
from hs.http.endpoint import Auth, Caller, Empty, endpoint
from hs.matrix.errors import NotFound
from hs.matrix.ids import parse_room_id
from hs.storage.rooms import RoomStore


class AliasBody(msgspec.Struct):
    """Where an alias leads."""

    room_id: str


class VisibilityBody(msgspec.Struct):
    """Whether the room is published."""

    visibility: Literal["public", "private"] = "public"


class ListQuery(msgspec.Struct):
    """The query of GET /publicRooms."""

    limit: int | None = None
    since: str | None = None
    server: str | None = None


class ServerQuery(msgspec.Struct):
    """Whose list to show."""

    server: str | None = None


class DirectoryApi:
    """Finds and publishes rooms."""

    def __init__(
        self,
        rooms: RoomStore,
        directory: AliasDirectory,
        public_rooms: PublicRooms,
        server_name: str,
        remote_lists: RemoteLists | None,
    ) -> None:
        """`remote_lists` is None where this server keeps to itself."""
        self._rooms = rooms
        self._directory = directory
        self._public_rooms = public_rooms
        self._server_name = server_name
        self._remote_lists = remote_lists

    @endpoint("PUT", *v3("/directory/room/{alias}"), auth=Auth.USER, limit="other")
    async def put_alias(self, caller: Caller, alias: str, body: AliasBody) -> Empty:
        """Point a new alias to a room."""
        parse_room_id(body.room_id)
        await self._directory.insert(caller.user_id, alias, body.room_id)
        return Empty()

    @endpoint("GET", *v3("/directory/room/{alias}"), auth=Auth.NONE, limit="other")
    async def get_alias(self, alias: str) -> dict[str, Any]:
        """The room an alias leads to."""
        found = await self._directory.find_alias(alias)
        return {"room_id": found.room_id, "servers": list(found.servers) or [self._server_name]}

    @endpoint("DELETE", *v3("/directory/room/{alias}"), auth=Auth.USER, limit="other")
    async def delete_alias(self, caller: Caller, alias: str) -> Empty:
        """Remove an alias."""
        await self._directory.delete(caller.user_id, caller.is_admin, alias)
        return Empty()

    @endpoint("GET", *v3("/rooms/{room_id}/aliases"), auth=Auth.USER, limit="other")
    async def get_aliases(self, caller: Caller, room_id: str) -> dict[str, Any]:
        """The room's aliases on this server."""
        room = await get_own_room(self._rooms, room_id)
        return {"aliases": await self._directory.list_for(caller.user_id, caller.is_admin, room)}

    @endpoint("GET", *v3("/directory/list/room/{room_id}"), auth=Auth.NONE, limit="other")
    async def get_visibility(self, room_id: str) -> dict[str, Any]:
        """Whether the room is published."""
        room = await get_room(self._rooms, room_id)
        return {"visibility": "public" if await self._directory.is_published(room) else "private"}

    @endpoint("PUT", *v3("/directory/list/room/{room_id}"), auth=Auth.USER, limit="other")
    async def put_visibility(self, caller: Caller, room_id: str, body: VisibilityBody) -> Empty:
        """Publish the room, or take it off the list."""
        room = await get_room(self._rooms, room_id)
        is_public = body.visibility == "public"
        await self._directory.set_visibility(caller.user_id, caller.is_admin, room, is_public)
        return Empty()

    @endpoint("GET", *v3("/publicRooms"), auth=Auth.OPTIONAL_USER, limit="other")
    async def get_public_rooms(self, caller: Caller | None, query: ListQuery) -> dict[str, Any]:
        """The published rooms, a page at a time; other servers are asked for users only."""
        if query.server is not None and query.server != self._server_name:
            request = {"limit": query.limit, "since": query.since}
            return await self._ask(None if caller is None else query.server, request)
        return await self._public_rooms.list_wanted(ListBody(query.limit, query.since))

    @endpoint("POST", *v3("/publicRooms"), auth=Auth.USER, limit="other")
    async def post_public_rooms(self, caller: Caller, query: ServerQuery, body: ListBody) -> dict[str, Any]:
        """The published rooms that match a filter."""
        if query.server is not None and query.server != self._server_name:
            return await self._ask(query.server, msgspec.to_builtins(body))
        return await self._public_rooms.list_wanted(body)

    async def _ask(self, server: str | None, request: dict[str, Any]) -> dict[str, Any]:
        if self._remote_lists is None or server is None:
            raise NotFound("the lists of other servers cannot be asked")
        return await self._remote_lists.list_page(server, request)
