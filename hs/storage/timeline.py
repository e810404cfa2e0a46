"""Slices of a room's history, by order of arrival and by depth."""

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from hs.storage.batching import Batcher
from hs.storage.database import Database
from hs.storage.events import HIDDEN

# room_nid, after, upto, limit
_Slice = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Place:
    """An event and where it is in both orders."""

    event_nid: int
    depth: int
    stream_ordering: int


def _places(rows: Sequence[asyncpg.Record]) -> list[Place]:
    return [Place(row["event_nid"], row["depth"], row["stream_ordering"]) for row in rows]


class TimelineStore:
    """Reads which events a room has, without the events."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._newest: Batcher[_Slice, list[Place]] = Batcher(self._load_newest)
        self._state_ids: Batcher[tuple[int, int], int] = Batcher(self._load_state_ids)

    async def list_newest(self, room_nid: int, after: int, upto: int, limit: int) -> list[Place]:
        """The last events with stream orderings in (after, upto], newest first."""
        return await self._newest.get((room_nid, after, upto, limit)) or []

    async def _load_newest(self, slices: Sequence[_Slice]) -> dict[_Slice, list[Place]]:
        rows = await self._database.fetch(
            "SELECT s.n, e.event_nid, e.depth, e.stream_ordering "
            "FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) "
            "WITH ORDINALITY AS s (room_nid, after, upto, size, n) CROSS JOIN LATERAL ("
            " SELECT event_nid, depth, stream_ordering FROM events"
            " WHERE room_nid = s.room_nid AND stream_ordering > s.after AND stream_ordering <= s.upto"
            " AND flags & $5 = 0 ORDER BY stream_ordering DESC LIMIT s.size"
            ") e ORDER BY s.n, e.stream_ordering DESC",
            *zip(*slices, strict=True),
            HIDDEN,
        )
        found: dict[_Slice, list[Place]] = {}
        for row in rows:
            place = Place(row["event_nid"], row["depth"], row["stream_ordering"])
            found.setdefault(slices[row["n"] - 1], []).append(place)
        return found

    async def list_before(self, room_nid: int, depth: int, stream: int, upto: int, limit: int) -> list[Place]:
        """The events at or before (depth, stream) in the order of history, newest first."""
        return _places(
            await self._database.fetch(
                "SELECT event_nid, depth, stream_ordering FROM events "
                "WHERE room_nid = $1 AND (depth, stream_ordering) <= ($2, $3) AND stream_ordering <= $4 "
                "AND flags & $6 = 0 ORDER BY depth DESC, stream_ordering DESC LIMIT $5",
                room_nid,
                depth,
                stream,
                upto,
                limit,
                HIDDEN,
            )
        )

    async def list_after(self, room_nid: int, depth: int, stream: int, upto: int, limit: int) -> list[Place]:
        """The events after (depth, stream) in the order of history, oldest first."""
        return _places(
            await self._database.fetch(
                "SELECT event_nid, depth, stream_ordering FROM events "
                "WHERE room_nid = $1 AND (depth, stream_ordering) > ($2, $3) AND stream_ordering <= $4 "
                "AND flags & $6 = 0 ORDER BY depth, stream_ordering LIMIT $5",
                room_nid,
                depth,
                stream,
                upto,
                limit,
                HIDDEN,
            )
        )

    async def find_place_at(self, room_nid: int, stream: int) -> Place | None:
        """The deepest event that had arrived by `stream`: where a reader of that moment stood in history."""
        rows = await self._database.fetch(
            "SELECT event_nid, depth, stream_ordering FROM events "
            "WHERE room_nid = $1 AND stream_ordering <= $2 AND flags & $3 = 0 "
            "ORDER BY depth DESC, stream_ordering DESC LIMIT 1",
            room_nid,
            stream,
            HIDDEN,
        )
        return _places(rows)[0] if rows else None

    async def list_rooms_with_news(self, room_nids: Sequence[int], after: int) -> list[int]:
        """Those of the rooms that have events after this stream ordering."""
        rows = await self._database.fetch(
            "SELECT room_nid FROM unnest($1::bigint[]) AS r (room_nid) WHERE EXISTS "
            "(SELECT 1 FROM events e WHERE e.room_nid = r.room_nid AND e.stream_ordering > $2)",
            room_nids,
            after,
        )
        return [row["room_nid"] for row in rows]

    async def find_state_id_at(self, room_nid: int, stream: int) -> int:
        """Root of the room's current state as it was at this stream ordering; 0 before there was any."""
        return await self._state_ids.get((room_nid, stream)) or 0

    async def _load_state_ids(self, moments: Sequence[tuple[int, int]]) -> dict[tuple[int, int], int]:
        rows = await self._database.fetch(
            "SELECT m.room_nid, m.stream, d.state_id FROM unnest($1::bigint[], $2::bigint[]) AS m (room_nid, stream) "
            "CROSS JOIN LATERAL ("
            " SELECT state_id FROM current_state_deltas"
            " WHERE room_nid = m.room_nid AND stream_ordering <= m.stream ORDER BY stream_ordering DESC LIMIT 1"
            ") d",
            *zip(*moments, strict=True),
        )
        return {(row["room_nid"], row["stream"]): row["state_id"] for row in rows}
