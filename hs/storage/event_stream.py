"""Events across rooms, in the order of their arrival, and rooms by the events they hold."""

from collections.abc import Mapping

from hs.storage.database import Database
from hs.storage.events import HIDDEN
from hs.storage.timeline import Place

# Event ids of the first two room versions are chosen by their senders: more rooms with one are no accident.
_ROOMS_PER_EVENT_ID = 10


class EventStreamStore:
    """Reads what came when, and where an event is."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_oldest(self, upto_by_room: Mapping[int, int], after: int, limit: int) -> list[Place]:
        """The first `limit` events of the rooms after a stream ordering, oldest first; each room's up to its own."""
        rows = await self._database.fetch(
            "SELECT e.event_nid, e.depth, e.stream_ordering "
            "FROM unnest($1::bigint[], $2::bigint[]) AS r (room_nid, upto) CROSS JOIN LATERAL ("
            " SELECT event_nid, depth, stream_ordering FROM events"
            " WHERE room_nid = r.room_nid AND stream_ordering > $3 AND stream_ordering <= r.upto"
            " AND flags & $5 = 0 ORDER BY stream_ordering LIMIT $4"
            ") e ORDER BY e.stream_ordering LIMIT $4",
            list(upto_by_room),
            list(upto_by_room.values()),
            after,
            limit,
            HIDDEN,
        )
        return [Place(row["event_nid"], row["depth"], row["stream_ordering"]) for row in rows]

    async def list_rooms_with(self, event_id: str) -> list[int]:
        """Numbers of the rooms that hold an event of this id."""
        rows = await self._database.fetch(
            "SELECT room_nid FROM events WHERE event_id = $1 ORDER BY room_nid LIMIT $2",
            event_id,
            _ROOMS_PER_EVENT_ID,
        )
        return [row["room_nid"] for row in rows]
