"""Who is typing where. Spec: client-server-api module "Typing Notifications".

Kept in memory only. Each change of a room has a serial number, the `typing` of a sync token. Serials begin
with the wall clock in milliseconds and never fall behind it, so that those of a restarted process are above
all that clients have.
"""

import asyncio
from collections.abc import Callable, Collection

import msgspec

from hs.rooms.clock import Clock
from hs.rooms.drafts import Committed
from hs.sync.recent_rooms import RecentRooms

DEFAULT_TIMEOUT_MS = 30_000
# Clients repeat themselves every 20 to 30 seconds; who is cut off should not be typing for long.
MAX_TIMEOUT_MS = 120_000
MIN_TIMEOUT_MS = 100
# Nobody reads a longer list, and it goes to everybody in the room. Who comes later is not told of.
MAX_TYPISTS = 50
# A busy room's long polls are woken for typing at most this often.
_WAKE_INTERVAL_S = 0.25
# Timed out typists are looked for at most this often.
_LOOK_INTERVAL_S = 0.1
_NOBODY = b'{"content":{"user_ids":[]},"type":"m.typing"}'
# Room, user, and whether they are typing.
OnTyping = Callable[[int, str, bool], None]
# What somebody was typing.
_MESSAGES = frozenset({"m.room.message", "m.room.encrypted", "m.sticker"})


class Typing:
    """The typing users of rooms, and which rooms' have changed."""

    def __init__(self, clock: Clock, wake_room: Callable[[int], None]) -> None:
        self._clock = clock
        self._wake_room = wake_room
        self._current = self._started = clock.now_ms()
        self._changed = RecentRooms()
        # By room: until when each user is typing, in the loop's time.
        self._typists: dict[int, dict[str, float]] = {}
        self._rendered: dict[int, bytes] = {}
        # Rooms woken a moment ago, and whether they have changed since.
        self._quiet: dict[int, bool] = {}
        self._wake_timer: asyncio.TimerHandle | None = None
        self._look_timer: asyncio.TimerHandle | None = None
        self._listeners: list[OnTyping] = []

    def on_typing(self, listener: OnTyping) -> None:
        """Call `listener` for who is typing, each time they say so, and for who is not any more."""
        self._listeners.append(listener)

    @property
    def current(self) -> int:
        """The serial of the newest change."""
        return self._current

    def is_forgotten(self, serial: int) -> bool:
        """Whether the serial is of an earlier process: nobody knows any more who was typing then."""
        return serial < self._started

    def list_rooms_since(self, room_nids: Collection[int], since: int) -> list[int]:
        """Those of the rooms whose typing users have changed after `since`."""
        return [] if since >= self._current else self._changed.list_since(room_nids, since)

    def list_users(self, room_nid: int) -> list[str]:
        """Who is typing, the longest typing first."""
        return list(self._typists.get(room_nid, ()))

    def render(self, room_nid: int) -> bytes:
        """The room's m.typing event as JSON."""
        typists = self._typists.get(room_nid)
        if typists is None:
            return _NOBODY
        rendered = self._rendered.get(room_nid)
        if rendered is None:
            rendered = b'{"content":{"user_ids":%b},"type":"m.typing"}' % msgspec.json.encode(list(typists))
            self._rendered[room_nid] = rendered
        return rendered

    def start(self, room_nid: int, user_id: str, timeout_ms: int | None = None) -> None:
        """A joined user is typing, for `timeout_ms` from now (100 ms to 2 minutes, by default 30 s)."""
        timeout_ms = DEFAULT_TIMEOUT_MS if timeout_ms is None else timeout_ms
        until = _now() + min(max(timeout_ms, MIN_TIMEOUT_MS), MAX_TIMEOUT_MS) / 1000
        typists = self._typists.setdefault(room_nid, {})
        is_new = user_id not in typists
        if is_new and len(typists) >= MAX_TYPISTS:
            return
        typists[user_id] = until
        self._tell(room_nid, user_id, is_typing=True)
        self._look_at(until)
        if is_new:
            self._announce(room_nid)

    def stop(self, room_nid: int, user_id: str) -> None:
        """A user is not typing any longer."""
        if user_id in self._typists.get(room_nid, ()):
            self._remove(room_nid, [user_id])

    def on_commit(self, committed: Committed) -> None:
        """Who has sent the message, or has left, has stopped typing."""
        typists = self._typists.get(committed.room.room_nid)
        if typists is None:
            return
        gone = {record.sender for record in committed.records if record.type in _MESSAGES}
        gone |= {change.user_id for change in committed.membership_changes if change.membership != "join"}
        if gone := gone & typists.keys():
            self._remove(committed.room.room_nid, gone)

    def close(self) -> None:
        """End the timers."""
        for timer in (self._wake_timer, self._look_timer):
            if timer is not None:
                timer.cancel()

    def _remove(self, room_nid: int, user_ids: Collection[str]) -> None:
        typists = self._typists[room_nid]
        for user_id in user_ids:
            del typists[user_id]
            self._tell(room_nid, user_id, is_typing=False)
        if not typists:
            del self._typists[room_nid]
        self._announce(room_nid)

    def _tell(self, room_nid: int, user_id: str, is_typing: bool) -> None:
        for listener in self._listeners:
            listener(room_nid, user_id, is_typing)

    def _announce(self, room_nid: int) -> None:
        self._rendered.pop(room_nid, None)
        self._current = max(self._current + 1, self._clock.now_ms())
        self._changed.note(room_nid, self._current)
        if room_nid in self._quiet:
            # A sync finds it at once, but those who wait hear of several changes together.
            self._quiet[room_nid] = True
            return
        self._quiet[room_nid] = False
        if self._wake_timer is None:
            self._start_wake_timer()
        self._wake_room(room_nid)

    def _start_wake_timer(self) -> None:
        self._wake_timer = asyncio.get_running_loop().call_later(_WAKE_INTERVAL_S, self._wake_changed)

    def _wake_changed(self) -> None:
        changed = [room_nid for room_nid, has_changed in self._quiet.items() if has_changed]
        self._quiet = dict.fromkeys(changed, False)
        self._wake_timer = None
        if changed:
            self._start_wake_timer()
        for room_nid in changed:
            self._wake_room(room_nid)

    def _look_at(self, when: float) -> None:
        """Look for timed out typists then, or a little later."""
        when = max(when, _now() + _LOOK_INTERVAL_S)
        if self._look_timer is not None:
            if self._look_timer.when() <= when:
                return
            self._look_timer.cancel()
        self._look_timer = asyncio.get_running_loop().call_at(when, self._end_timed_out)

    def _end_timed_out(self) -> None:
        self._look_timer = None
        now = _now()
        for room_nid, typists in list(self._typists.items()):
            gone = [user_id for user_id, until in typists.items() if until <= now]
            if gone:
                self._remove(room_nid, gone)
        if self._typists:
            self._look_at(min(min(typists.values()) for typists in self._typists.values()))


def _now() -> float:
    return asyncio.get_running_loop().time()
