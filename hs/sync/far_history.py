"""History that other servers have: fetched where a reader's page reaches the end of ours, or a gap in it."""

import asyncio
from typing import Protocol

from hs.matrix.tokens import TopologicalToken
from hs.storage.rooms import RoomInfo

# Readers wait so long at most; what comes later is on the next page they ask for.
DEADLINE_S = 20.0


class OldHistory(Protocol):
    """Fetches what is missing of a room's history."""

    async def is_broken_off(self, room: RoomInfo, least_depth: int, most_depth: int) -> bool:
        """Whether history that we lack belongs between these depths."""

    async def fill(self, room: RoomInfo, depth: int) -> bool:
        """Fetch history near a depth; whether there is more of it now."""

    def mark(self, room: RoomInfo) -> int | None:
        """The same before and after where no history was fetched meanwhile; None while it is."""


class FarHistory:
    """Looks whether a page lacks something, and has it fetched."""

    def __init__(self, old: OldHistory | None, deadline_s: float = DEADLINE_S) -> None:
        self._old = old
        self._deadline_s = deadline_s

    async def is_missing(self, room: RoomInfo, start: TopologicalToken, end: TopologicalToken | None) -> bool:
        """Whether something is missing between two places, read backwards; None is the room's beginning."""
        if self._old is None:
            return False
        return await self._old.is_broken_off(room, 0 if end is None else end.depth, start.depth)

    def mark(self, room: RoomInfo) -> int | None:
        """The same before and after where no history was fetched meanwhile; None while it is."""
        return 0 if self._old is None else self._old.mark(room)

    async def fill(self, room: RoomInfo, start: TopologicalToken) -> bool:
        """Have it fetched; whether there is more to read now."""
        if self._old is None:
            return False
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._old.fill(room, start.depth)
        except TimeoutError:
            return False
