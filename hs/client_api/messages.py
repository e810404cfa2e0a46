"""Reading history: pages of it, and the neighbourhood of an event.

Spec: client-server-api "Getting events for a room", "Event context".
"""

from typing import Annotated, Literal

import msgspec

from hs.client_api.paths import v3
from hs.client_api.room_params import get_own_room
from hs.http.endpoint import Auth, Caller, RawJson, endpoint
from hs.matrix.errors import MissingParam
from hs.matrix.filters import MAX_LIMIT, RoomEventFilter, build_matcher, limit_of, parse_room_event_filter
from hs.matrix.tokens import parse_pagination_token
from hs.storage.rooms import RoomStore
from hs.sync.access import RoomAccess
from hs.sync.client_events import Viewer
from hs.sync.pagination import PageRequest, Pagination

_NO_FILTER = RoomEventFilter()
_Limit = Annotated[int, msgspec.Meta(ge=0)]


class MessagesQuery(msgspec.Struct):
    """The query of GET /messages."""

    dir: Literal["b", "f"] | None = None
    from_: str | None = msgspec.field(default=None, name="from")
    to: str | None = None
    limit: _Limit | None = None
    filter: str | None = None


class ContextQuery(msgspec.Struct):
    """The query of GET /context."""

    limit: _Limit | None = None
    filter: str | None = None


class MessagesApi:
    """Reads history."""

    def __init__(self, rooms: RoomStore, access: RoomAccess, pagination: Pagination) -> None:
        self._rooms = rooms
        self._access = access
        self._pagination = pagination

    @endpoint("GET", *v3("/rooms/{room_id}/messages"), auth=Auth.USER, limit="read")
    async def get_messages(self, caller: Caller, room_id: str, query: MessagesQuery) -> RawJson:
        """A page of the room's history."""
        if query.dir is None:
            raise MissingParam("dir must be b or f")
        definition = _parse_filter(query.filter)
        request = PageRequest(
            query.dir == "b",
            None if query.from_ is None else parse_pagination_token(query.from_),
            None if query.to is None else parse_pagination_token(query.to),
            max(1, _limit(query.limit, definition)),
            build_matcher(definition),
            definition.lazy_load_members,
        )
        room = await get_own_room(self._rooms, room_id)
        access = await self._access.check_reader(room, caller.user_id)
        return RawJson(await self._pagination.messages(room, _viewer(caller), access, request))

    @endpoint("GET", *v3("/rooms/{room_id}/context/{event_id}"), auth=Auth.USER, limit="read")
    async def get_context(self, caller: Caller, room_id: str, event_id: str, query: ContextQuery) -> RawJson:
        """An event, what was said around it, and the state there."""
        definition = _parse_filter(query.filter)
        limit = _limit(query.limit, definition)
        request = PageRequest(
            True, None, None, limit, build_matcher(definition), definition.lazy_load_members
        )
        room = await get_own_room(self._rooms, room_id)
        access = await self._access.check_reader(room, caller.user_id)
        return RawJson(await self._pagination.context(room, _viewer(caller), access, event_id, request))


def _viewer(caller: Caller) -> Viewer:
    return Viewer(caller.user_id, caller.device_id)


def _parse_filter(text: str | None) -> RoomEventFilter:
    return _NO_FILTER if text is None else parse_room_event_filter(text)


def _limit(asked: int | None, definition: RoomEventFilter) -> int:
    return limit_of(definition) if asked is None else min(asked, MAX_LIMIT)
