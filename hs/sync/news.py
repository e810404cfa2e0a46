"""What is new in which room, and who is waiting for it."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hs.rooms.drafts import Committed
from hs.storage.events import HIDDEN
from hs.sync.user_rooms import UserRooms

# (stream, nid) pairs take about 130 bytes: a room at most 13 KB, all of them 130 MB at the very most.
_RECENT_EVENTS = 100
_RECENT_ROOMS = 10_000


@dataclass(slots=True)
class _Recent:
    """The room's events after `complete_from`, in the order of arrival."""

    newest: int
    complete_from: int
    events: deque[tuple[int, int]]
    # (stream_ordering, root of the current state from there on), in order; what was before is not known.
    states: deque[tuple[int, int]]


class RoomNews:
    """The last events of busy rooms; answers most incremental syncs without the database."""

    def __init__(self, start: int) -> None:
        # Rooms that are not remembered have had no news after this stream ordering.
        self._floor = start
        # By commit, oldest first. A sync looks at all rooms of its user: looking must cost nothing.
        self._rooms: OrderedDict[int, _Recent] = OrderedDict()

    def has_news(self, room_nid: int, since: int) -> bool | None:
        """Whether the room has news after `since`; None where only the database knows."""
        recent = self._rooms.get(room_nid)
        if recent is not None:
            return recent.newest > since
        return False if since >= self._floor else None

    def list_since(self, room_nid: int, since: int) -> list[tuple[int, int]] | None:
        """(stream_ordering, event_nid) of the visible events after `since`; None where not all are known."""
        recent = self._rooms.get(room_nid)
        if recent is None:
            return [] if since >= self._floor else None
        if since < recent.complete_from:
            return None
        return [(stream, nid) for stream, nid in recent.events if stream > since]

    def find_state_id_at(self, room_nid: int, stream: int) -> int | None:
        """Root of the room's current state as it was at `stream`; None where only the database knows."""
        recent = self._rooms.get(room_nid)
        if recent is not None:
            for since, state_id in reversed(recent.states):
                if since <= stream:
                    return state_id
        return None

    def on_commit(self, committed: Committed) -> None:
        """Take over new events."""
        room_nid = committed.room.room_nid
        if committed.is_uncertain:
            # Let the database say what has happened up to here.
            self._rooms.pop(room_nid, None)
            self._floor = max(self._floor, committed.position.stream)
            return
        recent = self._rooms.get(room_nid)
        if recent is None:
            self._make_space()
            recent = self._rooms[room_nid] = _Recent(0, self._floor, deque(), deque(maxlen=_RECENT_EVENTS))
        self._rooms.move_to_end(room_nid)
        recent.newest = max(recent.newest, committed.position.stream)
        if not recent.states or recent.states[-1][1] != committed.state_id:
            recent.states.append((committed.position.stream, committed.state_id))
        for record in committed.records:
            if record.flags & HIDDEN or record.stream_ordering <= 0:
                continue
            recent.events.append((record.stream_ordering, record.event_nid))
            if len(recent.events) > _RECENT_EVENTS:
                recent.complete_from, _ = recent.events.popleft()

    def _make_space(self) -> None:
        while len(self._rooms) >= _RECENT_ROOMS:
            _, dropped = self._rooms.popitem(last=False)
            self._floor = max(self._floor, dropped.newest)


class Waiter:
    """A long poll: told when there may be news for its user."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def clear(self) -> None:
        """From here on, news count; call it before looking for them."""
        self._event.clear()

    def wake(self) -> None:
        """There may be news."""
        self._event.set()

    async def wait(self, timeout_s: float) -> None:
        """Return at the next news, or when the time is over."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            pass


class Notifier:
    """Wakes long polls after commits."""

    def __init__(self, user_rooms: UserRooms) -> None:
        self.user_rooms = user_rooms
        self._waiters: dict[str, set[Waiter]] = {}

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

    def on_commit(self, committed: Committed) -> None:
        """Wake who is in the room; call it after `UserRooms.on_commit`."""
        if not self._waiters:
            return
        for user_id in self.user_rooms.list_users(committed.room.room_nid):
            self.wake_user(user_id)
