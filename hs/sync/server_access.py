"""What of our rooms another server is let in to: its users are in the room, or were when the event was sent.

Spec: server-server-api "Retrieving events"; servers that a room denies are told nothing of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hs._fast.event_record import EventRecord
from hs.matrix.errors import Forbidden, MatrixError, NotFound
from hs.rooms.resident import RoomDoors
from hs.storage.events import EventStore, Flag
from hs.storage.history import HistoryStore
from hs.storage.rooms import RoomInfo, RoomStore
from hs.sync.access import Access
from hs.sync.server_visibility import ServerVisibility

_NOT_GIVEN_AWAY = Flag.REJECTED | Flag.UNJUDGED


@dataclass(frozen=True, slots=True)
class OpenRoom:
    """A room that a server may read; `is_in` says that its users are in it now, not only in the past."""

    room: RoomInfo
    is_in: bool


class ServerAccess:
    """Lets servers read rooms."""

    def __init__(
        self,
        doors: RoomDoors,
        rooms: RoomStore,
        events: EventStore,
        visibility: ServerVisibility,
        store: HistoryStore,
    ) -> None:
        self._doors = doors
        self._rooms = rooms
        self._events = events
        self._visibility = visibility
        self._store = store

    async def check_reader(self, origin: str, room_id: str) -> tuple[RoomInfo, Access]:
        """The room, where the server is in it or everybody may read it; Forbidden where not."""
        room = await self._doors.open(origin, room_id)
        is_in = await self._visibility.is_in(room, origin)
        if not is_in and not await self._visibility.is_world_readable(room):
            raise Forbidden("your server is not in the room")
        return room, Access(is_member=is_in)

    async def open(self, origin: str, room_id: str, event_ids: Sequence[str]) -> tuple[OpenRoom, list[int]]:
        """The room and those of the events that it has; Forbidden for servers that were at none of them."""
        room = await self._doors.open(origin, room_id)
        nids = list((await self._events.find_nids(room.room_nid, event_ids)).values())
        is_in = await self._visibility.is_in(room, origin)
        if not is_in:
            records = (await self._events.get_many(nids)).values()
            if not any([await self._visibility.was_in(origin, record) for record in records]):
                raise Forbidden("your server is not in the room")
        return OpenRoom(room, is_in), nids

    async def open_at(
        self, origin: str, room_id: str, event_id: str, *, with_outliers: bool = False
    ) -> tuple[RoomInfo, EventRecord]:
        """The room and the event in it; NotFound where we lack the event, or what the room was there."""
        opened, nids = await self.open(origin, room_id, [event_id])
        unwanted = _NOT_GIVEN_AWAY if with_outliers else _NOT_GIVEN_AWAY | Flag.OUTLIER
        record = await self._events.get(nids[0]) if nids else None
        if record is None or record.flags & unwanted:
            raise NotFound("this server does not have the event")
        return opened.room, record

    async def get_event(self, origin: str, event_id: str) -> EventRecord:
        """An event of any room; Forbidden where the server may not see it.

        State is given to whoever is in the room: they get it by GET /state, too, and need it.
        """
        refusal: MatrixError = NotFound("this server does not have the event")
        for room_nid, event_nid in await self._store.list_places(event_id):
            record = await self._events.get(event_nid)
            if record.flags & _NOT_GIVEN_AWAY or (record.flags & Flag.OUTLIER and record.state_key is None):
                continue
            room = await self._rooms.by_nid(room_nid)
            try:
                await self._doors.open(origin, room.room_id)
            except MatrixError as error:
                refusal = error
                continue
            is_in = await self._visibility.is_in(room, origin)
            if is_in and record.state_key is not None:
                return record
            if not await self._visibility.list_hidden(origin, [record], is_in=is_in):
                return record
            refusal = Forbidden("your server may not see the event")
        raise refusal
