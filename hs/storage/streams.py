"""Streams: the order in which this process commits and announces what it writes."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from hs.storage.database import Database


@dataclass(eq=False, slots=True)
class StreamRange:
    """Consecutive ids of one transaction: `first` to `last`, both included."""

    first: int
    last: int
    _announcements: list[Callable[[], None]] = field(default_factory=list)
    _warnings: list[Callable[[], None]] = field(default_factory=list)
    _closed: bool = False
    _is_committed: bool = False

    def on_published(self, announce: Callable[[], None]) -> None:
        """Call `announce` once every id up to `last` is committed or given up."""
        self._announcements.append(announce)

    def on_failed(self, warn: Callable[[], None]) -> None:
        """Call `warn` instead, at the same moment, where the transaction failed or its outcome is not known."""
        self._warnings.append(warn)


class StreamIds:
    """Hands out ascending ids and knows up to where all of them are committed.

    Transactions of different rooms overlap and end in any order. A reader that has seen `current` has
    missed nothing below it, therefore `current` moves past a range only when all earlier ranges are
    closed, and announcements are made in id order.
    """

    def __init__(self, last: int) -> None:
        self._last = last
        self._current = last
        self._open: dict[int, StreamRange] = {}

    @property
    def current(self) -> int:
        """The newest committed id such that all before it are committed or given up."""
        return self._current

    @contextmanager
    def reserve(self, count: int) -> Iterator[StreamRange]:
        """`count` fresh ids, open until the block ends; put the whole transaction inside the block.

        A block that raises gives its ids up and announces nothing. Whether they stay unused is not known
        where the connection was lost during the COMMIT: that is what `on_failed` is for.
        """
        ids = StreamRange(self._last + 1, self._last + count)
        self._last = ids.last
        self._open[ids.first] = ids
        try:
            yield ids
            ids._is_committed = True
        except BaseException:
            ids._announcements = ids._warnings
            raise
        finally:
            ids._closed = True
            self._publish()

    def _publish(self) -> None:
        # Dicts keep insertion order and ids only grow: the first open range is the lowest.
        while self._open:
            ids = next(iter(self._open.values()))
            if not ids._closed:
                return
            del self._open[ids.first]
            # Ids that were given up are not passed by themselves: after a restart they would be used again,
            # and a token that had passed them would hide what they then stand for.
            if ids._is_committed:
                self._current = ids.last
            for announce in ids._announcements:
                announce()


class NidAllocator:
    """Fresh integers of a database sequence that steps by BLOCK, so that one query gives a whole block.

    A crash loses the rest of a block; ids are unique, not gapless.
    """

    BLOCK = 1000

    def __init__(self, database: Database, sequence: str) -> None:
        self._database = database
        self._sequence = sequence
        self._free: deque[int] = deque()

    async def take(self, count: int) -> list[int]:
        """`count` unused integers, ascending."""
        while len(self._free) < count:
            first = await self._database.fetchval("SELECT nextval($1::text::regclass)", self._sequence)
            self._free.extend(range(first, first + self.BLOCK))
        return [self._free.popleft() for _ in range(count)]


class HistoryIds:
    """Places of old events in the stream of all rooms' events: below 0, so that they are nobody's news."""

    def __init__(self, lowest: int) -> None:
        self._lowest = min(lowest, 0)

    def take(self, count: int) -> int:
        """The first of `count` consecutive ids, all of them below those that were taken before."""
        self._lowest -= count
        return self._lowest


@dataclass(frozen=True, slots=True)
class EventStreams:
    """Where new and old events get their places in the stream from."""

    live: StreamIds
    history: HistoryIds


async def load_stream(database: Database, query: str) -> StreamIds:
    """A stream that goes on after the newest id that `query` finds."""
    return StreamIds(await database.fetchval(query) or 0)


async def load_event_streams(database: Database) -> EventStreams:
    """The stream of all rooms' events, in both directions."""
    live = await load_stream(database, "SELECT max(stream_ordering) FROM events")
    return EventStreams(
        live, HistoryIds(await database.fetchval("SELECT min(stream_ordering) FROM events") or 0)
    )
