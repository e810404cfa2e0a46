"""Rooms as they look to who is not in them yet, and rooms that two users share."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from hs.storage.database import Database

# Children of a space that are looked at; clients show some dozens.
_MOST_CHILDREN = 1_000


@dataclass(frozen=True, slots=True)
class RoomParts:
    """Numbers of the events that a room's overview is made of, and what a user is in the room."""

    joined: int
    membership: str | None
    # By type, those with an empty key.
    state: dict[str, int] = field(default_factory=dict)


class OverviewStore:
    """Reads current states and memberships of several rooms at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_parts(
        self, user_id: str, room_nids: Sequence[int], types: Sequence[str]
    ) -> dict[int, RoomParts]:
        """What overviews of the rooms are made of, with the state of these types."""
        rows = await self._database.fetch(
            "SELECT r.room_nid,"
            " (SELECT count(*) FROM memberships WHERE room_nid = r.room_nid AND membership = 'join') AS joined,"
            " (SELECT membership FROM memberships WHERE room_nid = r.room_nid AND user_id = $1) AS membership "
            "FROM unnest($2::bigint[]) AS r (room_nid)",
            user_id,
            room_nids,
        )
        state: dict[int, dict[str, int]] = {}
        for row in await self._database.fetch(
            "SELECT room_nid, type, event_nid FROM current_state "
            "WHERE room_nid = ANY($1::bigint[]) AND type = ANY($2::text[]) AND state_key = ''",
            room_nids,
            types,
        ):
            state.setdefault(row["room_nid"], {})[row["type"]] = row["event_nid"]
        return {
            row["room_nid"]: RoomParts(row["joined"], row["membership"], state.get(row["room_nid"], {}))
            for row in rows
        }

    async def list_children(self, room_nid: int) -> list[int]:
        """Numbers of the m.space.child events of a space."""
        rows = await self._database.fetch(
            "SELECT event_nid FROM current_state WHERE room_nid = $1 AND type = 'm.space.child' LIMIT $2",
            room_nid,
            _MOST_CHILDREN,
        )
        return [row["event_nid"] for row in rows]

    async def list_nids(self, room_ids: Sequence[str]) -> dict[str, int]:
        """Numbers of those of the rooms that this server knows."""
        rows = await self._database.fetch(
            "SELECT room_id, room_nid FROM rooms WHERE room_id = ANY($1::text[])",
            [room_id for room_id in room_ids if "\x00" not in room_id],
        )
        return {row["room_id"]: row["room_nid"] for row in rows}

    async def list_memberships_of(self, user_id: str, room_ids: Sequence[str]) -> dict[str, str]:
        """What the user is in those of the rooms that have heard of them."""
        rows = await self._database.fetch(
            "SELECT r.room_id, m.membership FROM rooms r JOIN memberships m USING (room_nid) "
            "WHERE r.room_id = ANY($2::text[]) AND m.user_id = $1",
            user_id,
            [room_id for room_id in room_ids if "\x00" not in room_id],
        )
        return {row["room_id"]: row["membership"] for row in rows}

    async def list_shared(
        self, user_id: str, other_id: str, after: int, limit: int
    ) -> tuple[int, list[tuple[int, str]]]:
        """How many rooms both are in, and numbers and ids of the next of them after the room `after`."""
        rows = await self._database.fetch(
            "WITH shared AS MATERIALIZED ("
            " SELECT room_nid FROM local_memberships l JOIN memberships m USING (room_nid)"
            " WHERE l.user_id = $1 AND l.membership = 'join' AND m.user_id = $2 AND m.membership = 'join'"
            ") SELECT (SELECT count(*) FROM shared) AS total, p.room_nid, r.room_id FROM (SELECT 1) AS one "
            "LEFT JOIN (SELECT room_nid FROM shared WHERE room_nid > $3 ORDER BY room_nid LIMIT $4) p ON true "
            "LEFT JOIN rooms r USING (room_nid) ORDER BY p.room_nid",
            user_id,
            other_id,
            after,
            limit,
        )
        return rows[0]["total"], [(row["room_nid"], row["room_id"]) for row in rows if row["room_nid"]]
