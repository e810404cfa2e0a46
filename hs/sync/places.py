"""Places in a room's history, from which readers go on in both directions.

History is ordered by (depth, stream ordering); a place is between two events, so that turning around loses
nothing. Whoever reads backwards sees what had arrived when they began: the rest comes with their syncs.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from hs._fast.event_record import EventRecord
from hs.matrix.tokens import RoomToken, TopologicalToken
from hs.storage.rooms import RoomInfo
from hs.storage.timeline import Place, TimelineStore
from hs.sync.access import END, Access
from hs.sync.far_history import FarHistory

BEGINNING = TopologicalToken(0, 0)
NEWEST = TopologicalToken(END, END)

PageToken = RoomToken | TopologicalToken


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a room's history: from a place on to another, of what had arrived by `until`.

    `start` is the token that says so; `stop` None is the end of the room.
    """

    start: PageToken
    place: TopologicalToken
    stop: TopologicalToken | None
    until: int
    backwards: bool

    def has(self, depth: int, stream_ordering: int) -> bool:
        """Whether an event that lies after the place is before the stop."""
        if self.stop is None:
            return True
        at, end = (depth, stream_ordering), (self.stop.depth, self.stop.stream)
        return at > end if self.backwards else at <= end

    def token(self, place: TopologicalToken) -> TopologicalToken:
        """The place as one to go on from with the same in view."""
        return replace(place, until=self.until)

    def past(self, record: EventRecord) -> TopologicalToken:
        """The place behind an event in the direction of reading."""
        return self.token(before(record) if self.backwards else after(record))


class Places:
    """Finds what tokens name, and the events from there on."""

    def __init__(
        self, timeline: TimelineStore, current_token: Callable[[], RoomToken], far: FarHistory
    ) -> None:
        self._timeline = timeline
        self._current_token = current_token
        self._far = far

    async def stretch(
        self, room: RoomInfo, access: Access, start: PageToken | None, stop: PageToken | None, backwards: bool
    ) -> Stretch:
        """What there is to read between two tokens; `start` None is the end of the room to begin from."""
        # What is committed from here on comes with the next sync.
        now = self._current_token()
        until = min(access.until, now.stream)
        start = start or (now if backwards else BEGINNING)
        place, view = await self._find(room, start)
        end = None if stop is None else (await self._find(room, stop))[0]
        return Stretch(start, place, end, min(until, view) if backwards else until, backwards)

    def mark(self, room: RoomInfo) -> int | None:
        """The same before and after where no history was fetched meanwhile; None while it is."""
        return self._far.mark(room)

    async def fetch_missing(
        self, room: RoomInfo, stretch: Stretch, end: TopologicalToken | None
    ) -> bool | None:
        """Have history that we lack between a stretch's place and `end`, read backwards, fetched from elsewhere.

        None where nothing is missing, else whether there is more to read now.
        """
        if not await self._far.is_missing(room, stretch.place, end or stretch.stop):
            return None
        return await self._far.fill(room, stretch.place)

    def around(self, access: Access, place: TopologicalToken, backwards: bool) -> Stretch:
        """Everything from a place on."""
        until = min(access.until, self._current_token().stream)
        return Stretch(place, place, None, until, backwards)

    async def list(
        self, room: RoomInfo, stretch: Stretch, place: TopologicalToken, limit: int
    ) -> list[Place]:
        """The next events of the stretch from a place of it on, its stop not minded."""
        scan = self._timeline.list_before if stretch.backwards else self._timeline.list_after
        return await scan(room.room_nid, place.depth, place.stream, stretch.until, limit)

    async def _find(self, room: RoomInfo, token: PageToken) -> tuple[TopologicalToken, int]:
        """The place in history that a token names, and the newest event that its owner may have meant."""
        if isinstance(token, TopologicalToken):
            return token, token.until
        if token.stream >= self._current_token().stream:
            return NEWEST, token.max_stream
        place = await self._timeline.find_place_at(room.room_nid, token.stream)
        found = BEGINNING if place is None else TopologicalToken(place.depth, place.stream_ordering)
        # An event that came later but belongs further back was not in front of this reader.
        return found, token.max_stream


def before(record: EventRecord) -> TopologicalToken:
    """The place right before the event."""
    return TopologicalToken(record.depth, record.stream_ordering - 1)


def after(record: EventRecord) -> TopologicalToken:
    """The place right after the event."""
    return TopologicalToken(record.depth, record.stream_ordering)
