"""Presence as it outlives the process, and who may see it by being in the same rooms."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

from hs.storage.database import Database

# Rows of one statement.
_CHUNK = 1_000


@dataclass(frozen=True, slots=True)
class PresenceRow:
    """What a user was; `last_active_ts` is 0 where it is not known."""

    user_id: str
    state: str
    status_msg: str | None
    last_active_ts: int
    stream_id: int


class PresenceStore:
    """Reads and writes presence, and reads who shares rooms."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get_newest_stream_id(self) -> int:
        """The newest change that was written down; 0 where there is none."""
        newest: int = await self._database.fetchval("SELECT coalesce(max(stream_id), 0) FROM presence")
        return newest

    async def list_recent(self, since: int, at_most: int) -> list[PresenceRow]:
        """Users who were not offline or have changed after `since`; the newest, oldest first."""
        rows = await self._database.fetch(
            "SELECT user_id, state, status_msg, last_active_ts, stream_id FROM presence "
            "WHERE state <> 'offline' OR stream_id > $1 ORDER BY stream_id DESC LIMIT $2",
            since,
            at_most,
        )
        return [PresenceRow(**row) for row in reversed(rows)]

    async def list_rows(self, user_ids: Sequence[str]) -> dict[str, PresenceRow]:
        """What was last written down of these users, by user id."""
        rows = await self._database.fetch(
            "SELECT user_id, state, status_msg, last_active_ts, stream_id FROM presence "
            "WHERE user_id = ANY($1::text[])",
            user_ids,
        )
        return {row["user_id"]: PresenceRow(**row) for row in rows}

    async def set_many(self, rows: Sequence[PresenceRow]) -> None:
        """Write down what users are now."""
        # In one order, so that nobody waits for each other.
        ordered = sorted(rows, key=lambda row: row.user_id)
        for first in range(0, len(ordered), _CHUNK):
            columns = zip(*map(astuple, ordered[first : first + _CHUNK]), strict=True)
            async with self._database.write() as writer:
                await writer.execute(
                    "INSERT INTO presence (user_id, state, status_msg, last_active_ts, stream_id) "
                    "SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[]) "
                    "ON CONFLICT (user_id) DO UPDATE SET state = excluded.state, "
                    "status_msg = excluded.status_msg, last_active_ts = excluded.last_active_ts, "
                    "stream_id = excluded.stream_id",
                    *columns,
                )

    async def count_joined(self, room_nids: Sequence[int], upto: int) -> dict[int, int]:
        """How many users are in each of the rooms; counting stops at `upto`."""
        rows = await self._database.fetch(
            "SELECT r.room_nid, (SELECT count(*) FROM (SELECT 1 FROM memberships m "
            "WHERE m.room_nid = r.room_nid AND m.membership = 'join' LIMIT $2) joined) AS n "
            "FROM unnest($1::bigint[]) AS r (room_nid)",
            room_nids,
            upto,
        )
        return {row["room_nid"]: row["n"] for row in rows}

    async def list_joined(self, room_nids: Sequence[int], at_most: int) -> list[str]:
        """Users who are in any of the rooms."""
        rows = await self._database.fetch(
            "SELECT DISTINCT user_id FROM memberships WHERE room_nid = ANY($1::bigint[]) "
            "AND membership = 'join' LIMIT $2",
            room_nids,
            at_most,
        )
        return [row["user_id"] for row in rows]

    async def list_joined_rooms(self, user_id: str, at_most: int) -> list[int]:
        """Rooms that the user of another server is in."""
        rows = await self._database.fetch(
            "SELECT room_nid FROM memberships WHERE user_id = $1 AND membership = 'join' LIMIT $2",
            user_id,
            at_most,
        )
        return [row["room_nid"] for row in rows]

    async def list_in_rooms(self, user_ids: Sequence[str]) -> set[str]:
        """Those of the users who are in any room that we know."""
        rows = await self._database.fetch(
            "SELECT u.user_id FROM unnest($1::text[]) AS u (user_id) WHERE EXISTS "
            "(SELECT 1 FROM memberships m WHERE m.user_id = u.user_id AND m.membership = 'join')",
            user_ids,
        )
        return {row["user_id"] for row in rows}

    async def list_arrivals(self, changes: Sequence[tuple[str, int, int]]) -> list[tuple[str, int]]:
        """(user_id, room_nid) of the joins (user_id, room_nid, stream_ordering) by users who were not in the room."""
        rows = await self._database.fetch(
            "SELECT user_id, room_nid FROM unnest($1::text[], $2::bigint[], $3::bigint[]) "
            "AS j (user_id, room_nid, stream_ordering) WHERE 'join' IS DISTINCT FROM ("
            " SELECT c.membership FROM local_membership_changes c WHERE c.user_id = j.user_id"
            " AND c.stream_ordering < j.stream_ordering AND c.room_nid = j.room_nid"
            " ORDER BY c.stream_ordering DESC LIMIT 1)",
            *zip(*changes, strict=True),
        )
        return [(row["user_id"], row["room_nid"]) for row in rows]

    async def list_new_servers(self, arrivals: Sequence[tuple[str, int]]) -> dict[str, list[int]]:
        """Servers of which nobody but these (user_id, room_nid) is in the room, and the rooms, by server."""
        server = "substr(user_id, strpos(user_id, ':') + 1)"
        rows = await self._database.fetch(
            "SELECT DISTINCT server_name, room_nid FROM ("
            f" SELECT {server} AS server_name, room_nid FROM unnest($1::text[], $2::bigint[])"
            "  AS a (user_id, room_nid)) a WHERE NOT EXISTS ("
            " SELECT 1 FROM memberships m WHERE m.room_nid = a.room_nid AND m.membership = 'join'"
            f" AND {server} = a.server_name AND m.user_id <> ALL($1::text[]))",
            *zip(*arrivals, strict=True),
        )
        found: dict[str, list[int]] = {}
        for row in rows:
            found.setdefault(row["server_name"], []).append(row["room_nid"])
        return found

    async def is_room_shared(self, user_id: str, other_id: str) -> bool:
        """Whether both are in a room now; the first is one of our users."""
        shared: bool = await self._database.fetchval(
            "SELECT EXISTS (SELECT 1 FROM local_memberships l JOIN memberships m USING (room_nid) "
            "WHERE l.user_id = $1 AND l.membership = 'join' AND m.user_id = $2 AND m.membership = 'join')",
            user_id,
            other_id,
        )
        return shared
