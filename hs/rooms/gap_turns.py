"""Who may ask the network for what is missing, and when: one slow server never takes all places.

Pure bookkeeping around tasks: a line for each room and server, in order, one at a time of each. Who takes long gives
its place away, so that others have theirs, in all rooms and in this one.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

logger = logging.getLogger(__name__)

# At once: of all, of one server, of one room. A server has one turn in each room.
MAX_RUNNING: Final = 50
MAX_OF_SERVER: Final = 8
MAX_OF_ROOM: Final = 4
# After this long a turn is slow, and counts in these alone.
SLOW_S: Final = 2.0
MAX_SLOW: Final = 500
MAX_SLOW_OF_ROOM: Final = 50

_Line: TypeAlias = tuple[int, str]
Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


@dataclass(eq=False, slots=True)
class _Turn:
    task: asyncio.Task[None]
    timer: asyncio.TimerHandle
    is_slow: bool = False


class _Places:
    """Turns under way: in all, and of each room."""

    def __init__(self, most: int, most_of_room: int) -> None:
        self._most = most
        self._most_of_room = most_of_room
        self._of_room: Counter[int] = Counter()
        self._all = 0

    @property
    def are_taken(self) -> bool:
        return self._all >= self._most

    def has_one(self, room_nid: int) -> bool:
        return not self.are_taken and self._of_room[room_nid] < self._most_of_room

    def take(self, room_nid: int) -> None:
        self._all += 1
        self._of_room[room_nid] += 1

    def give_back(self, room_nid: int) -> None:
        self._all -= 1
        _take_one(self._of_room, room_nid)


class GapTurns:
    """Runs what is submitted as tasks, in the order of each line, as far as there are places."""

    def __init__(self, slow_s: float = SLOW_S) -> None:
        self._slow_s = slow_s
        self._waiting: dict[_Line, deque[Work]] = {}
        self._running: dict[_Line, _Turn] = {}
        self._places = _Places(MAX_RUNNING, MAX_OF_ROOM)
        # With the slow ones.
        self._all_places = _Places(MAX_SLOW, MAX_SLOW_OF_ROOM)
        self._of_server: Counter[str] = Counter()
        self._is_closed = False

    def submit(self, room_nid: int, server_name: str, work: Work) -> None:
        """Have `work` done when it is its turn; nothing more is begun once this is closed."""
        self._waiting.setdefault((room_nid, server_name), deque()).append(work)
        self._begin_ready()

    async def close(self) -> None:
        """Cancel what runs, and begin nothing any more."""
        self._is_closed = True
        tasks = [turn.task for turn in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin_ready(self) -> None:
        for line in list(self._waiting):
            if self._is_closed or self._places.are_taken:
                return
            if line not in self._running and self._has_place(line):
                self._begin(line)

    def _has_place(self, line: _Line) -> bool:
        room_nid, server_name = line
        is_server_free = self._of_server[server_name] < MAX_OF_SERVER
        return is_server_free and self._places.has_one(room_nid) and self._all_places.has_one(room_nid)

    def _begin(self, line: _Line) -> None:
        room_nid, server_name = line
        work = self._waiting[line].popleft()
        if not self._waiting[line]:
            del self._waiting[line]
        task = asyncio.create_task(work(), name=f"gap in room {room_nid}, by {server_name}")
        timer = asyncio.get_running_loop().call_later(self._slow_s, self._give_way, line)
        self._running[line] = _Turn(task, timer)
        self._places.take(room_nid)
        self._all_places.take(room_nid)
        self._of_server[server_name] += 1
        task.add_done_callback(lambda done: self._end(line, done))

    def _give_way(self, line: _Line) -> None:
        self._running[line].is_slow = True
        self._places.give_back(line[0])
        self._begin_ready()

    def _end(self, line: _Line, task: asyncio.Task[None]) -> None:
        turn = self._running.pop(line)
        turn.timer.cancel()
        if not turn.is_slow:
            self._places.give_back(line[0])
        self._all_places.give_back(line[0])
        _take_one(self._of_server, line[1])
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("filling a gap in room %s failed", line[0], exc_info=error)
        if line in self._waiting:
            # Behind all others.
            self._waiting[line] = self._waiting.pop(line)
        self._begin_ready()


def _take_one(counter: Counter[Any], key: object) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
