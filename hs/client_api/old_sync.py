"""What clients asked for before there was /sync: initialSync, the event stream, events by id alone.

Spec: client-server-api, the deprecated operations; /events with `room_id` is not one of them.
"""

from typing import Annotated

import msgspec

from hs.client_api.paths import v3
from hs.client_api.room_params import get_own_room
from hs.http.endpoint import Auth, Caller, RawJson, endpoint
from hs.matrix.errors import Forbidden, NotFound
from hs.matrix.ids import parse_event_id
from hs.matrix.tokens import StreamToken
from hs.storage.event_stream import EventStreamStore
from hs.storage.rooms import RoomStore
from hs.sync.access import RoomAccess
from hs.sync.client_events import Viewer
from hs.sync.event_stream import EventStream, StreamRequest
from hs.sync.old_sync import OldSync
from hs.sync.pagination import Pagination
from hs.sync.presence import Presence

# A client that waits longer learns nothing more; proxies give up on connections that are silent.
MAX_TIMEOUT_MS = 300_000


class InitialSyncQuery(msgspec.Struct):
    """The query of GET /initialSync."""

    limit: Annotated[int, msgspec.Meta(ge=0)] | None = None
    archived: bool = False


class EventsQuery(msgspec.Struct):
    """The query of GET /events."""

    from_: str | None = msgspec.field(default=None, name="from")
    timeout: int = 0
    room_id: str | None = None


class OldSyncApi:
    """Answers clients of the old kind."""

    def __init__(
        self,
        rooms: RoomStore,
        access: RoomAccess,
        old_sync: OldSync,
        stream: EventStream,
        places: EventStreamStore,
        pagination: Pagination,
        presence: Presence,
    ) -> None:
        self._rooms = rooms
        self._access = access
        self._old_sync = old_sync
        self._stream = stream
        self._places = places
        self._pagination = pagination
        self._presence = presence

    @endpoint("GET", *v3("/initialSync"), auth=Auth.USER, limit="sync")
    async def get_initial_sync(self, caller: Caller, query: InitialSyncQuery) -> RawJson:
        """All rooms of the caller."""
        with self._presence.syncing(caller.user_id, caller.device_id):
            return RawJson(await self._old_sync.initial_sync(_viewer(caller), query.limit, query.archived))

    @endpoint("GET", *v3("/rooms/{room_id}/initialSync"), auth=Auth.USER, limit="sync")
    async def get_room_initial_sync(self, caller: Caller, room_id: str) -> RawJson:
        """One room that the caller is in, was in or may look into."""
        room = await get_own_room(self._rooms, room_id)
        access = await self._access.check_reader(room, caller.user_id)
        return RawJson(await self._old_sync.room_initial_sync(room, _viewer(caller), access))

    @endpoint("GET", *v3("/events"), auth=Auth.USER, limit="sync")
    async def get_events(self, caller: Caller, query: EventsQuery) -> RawJson:
        """What has happened since a token, in all rooms of the caller or in one that is open to the world."""
        since = None if query.from_ is None else StreamToken.parse(query.from_)
        room = None if query.room_id is None else await get_own_room(self._rooms, query.room_id)
        timeout_ms = min(max(query.timeout, 0), MAX_TIMEOUT_MS)
        request = StreamRequest(_viewer(caller), since, timeout_ms, room)
        with self._presence.syncing(caller.user_id, caller.device_id):
            return RawJson(await self._stream.read(request))

    @endpoint("GET", *v3("/events/{event_id}"), auth=Auth.USER, limit="read")
    async def get_event_by_id(self, caller: Caller, event_id: str) -> RawJson:
        """One event, whatever room it is in."""
        parse_event_id(event_id)
        rooms = await self._rooms.list_by_nids(await self._places.list_rooms_with(event_id))
        for room in rooms.values():
            try:
                access = await self._access.check_reader(room, caller.user_id)
                return RawJson(await self._pagination.event(room, _viewer(caller), access, event_id))
            except (Forbidden, NotFound):
                # Another room may have an event of the same id; that it is here is nobody's business.
                continue
        raise NotFound("there is no such event, or you may not see it")


def _viewer(caller: Caller) -> Viewer:
    return Viewer(caller.user_id, caller.device_id)
