"""Where a room's history breaks off."""

from collections.abc import Sequence
from dataclasses import dataclass

from hs.storage.database import Database
from hs.storage.events import HIDDEN

# Points that one look reads in each direction; rooms have had tens of thousands.
_MAX_POINTS = 1000
# Failed pulls that are remembered of a room. The longest wait is 256 hours; what is older is as good as new.
_MAX_FAILED = 1000
_FORGOTTEN_MS = 60 * 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class BackfillPoint:
    """An event that we lack, and the shallowest event we have that builds on it."""

    event_nid: int
    event_id: str
    depth: int
    failed_attempts: int
    last_attempt_ts: int
    successor_nid: int


# What may not be tried yet must not crowd out what may: the wait is that of `extremity_rank.retry_at`.
_POINTS = """
    SELECT DISTINCT ON (e.depth, b.event_nid) b.event_nid, b.event_id, e.depth, b.failed_attempts, b.last_attempt_ts,
        e.event_nid AS successor_nid
    FROM backward_extremities b
    JOIN event_edges d ON d.room_nid = b.room_nid AND d.prev_nid = b.event_nid
    JOIN events e ON e.room_nid = d.room_nid AND e.event_nid = d.event_nid
    WHERE b.room_nid = $1 AND e.flags & $2 = 0 AND e.depth {side} $3
        AND (b.failed_attempts = 0 OR b.last_attempt_ts + (3600000::bigint << least(b.failed_attempts, 8)) <= $4)
    ORDER BY e.depth {order}, b.event_nid LIMIT $5
"""
_BEFORE = _POINTS.format(side="<=", order="DESC")
_AFTER = _POINTS.format(side=">", order="ASC")


class BackfillStore:
    """Reads and writes what backfilling needs to know."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_points(self, room_nid: int, depth: int, now_ms: int) -> list[BackfillPoint]:
        """The points nearest to a depth on both sides that may be tried now, a bounded number of them."""
        found = [
            *await self._database.fetch(_BEFORE, room_nid, HIDDEN, depth, now_ms, _MAX_POINTS),
            *await self._database.fetch(_AFTER, room_nid, HIDDEN, depth, now_ms, _MAX_POINTS),
        ]
        return [BackfillPoint(*row) for row in found]

    async def has_points(self, room_nid: int, least_depth: int, most_depth: int) -> bool:
        """Whether history breaks off before an event with a depth between these, both included."""
        has: bool = await self._database.fetchval(
            "SELECT EXISTS (SELECT 1 FROM backward_extremities b JOIN event_edges d "
            "ON d.room_nid = b.room_nid AND d.prev_nid = b.event_nid JOIN events e "
            "ON e.room_nid = d.room_nid AND e.event_nid = d.event_nid "
            "WHERE b.room_nid = $1 AND e.flags & $2 = 0 AND e.depth BETWEEN $3 AND $4)",
            room_nid,
            HIDDEN,
            least_depth,
            most_depth,
        )
        return has

    async def has_missing_prev(self, room_nid: int, event_nid: int) -> bool:
        """Whether we lack one of the event's previous events."""
        has: bool = await self._database.fetchval(
            "SELECT EXISTS (SELECT 1 FROM events e JOIN backward_extremities b ON b.room_nid = e.room_nid "
            "AND b.event_nid = ANY(e.prev_nids) WHERE e.room_nid = $1 AND e.event_nid = $2)",
            room_nid,
            event_nid,
        )
        return has

    async def is_end(self, room_nid: int, event_nid: int) -> bool:
        """Whether nothing that we have builds on the event, although it is no forward extremity."""
        is_end: bool = await self._database.fetchval(
            "SELECT NOT EXISTS (SELECT 1 FROM forward_extremities WHERE room_nid = $1 AND event_nid = $2) "
            "AND NOT EXISTS (SELECT 1 FROM event_edges d JOIN events e USING (room_nid, event_nid) "
            "WHERE d.room_nid = $1 AND d.prev_nid = $2 AND e.flags & $3 = 0)",
            room_nid,
            event_nid,
            HIDDEN,
        )
        return is_end

    async def list_only_successors(self, room_nid: int, event_nids: Sequence[int]) -> dict[int, int]:
        """For those of the events that an accepted one has as its only previous event: that one, by number."""
        rows = await self._database.fetch(
            "SELECT d.prev_nid, min(e.event_nid) AS event_nid FROM event_edges d JOIN events e "
            "ON e.room_nid = d.room_nid AND e.event_nid = d.event_nid "
            "WHERE d.room_nid = $1 AND d.prev_nid = ANY($2::bigint[]) AND cardinality(e.prev_nids) = 1 "
            "AND e.flags & $3 = 0 GROUP BY d.prev_nid",
            room_nid,
            event_nids,
            HIDDEN,
        )
        return {row["prev_nid"]: row["event_nid"] for row in rows}

    async def set_failed(self, room_nid: int, event_nids: Sequence[int], now_ms: int) -> None:
        """Note that nobody gave us these events; they are asked for again, but less and less often."""
        async with self._database.write() as writer:
            await writer.execute(
                "UPDATE backward_extremities SET failed_attempts = failed_attempts + 1, last_attempt_ts = $3 "
                "WHERE room_nid = $1 AND event_nid = ANY($2::bigint[])",
                room_nid,
                event_nids,
                now_ms,
            )

    async def list_attempts(self, room_nid: int, event_ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        """(failed attempts, when the last was) of those of the events that we lack and have failed to get."""
        rows = await self._database.fetch(
            "SELECT DISTINCT ON (event_id) event_id, failed_attempts, last_attempt_ts FROM ("
            "SELECT event_id, failed_attempts, last_attempt_ts FROM backward_extremities "
            "WHERE room_nid = $1 AND event_id = ANY($2::text[]) AND failed_attempts > 0 UNION ALL "
            "SELECT event_id, failed_attempts, last_attempt_ts FROM failed_pulls "
            "WHERE room_nid = $1 AND event_id = ANY($2::text[])) AS failed ORDER BY event_id, last_attempt_ts DESC",
            room_nid,
            event_ids,
        )
        return {row["event_id"]: (row["failed_attempts"], row["last_attempt_ts"]) for row in rows}

    async def set_ids_failed(self, room_nid: int, event_ids: Sequence[str], now_ms: int) -> None:
        """`set_failed`, by ids, also for events that nothing we have builds on: of a room the newest are kept."""
        async with self._database.write() as writer:
            await writer.execute(
                "UPDATE backward_extremities SET failed_attempts = failed_attempts + 1, last_attempt_ts = $3 "
                "WHERE room_nid = $1 AND event_id = ANY($2::text[])",
                room_nid,
                event_ids,
                now_ms,
            )
            await writer.execute(
                "INSERT INTO failed_pulls AS f (room_nid, event_id, failed_attempts, last_attempt_ts) "
                "SELECT $1, event_id, 1, $3 FROM unnest($2::text[]) AS n (event_id) "
                "ON CONFLICT (room_nid, event_id) DO UPDATE "
                "SET failed_attempts = f.failed_attempts + 1, last_attempt_ts = $3",
                room_nid,
                event_ids,
                now_ms,
            )
            await writer.execute(
                "DELETE FROM failed_pulls WHERE room_nid = $1 AND (last_attempt_ts < $2 OR event_id IN ("
                "SELECT event_id FROM failed_pulls WHERE room_nid = $1 ORDER BY last_attempt_ts DESC OFFSET $3))",
                room_nid,
                now_ms - _FORGOTTEN_MS,
                _MAX_FAILED,
            )

    async def list_own_users(self, room_nid: int, limit: int) -> list[str]:
        """Our users who are, or were, something in the room."""
        rows = await self._database.fetch(
            "SELECT user_id FROM local_memberships WHERE room_nid = $1 ORDER BY stream_ordering LIMIT $2",
            room_nid,
            limit,
        )
        return [row["user_id"] for row in rows]
