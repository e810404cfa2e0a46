"""Single events of a room's past that other servers have: found by their time.

Spec: server-server-api GET /timestamp_to_event. An event next to a gap is no answer by itself: what is missing
may hold a closer one.
"""

import logging

from hs._fast.event_record import EventRecord
from hs.net.errors import RemoteError
from hs.net.room_client import RoomClient
from hs.rooms.backfill import Backfiller
from hs.rooms.other_servers import OtherServers
from hs.storage.backfill import BackfillStore
from hs.storage.rooms import RoomInfo

logger = logging.getLogger(__name__)

_MAX_SERVERS = 3


class FarEventsByTime:
    """Asks other servers for events close to a time."""

    def __init__(
        self, client: RoomClient, backfiller: Backfiller, store: BackfillStore, others: OtherServers
    ) -> None:
        self._client = client
        self._backfiller = backfiller
        self._store = store
        self._others = others

    async def is_next_to_gap(self, record: EventRecord, *, backwards: bool) -> bool:
        """Searching forwards what is before the event may be missing, backwards what is after it."""
        if backwards:
            return await self._store.is_end(record.room_nid, record.event_nid)
        return await self._store.has_missing_prev(record.room_nid, record.event_nid)

    async def fetch_closest(self, room: RoomInfo, ts: int, known_ts: int | None, *, backwards: bool) -> bool:
        """Take in an event that is closer to `ts` than `known_ts`; whether there was one."""
        for server_name in await self._others.list(room, _MAX_SERVERS):
            try:
                told = await self._client.timestamp_to_event(
                    server_name, room.room_id, ts, backwards=backwards
                )
                is_closer = known_ts is None or abs(told.origin_server_ts - ts) < abs(known_ts - ts)
                if is_closer and await self._backfiller.take_event(room, server_name, told.event_id):
                    return True
            except RemoteError as error:
                logger.info("%s finds no event by its time: %s", server_name, error)
        return False
