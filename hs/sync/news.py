"""What is new in which room, and who is waiting for it."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from operator import attrgetter

from hs.rooms.drafts import Committed
from hs.storage.events import HIDDEN
from hs.sync.recent_rooms import list_newer
from hs.sync.user_rooms import UserRooms

# An event takes about 130 bytes here: a room at most 13 KB, all of them 130 MB at the very most.
_RECENT_EVENTS = 100
_RECENT_ROOMS = 10_000
# What a room's summary is made of: counts, heroes, and whether it needs any.
_SUMMARY_TYPES = frozenset({"m.room.member", "m.room.name", "m.room.canonical_alias"})


@dataclass(slots=True)
class _Recent:
    """The room's events after `complete_from`, in the order of arrival."""

    complete_from: int
    newest: int = 0
    # (stream_ordering, event_nid) of what readers may see.
    events: deque[tuple[int, int]] = field(default_factory=deque)
    # (end of the commit, event_nid) of what entered the current state; 0 where something went away.
    changes: deque[tuple[int, int]] = field(default_factory=deque)
    # (first, last, root): commits that changed the current state, and its root from there on.
    states: deque[tuple[int, int, int]] = field(default_factory=lambda: deque(maxlen=_RECENT_EVENTS))
    # When the summary last changed.
    summary: int = 0


_newest = attrgetter("newest")


class RoomNews:
    """The last events of busy rooms; answers most incremental syncs without the database."""

    def __init__(self, start: int) -> None:
        # Rooms that are not remembered have had no news after this stream ordering.
        self._floor = start
        # By commit, oldest first. A sync looks at all rooms of its user: looking must cost nothing.
        self._rooms: OrderedDict[int, _Recent] = OrderedDict()

    def list_rooms_since(self, room_nids: Collection[int], since: int) -> list[int] | None:
        """Those of the rooms that have news after `since`; None where only the database knows."""
        if since < self._floor:
            return None
        return list_newer(self._rooms, _newest, room_nids, since)

    def list_since(self, room_nid: int, since: int) -> list[tuple[int, int]] | None:
        """(stream_ordering, event_nid) of the visible events after `since`; None where not all are known."""
        recent = self._rooms.get(room_nid)
        if recent is None:
            return [] if since >= self._floor else None
        if since < recent.complete_from:
            return None
        # From the newest back: most readers lack one or two.
        return [*takewhile(lambda one: one[0] > since, reversed(recent.events))][::-1]

    def list_state_changes(self, room_nid: int, since: int, upto: int) -> list[int] | None:
        """Numbers of the events that entered the current state in (since, upto]; None where not all are known."""
        recent = self._rooms.get(room_nid)
        if recent is None:
            return [] if since >= self._floor else None
        if since < recent.complete_from:
            return None
        newest = takewhile(lambda one: one[0] > since, reversed(recent.changes))
        return [nid for stream, nid in newest if stream <= upto][::-1]

    def find_state_id_at(self, room_nid: int, stream: int) -> int | None:
        """Root of the room's current state as it was at `stream`; None where only the database knows."""
        recent = self._rooms.get(room_nid)
        if recent is not None:
            for first, last, state_id in reversed(recent.states):
                if last <= stream:
                    return state_id
                if first <= stream:
                    return None  # in the middle of a commit
        return None

    def summary_version(self, room_nid: int) -> int:
        """A number that is another one whenever the room's summary may have changed."""
        recent = self._rooms.get(room_nid)
        return self._floor if recent is None else recent.summary

    def on_commit(self, committed: Committed) -> None:
        """Take over new events."""
        room_nid, stream = committed.room.room_nid, committed.position.stream
        if committed.is_uncertain:
            # Let the database say what has happened up to here.
            self._rooms.pop(room_nid, None)
            self._floor = max(self._floor, stream)
            return
        recent = self._rooms.get(room_nid)
        if recent is None:
            self._make_space()
            recent = self._rooms[room_nid] = _Recent(self._floor, summary=self._floor)
        self._rooms.move_to_end(room_nid)
        recent.newest = max(recent.newest, stream)
        if committed.state_changes:
            first = min((record.stream_ordering for record in committed.records), default=stream)
            recent.states.append((first, stream, committed.state_id))
            recent.changes.extend((stream, change.new_nid) for change in committed.state_changes)
            if any(change.type in _SUMMARY_TYPES for change in committed.state_changes):
                recent.summary = stream
        for record in committed.records:
            # Backfilled history is no news.
            if not record.flags & HIDDEN and record.stream_ordering > 0:
                recent.events.append((record.stream_ordering, record.event_nid))
        self._trim(recent)

    def _trim(self, recent: _Recent) -> None:
        while len(recent.events) > _RECENT_EVENTS:
            recent.complete_from, _ = recent.events.popleft()
        while len(recent.changes) > _RECENT_EVENTS:
            stream, _ = recent.changes.popleft()
            recent.complete_from = max(recent.complete_from, stream)
        while recent.changes and recent.changes[0][0] <= recent.complete_from:
            recent.changes.popleft()

    def _make_space(self) -> None:
        while len(self._rooms) >= _RECENT_ROOMS:
            _, dropped = self._rooms.popitem(last=False)
            self._floor = max(self._floor, dropped.newest)


class Waiter:
    """A long poll: told when there may be news for its user."""

    __slots__ = ("_has_news", "_woken")

    def __init__(self) -> None:
        self._has_news = False
        self._woken: asyncio.Future[None] | None = None

    def clear(self) -> None:
        """From here on, news count; call it before looking for them."""
        self._has_news = False

    def wake(self) -> None:
        """There may be news."""
        self._has_news = True
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    async def wait(self, timeout_s: float) -> None:
        """Return at the next news, or when the time is over."""
        if self._has_news:
            return
        loop = asyncio.get_running_loop()
        self._woken = loop.create_future()
        timer = loop.call_later(timeout_s, self.wake)
        try:
            await self._woken
        finally:
            timer.cancel()
            self._woken = None


class Notifier:
    """Wakes long polls after commits."""

    def __init__(self, user_rooms: UserRooms) -> None:
        self.user_rooms = user_rooms
        self._waiters: dict[str, set[Waiter]] = {}
        # Whoever is not known to be in any room would never be woken again: let them look anew.
        user_rooms.on_forgotten(self.wake_user)

    def __len__(self) -> int:
        """How many long polls are waiting."""
        return sum(map(len, self._waiters.values()))

    @contextmanager
    def listen(self, user_id: str) -> Iterator[Waiter]:
        """A waiter that hears of everything for the user while the block lasts."""
        waiter = Waiter()
        waiters = self._waiters.setdefault(user_id, set())
        waiters.add(waiter)
        try:
            yield waiter
        finally:
            waiters.discard(waiter)
            if not waiters and self._waiters.get(user_id) is waiters:
                del self._waiters[user_id]

    def wake_user(self, user_id: str) -> None:
        """There is news for this user."""
        for waiter in self._waiters.get(user_id, ()):
            waiter.wake()

    def wake_room(self, room_nid: int) -> None:
        """There is news for whoever is in the room."""
        users = self.user_rooms.list_users(room_nid)
        # Whichever is fewer: those who wait or those who are in the room.
        for user_id in users if len(users) <= len(self._waiters) else self._waiters.keys() & users:
            self.wake_user(user_id)

    def on_commit(self, committed: Committed) -> None:
        """Wake who is in the room; call it after `UserRooms.on_commit`."""
        if not self._waiters:
            return
        self.wake_room(committed.room.room_nid)
        for change in committed.membership_changes:
            self.wake_user(change.user_id)
