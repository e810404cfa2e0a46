"""How much a user has not read: notification counts of rooms and of the threads in them.

Spec: client-server-api module "Push Notifications", "Receiving notifications"; module "Receipts".

A count is asked of the database once. From then on it is brought up to date by the room's last events and
the user's receipts, as long as those are in memory.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import asyncpg
from cachetools import LRUCache

from hs.rooms.drafts import Committed
from hs.storage.batching import Batcher
from hs.storage.notifications import CountRequest, NotificationStore, ReadMark, StoredCounts
from hs.sync.judged_events import JudgedEvent, JudgedEvents, RoomLog

logger = logging.getLogger(__name__)

# About 400 bytes each.
_CACHED_COUNTS = 200_000
# A long history costs milliseconds to count: others are not to wait for all of one user.
_BATCH = 50
# Old rows are deleted after so many reads.
_READS_PER_CLEANING = 1_000
# Rows of the newest events stay, although they are read: a user may look through past notifications.
_KEPT_EVENTS = 2_000_000


class ReadPositions(Protocol):
    """How far a user has read a room, as stream orderings; by_thread is by the root's number, 0 for main."""

    @property
    def unthreaded(self) -> int: ...
    @property
    def by_thread(self) -> Mapping[int, int]: ...


class PositionSource(Protocol):
    """Knows what users have read by their receipts."""

    async def read_positions(
        self, user_id: str, room_nids: Collection[int]
    ) -> Mapping[int, ReadPositions]: ...


@dataclass(frozen=True, slots=True)
class RoomUnread:
    """Counts of the main timeline, and (notify, highlight) of each thread that has any, by the id of its root."""

    notify: int = 0
    highlight: int = 0
    threads: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def total(self) -> tuple[int, int]:
        """(notify, highlight) of the whole room, for clients that do not ask for threads."""
        return (
            self.notify + sum(notify for notify, _ in self.threads.values()),
            self.highlight + sum(highlight for _, highlight in self.threads.values()),
        )


NOTHING_UNREAD = RoomUnread()


@dataclass(frozen=True, slots=True)
class _NoReceipts:
    unthreaded: int = 0
    by_thread: Mapping[int, int] = field(default_factory=dict)


_NO_RECEIPTS = _NoReceipts()


@dataclass(eq=False, slots=True)
class _Counts:
    """One user's counts of one room, as of the event `upto`."""

    user_id: str
    upto: int
    # Nothing up to here counts: an unthreaded receipt, or the user's last join.
    floor: int
    positions: ReadPositions
    is_quiet: bool
    # By the root's number: its id, notify, highlight; only threads that have any.
    threads: dict[int, tuple[str, int, int]]

    def render(self) -> RoomUnread:
        if not self.threads:
            return NOTHING_UNREAD
        _, notify, highlight = self.threads.get(0, ("", 0, 0))
        threads = {root_id: (n, h) for nid, (root_id, n, h) in self.threads.items() if nid}
        return RoomUnread(notify, highlight, threads)

    def catch_up(self, log: RoomLog, positions: ReadPositions) -> bool:
        """Whether this is up to date now; where it is not, it is spoilt and only the database can tell."""
        if self.upto < log.complete_from:
            return False
        if positions is not self.positions and not self._read(log, positions):
            return False
        if log.events and log.events[-1].stream_ordering > self.upto:
            for event in log.list_after(self.upto):
                # Whoever joins counts from there; what was redacted may be among what was counted.
                if self.user_id in event.moved or (event.is_redaction and self.threads):
                    return False
                self._count(event, event.thread_nid)
            self.upto = log.events[-1].stream_ordering
        return True

    def _count(self, event: JudgedEvent, thread_nid: int) -> None:
        if event.quiet:
            self.is_quiet = event.quiet.get(self.user_id, self.is_quiet)
        if event.sender == self.user_id and event.is_reading:
            # push.md, "Marking notifications as read": sending an event updates the read receipt.
            self.threads.pop(thread_nid, None)
            return
        level = event.level_for(self.user_id, self.is_quiet)
        # Threads are read on their own: a receipt may be ahead of what comes in.
        if level and event.stream_ordering > self._read_upto(self.positions, thread_nid):
            _, notify, highlight = self.threads.get(thread_nid, ("", 0, 0))
            self.threads[thread_nid] = (event.thread_id, notify + 1, highlight + (level > 1))

    def _read(self, log: RoomLog, positions: ReadPositions) -> bool:
        """Take over new receipts; False where the log does not reach back to them."""
        before, self.positions = self.positions, positions
        for thread_nid in list(self.threads):
            position = self._read_upto(positions, thread_nid)
            if position == self._read_upto(before, thread_nid):
                continue
            if position < log.complete_from:
                return False
            del self.threads[thread_nid]
            for event in log.list_after(position):
                if self.user_id in event.quiet:
                    return False
                if event.stream_ordering <= self.upto and event.thread_nid == thread_nid:
                    self._count(event, thread_nid)
        return True

    def _read_upto(self, positions: ReadPositions, thread_nid: int) -> int:
        return max(self.floor, positions.unthreaded, positions.by_thread.get(thread_nid, 0))


class UnreadCounts:
    """Counts for users in rooms they are joined to; as of now, which may be a little after a sync's token.

    At most the newest MAX_COUNTED events of a room are counted.
    """

    def __init__(
        self, store: NotificationStore, receipts: PositionSource, current: Callable[[], int]
    ) -> None:
        """`current` is the newest stream ordering that readers see."""
        self._store = store
        self._receipts = receipts
        self._current = current
        self._log = JudgedEvents(current())
        self._counts: LRUCache[tuple[str, int], _Counts] = LRUCache(_CACHED_COUNTS)
        self._batch: Batcher[CountRequest, StoredCounts] = Batcher(store.count_unread, _BATCH)
        self._marks: dict[tuple[str, int], ReadMark] = {}
        self._cleaning: asyncio.Task[None] | None = None

    def on_commit(self, committed: Committed) -> None:
        """Take over new events; to be told of a commit before anybody is woken by it."""
        self._log.on_commit(committed)

    async def get_many(self, user_id: str, room_nids: Collection[int]) -> dict[int, RoomUnread]:
        """The counts of each of the rooms."""
        positions = await self._receipts.read_positions(user_id, room_nids)
        found: dict[int, RoomUnread] = {}
        missing: list[int] = []
        for room_nid in room_nids:
            known = self._counts.get((user_id, room_nid))
            if known is not None and known.catch_up(
                self._log.get(room_nid), positions.get(room_nid, _NO_RECEIPTS)
            ):
                found[room_nid] = known.render()
            else:
                missing.append(room_nid)
        if missing:
            loaded = await asyncio.gather(
                *(self._load(user_id, nid, positions.get(nid, _NO_RECEIPTS)) for nid in missing)
            )
            found.update(zip(missing, loaded, strict=True))
        return found

    async def close(self) -> None:
        """Wait for a deletion of old rows that is under way."""
        if self._cleaning is not None:
            await self._cleaning

    async def _load(self, user_id: str, room_nid: int, positions: ReadPositions) -> RoomUnread:
        unthreaded = positions.unthreaded
        by_thread = tuple((nid, at) for nid, at in positions.by_thread.items() if at > unthreaded)
        request = CountRequest(user_id, room_nid, unthreaded, by_thread, self._current())
        stored = await self._batch.get(request)
        if stored is None:
            return NOTHING_UNREAD
        threads = {nid: (root_id, notify, highlight) for nid, root_id, notify, highlight in stored.threads}
        counts = _Counts(user_id, request.upto, stored.floor, positions, stored.is_quiet, threads)
        unread = counts.render()
        if counts.catch_up(self._log.get(room_nid), positions):
            self._counts[user_id, room_nid] = counts
            unread = counts.render()
        else:
            self._counts.pop((user_id, room_nid), None)
        self._mark_read(ReadMark(user_id, room_nid, stored.floor, positions.by_thread.get(0, 0)))
        return unread

    def _mark_read(self, mark: ReadMark) -> None:
        self._marks[mark.user_id, mark.room_nid] = mark
        if len(self._marks) >= _READS_PER_CLEANING and self._cleaning is None:
            marks, self._marks = list(self._marks.values()), {}
            self._cleaning = asyncio.create_task(self._clean_up(marks))

    async def _clean_up(self, marks: list[ReadMark]) -> None:
        try:
            await self._store.delete_read(marks, self._current() - _KEPT_EVENTS)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            logger.exception("old rows of notifications cannot be deleted")
        finally:
            self._cleaning = None
