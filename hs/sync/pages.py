"""One page of what there is in a stretch of a room's history: as much as is wanted and visible."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from hs._fast.event_record import EventRecord
from hs.matrix.tokens import TopologicalToken
from hs.storage.events import EventStore
from hs.storage.timeline import Place
from hs.sync.places import Stretch
from hs.sync.visibility import Seen

# Events looked at for one page at most, however few of them are wanted or visible; then the client gets
# what was found and a token to go on.
SCAN_LIMIT = 5_000
_MAX_CHUNK = 500

# The next so many events from a place on.
ListPlaces = Callable[[TopologicalToken, int], Awaitable[Sequence[Place]]]
# Those that are wanted and visible, in the same order.
Keep = Callable[[Sequence[EventRecord]], Awaitable[Sequence[Seen]]]


@dataclass(frozen=True, slots=True)
class Page:
    """Events, in the order of reading, and where the next page begins; None where there is none."""

    events: list[Seen]
    end: TopologicalToken | None


class PageReader:
    """Reads pages."""

    def __init__(self, events: EventStore, scan_limit: int = SCAN_LIMIT) -> None:
        self._events = events
        self._scan_limit = scan_limit

    async def read(
        self, stretch: Stretch, limit: int, list_places: ListPlaces, keep: Keep, *, keeps_most: bool
    ) -> Page:
        """Up to `limit` events from the stretch's place on; `keeps_most` says that few are left out."""
        found: list[Seen] = []
        place = stretch.place
        if limit <= 0:
            return Page([], stretch.token(place))
        chunk = min(limit + 1 if keeps_most else limit * 4, _MAX_CHUNK)
        scanned = 0
        while scanned < self._scan_limit:
            places = await list_places(place, chunk)
            inside = [one for one in places if stretch.has(one.depth, one.stream_ordering)]
            for seen in await keep(await self._get(inside)):
                if len(found) == limit:
                    return Page(found, stretch.past(found[-1].record))
                found.append(seen)
            if len(inside) < chunk:
                return Page(found, None)
            last = inside[-1]
            stream = last.stream_ordering - 1 if stretch.backwards else last.stream_ordering
            place = TopologicalToken(last.depth, stream)
            scanned += chunk
            chunk = min(chunk * 2, _MAX_CHUNK)
        return Page(found, stretch.token(place))

    async def _get(self, places: Sequence[Place]) -> list[EventRecord]:
        nids = [place.event_nid for place in places]
        found = await self._events.get_many(nids)
        return [found[nid] for nid in nids if nid in found]
