"""The ordered lane of each room: one holder at a time, first come first served."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Lane:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    visitors: int = 0


class Lanes:
    """A fair lock per room, made when first wanted and forgotten when idle.

    asyncio.Lock wakes waiters in order and passes its turn on when a woken waiter is cancelled, so a
    cancelled waiter or holder never leaves a room stuck.
    """

    def __init__(self) -> None:
        self._lanes: dict[int, _Lane] = {}

    def __len__(self) -> int:
        """How many rooms have a holder or a waiter now."""
        return len(self._lanes)

    @asynccontextmanager
    async def turn(self, room_nid: int) -> AsyncIterator[None]:
        """Hold the room's lane for the block; waiters get it in the order in which they came."""
        lane = self._lanes.get(room_nid)
        if lane is None:
            lane = self._lanes[room_nid] = _Lane()
        lane.visitors += 1
        try:
            async with lane.lock:
                yield
        finally:
            lane.visitors -= 1
            if lane.visitors == 0:
                del self._lanes[room_nid]
