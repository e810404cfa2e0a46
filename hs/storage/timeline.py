"""Slices of a room's history, by order of arrival and by depth."""

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from hs.storage.database import Database
from hs.storage.events import HIDDEN


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

    async def list_newest(self, room_nid: int, after: int, upto: int, limit: int) -> list[Place]:
        """The last events with stream orderings in (after, upto], newest first."""
        return _places(
            await self._database.fetch(
                "SELECT event_nid, depth, stream_ordering FROM events "
                "WHERE room_nid = $1 AND stream_ordering > $2 AND stream_ordering <= $3 AND flags & $5 = 0 "
                "ORDER BY stream_ordering DESC LIMIT $4",
                room_nid,
                after,
                upto,
                limit,
                HIDDEN,
            )
        )

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
        state_id: int | None = await self._database.fetchval(
            "SELECT state_id FROM current_state_deltas WHERE room_nid = $1 AND stream_ordering <= $2 "
            "ORDER BY stream_ordering DESC LIMIT 1",
            room_nid,
            stream,
        )
        return state_id or 0
