"""Who may ask the network for what is missing, and when: one slow server never takes all places.

Pure bookkeeping around tasks: a line for each room and server, in order, one at a time of each.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeAlias

logger = logging.getLogger(__name__)

# At once: of all, of one server, of one room. A server has one turn in each room.
MAX_RUNNING: Final = 50
MAX_OF_SERVER: Final = 8
MAX_OF_ROOM: Final = 4

_Line: TypeAlias = tuple[int, str]
Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class GapTurns:
    """Runs what is submitted as tasks, in the order of each line, as far as there are places."""

    def __init__(self) -> None:
        self._waiting: dict[_Line, deque[Work]] = {}
        self._running: dict[_Line, asyncio.Task[None]] = {}
        self._of_room: Counter[int] = Counter()
        self._of_server: Counter[str] = Counter()
        self._is_closed = False

    def submit(self, room_nid: int, server_name: str, work: Work) -> None:
        """Have `work` done when it is its turn; nothing more is begun once this is closed."""
        self._waiting.setdefault((room_nid, server_name), deque()).append(work)
        self._begin_ready()

    async def close(self) -> None:
        """Cancel what runs, and begin nothing any more."""
        self._is_closed = True
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin_ready(self) -> None:
        for line in list(self._waiting):
            if self._is_closed or len(self._running) >= MAX_RUNNING:
                return
            room_nid, server_name = line
            has_place = self._of_room[room_nid] < MAX_OF_ROOM and self._of_server[server_name] < MAX_OF_SERVER
            if line not in self._running and has_place:
                self._begin(line)

    def _begin(self, line: _Line) -> None:
        room_nid, server_name = line
        work = self._waiting[line].popleft()
        if not self._waiting[line]:
            del self._waiting[line]
        task = asyncio.create_task(work(), name=f"gap in room {room_nid}, by {server_name}")
        self._running[line] = task
        self._of_room[room_nid] += 1
        self._of_server[server_name] += 1
        task.add_done_callback(lambda done: self._end(line, done))

    def _end(self, line: _Line, task: asyncio.Task[None]) -> None:
        del self._running[line]
        _take_one(self._of_room, line[0])
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
