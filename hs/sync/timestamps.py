"""GET /timestamp_to_event: the event closest to a time. Spec: client-server-api "Getting events for a room"."""

from collections.abc import Sequence
from typing import Protocol

from hs._fast.event_record import EventRecord
from hs.matrix.errors import NotFound
from hs.storage.events import EventStore
from hs.storage.rooms import RoomInfo
from hs.storage.timestamps import TimedPlace, TimestampStore
from hs.sync.access import END, Access
from hs.sync.visibility import Seen

# Events looked at for one answer at most, however few of them the reader may see.
_SCAN_LIMIT = 5_000
_FIRST_CHUNK = 10
_MAX_CHUNK = 500


class Judge(Protocol):
    """Judges events of one room for a user, or for another server."""

    async def filter(self, viewer: str, records: Sequence[EventRecord], /) -> Sequence[Seen]:
        """Those of the records that the viewer may see, in order."""


class EventsByTime:
    """Finds events by their timestamps."""

    def __init__(self, store: TimestampStore, events: EventStore, visibility: Judge) -> None:
        self._store = store
        self._events = events
        self._visibility = visibility

    async def get_closest(
        self, room: RoomInfo, viewer: str, access: Access, ts: int, *, backwards: bool
    ) -> EventRecord:
        """The first event at `ts` or later, or the last at `ts` or earlier, that the viewer may see.

        Of several in one millisecond it is the one that history has first, or last. NotFound where there is none.
        """
        ts = max(-END, min(ts, END))
        place = TimedPlace(ts, END, END) if backwards else TimedPlace(ts, -1, -END)
        scan = self._store.list_earlier if backwards else self._store.list_later
        scanned, chunk = 0, _FIRST_CHUNK
        while scanned < _SCAN_LIMIT:
            places = await scan(room.room_nid, place, access.until, chunk)
            found = await self._events.get_many([one.event_nid for one in places])
            records = [found[one.event_nid] for one in places if one.event_nid in found]
            for seen in await self._visibility.filter(viewer, records):
                return seen.record
            if len(places) < chunk:
                break
            place, scanned, chunk = places[-1], scanned + chunk, min(chunk * 4, _MAX_CHUNK)
        raise NotFound(f"unable to find an event from {ts} {'backwards' if backwards else 'forwards'}")
