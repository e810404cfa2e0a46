"""GET /timestamp_to_event for our users: other servers are asked where we have a gap next to what we found.

Spec: client-server-api "Getting events for a room": "it might be necessary to ask over federation".
"""

import asyncio
from typing import Protocol

from hs._fast.event_record import EventRecord
from hs.matrix.errors import NotFound
from hs.storage.rooms import RoomInfo
from hs.sync.access import Access
from hs.sync.timestamps import EventsByTime

_DEADLINE_S = 20.0


class FarEvents(Protocol):
    """Knows where history is missing, and fetches of it what is close to a time."""

    async def is_next_to_gap(self, record: EventRecord, *, backwards: bool) -> bool:
        """Whether what is missing may hold an event that is closer, in the direction of the search."""

    async def fetch_closest(self, room: RoomInfo, ts: int, known_ts: int | None, *, backwards: bool) -> bool:
        """Take in an event that is closer to `ts` than `known_ts`; whether there was one."""


class AllEventsByTime:
    """Finds events by their timestamps, here and elsewhere."""

    def __init__(self, by_time: EventsByTime, far: FarEvents | None) -> None:
        self._by_time = by_time
        self._far = far

    async def get_closest(
        self, room: RoomInfo, user_id: str, access: Access, ts: int, *, backwards: bool
    ) -> EventRecord:
        """As `EventsByTime.get_closest`, of all that the room's servers have."""
        found = await self._find(room, user_id, access, ts, backwards)
        if self._far is not None and (
            found is None or await self._far.is_next_to_gap(found, backwards=backwards)
        ):
            known_ts = None if found is None else found.origin_server_ts
            try:
                async with asyncio.timeout(_DEADLINE_S):
                    is_closer = await self._far.fetch_closest(room, ts, known_ts, backwards=backwards)
            except TimeoutError:
                is_closer = False
            if is_closer:
                found = await self._find(room, user_id, access, ts, backwards)
        if found is None:
            raise NotFound(f"unable to find an event from {ts} {'backwards' if backwards else 'forwards'}")
        return found

    async def _find(
        self, room: RoomInfo, user_id: str, access: Access, ts: int, backwards: bool
    ) -> EventRecord | None:
        try:
            return await self._by_time.get_closest(room, user_id, access, ts, backwards=backwards)
        except NotFound:
            return None
