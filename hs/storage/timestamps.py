"""Events of a room by the time that their senders say."""

from dataclasses import dataclass

from hs.storage.database import Database
from hs.storage.events import HIDDEN


@dataclass(frozen=True, slots=True, order=True)
class TimedPlace:
    """Where an event is in the order of time: ties go by depth, then by arrival."""

    origin_server_ts: int
    depth: int
    stream_ordering: int
    event_nid: int = 0


class TimestampStore:
    """Reads rooms in the order of their events' timestamps."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_later(self, room_nid: int, place: TimedPlace, upto: int, limit: int) -> list[TimedPlace]:
        """The events after the place, earliest first; `upto` is the last stream ordering that counts."""
        # The first condition is implied, and what the index is entered by.
        rows = await self._database.fetch(
            "SELECT origin_server_ts, depth, stream_ordering, event_nid FROM events WHERE room_nid = $1 "
            "AND origin_server_ts >= $2 AND (origin_server_ts, depth, stream_ordering) > ($2, $3, $4) "
            "AND stream_ordering <= $5 AND flags & $7 = 0 "
            "ORDER BY origin_server_ts, depth, stream_ordering LIMIT $6",
            room_nid,
            place.origin_server_ts,
            place.depth,
            place.stream_ordering,
            upto,
            limit,
            HIDDEN,
        )
        return [TimedPlace(**row) for row in rows]

    async def list_earlier(self, room_nid: int, place: TimedPlace, upto: int, limit: int) -> list[TimedPlace]:
        """The events before the place, latest first."""
        rows = await self._database.fetch(
            "SELECT origin_server_ts, depth, stream_ordering, event_nid FROM events WHERE room_nid = $1 "
            "AND origin_server_ts <= $2 AND (origin_server_ts, depth, stream_ordering) < ($2, $3, $4) "
            "AND stream_ordering <= $5 AND flags & $7 = 0 "
            "ORDER BY origin_server_ts DESC, depth DESC, stream_ordering DESC LIMIT $6",
            room_nid,
            place.origin_server_ts,
            place.depth,
            place.stream_ordering,
            upto,
            limit,
            HIDDEN,
        )
        return [TimedPlace(**row) for row in rows]
