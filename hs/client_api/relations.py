"""What relates to an event, and the threads of a room.

Spec: client-server-api "Relationships API", module "Threading".
"""

from dataclasses import replace
from typing import Annotated, Literal

import msgspec

from hs.client_api.room_params import check_name, get_own_room
from hs.http.endpoint import Auth, Caller, RawJson, endpoint
from hs.matrix.errors import Forbidden, NotFound
from hs.matrix.tokens import parse_pagination_token
from hs.storage.relations import Children
from hs.storage.rooms import RoomStore
from hs.sync.access import RoomAccess
from hs.sync.client_events import Viewer
from hs.sync.relations import RECURSION_DEPTH, Relations, RelationsRequest, ThreadsRequest

_PATH = "/_matrix/client/v1/rooms/{room_id}/relations/{event_id}"
_DEFAULT_LIMIT = 20
_MAX_LIMIT = 500


class RelationsQuery(msgspec.Struct):
    """The query of GET /relations."""

    dir: Literal["b", "f"] = "b"
    from_: str | None = msgspec.field(default=None, name="from")
    to: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=0)] | None = None
    recurse: bool | None = None
    # Its name before it was accepted.
    unstable_recurse: bool | None = msgspec.field(default=None, name="org.matrix.msc3981.recurse")


class ThreadsQuery(msgspec.Struct):
    """The query of GET /threads."""

    include: Literal["all", "participated"] = "all"
    from_: str | None = msgspec.field(default=None, name="from")
    limit: Annotated[int, msgspec.Meta(ge=1)] | None = None


class RelationsApi:
    """Reads relations."""

    def __init__(self, rooms: RoomStore, access: RoomAccess, relations: Relations) -> None:
        self._rooms = rooms
        self._access = access
        self._relations = relations

    @endpoint("GET", _PATH, auth=Auth.USER, limit="read")
    async def get_relations(
        self, caller: Caller, room_id: str, event_id: str, query: RelationsQuery
    ) -> RawJson:
        """Whatever relates to an event."""
        return await self._children(caller, room_id, Children(event_id), query)

    @endpoint("GET", _PATH + "/{rel_type}", auth=Auth.USER, limit="read")
    async def get_relations_of_kind(
        self, caller: Caller, room_id: str, event_id: str, rel_type: str, query: RelationsQuery
    ) -> RawJson:
        """What relates to an event in one way."""
        return await self._children(caller, room_id, Children(event_id, rel_type), query)

    @endpoint("GET", _PATH + "/{rel_type}/{event_type}", auth=Auth.USER, limit="read")
    async def get_relations_of_type(
        self,
        caller: Caller,
        room_id: str,
        event_id: str,
        rel_type: str,
        event_type: str,
        query: RelationsQuery,
    ) -> RawJson:
        """Events of one type that relate to an event in one way."""
        return await self._children(caller, room_id, Children(event_id, rel_type, event_type), query)

    @endpoint("GET", "/_matrix/client/v1/rooms/{room_id}/threads", auth=Auth.USER, limit="read")
    async def get_threads(self, caller: Caller, room_id: str, query: ThreadsQuery) -> RawJson:
        """The roots of the room's threads."""
        start = None if query.from_ is None else parse_pagination_token(query.from_)
        limit = min(query.limit or _DEFAULT_LIMIT, _MAX_LIMIT)
        request = ThreadsRequest(start, limit, query.include == "participated")
        room = await get_own_room(self._rooms, room_id)
        access = await self._access.check_reader(room, caller.user_id)
        return RawJson(await self._relations.threads(room, _viewer(caller), access, request))

    async def _children(
        self, caller: Caller, room_id: str, children: Children, query: RelationsQuery
    ) -> RawJson:
        for what, name in (("the relation type", children.rel_type), ("the event type", children.type)):
            check_name(what, name or "")
        recurse = query.unstable_recurse if query.recurse is None else query.recurse
        request = RelationsRequest(
            replace(children, depth=RECURSION_DEPTH) if recurse else children,
            query.dir == "b",
            None if query.from_ is None else parse_pagination_token(query.from_),
            None if query.to is None else parse_pagination_token(query.to),
            _DEFAULT_LIMIT if query.limit is None else max(1, min(query.limit, _MAX_LIMIT)),
            recurse,
        )
        try:
            room = await get_own_room(self._rooms, room_id)
            access = await self._access.check_reader(room, caller.user_id)
        except Forbidden as error:
            # Spec: 404 also where the caller may not read the event.
            raise NotFound("there is no such event, or you may not see it") from error
        return RawJson(await self._relations.children(room, _viewer(caller), access, request))


def _viewer(caller: Caller) -> Viewer:
    return Viewer(caller.user_id, caller.device_id)
