"""What the database holds of one room, for operators; reads much, so nothing else uses it."""

from dataclasses import dataclass

import asyncpg

from hs.matrix.errors import NotFound
from hs.storage.database import Database, ReadConnection


@dataclass(frozen=True, slots=True)
class TableUse:
    """The room's rows in one table; bytes of the rows alone, without indexes."""

    table: str
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class RoomReport:
    """The numbers of a room. State keys: in the current state, and all that were ever seen."""

    room_id: str
    room_version: str
    created_ts: int
    members: dict[str, int]
    local_members: int
    state_keys: int
    state_keys_ever: int
    state_types: dict[str, int]
    events: int
    rejected: int
    soft_failed: int
    outliers: int
    depth: int
    forward_extremities: tuple[str, ...]
    backward_extremities: int
    auth_events: int
    auth_edges: int
    tables: tuple[TableUse, ...]


# The largest types say what the state is made of.
_SHOWN_TYPES = 8

# The bits of hs.storage.events.Flag.
_COUNTS = """
    SELECT (SELECT count(*) FROM current_state WHERE room_nid = $1) AS state_keys,
           (SELECT count(*) FROM state_keys WHERE room_nid = $1) AS state_keys_ever,
           (SELECT count(*) FROM local_memberships WHERE room_nid = $1 AND membership = 'join') AS local_members,
           (SELECT count(*) FROM backward_extremities WHERE room_nid = $1) AS backward_extremities,
           auth.*, event.*
    FROM (SELECT count(*) AS auth_events, coalesce(sum(cardinality(auth_nids)), 0)::bigint AS auth_edges
          FROM auth_records WHERE room_nid = $1) AS auth,
         (SELECT count(*) AS events, coalesce(max(depth), 0) AS depth,
                 count(*) FILTER (WHERE flags & 1 <> 0) AS outliers,
                 count(*) FILTER (WHERE flags & 2 <> 0) AS rejected,
                 count(*) FILTER (WHERE flags & 4 <> 0) AS soft_failed
          FROM events WHERE room_nid = $1) AS event
"""


async def inspect_room(database: Database, room_id: str) -> RoomReport:
    """The report on a room; NotFound where the database has no such room."""
    async with database.read() as connection:
        room = await connection.fetchrow("SELECT * FROM rooms WHERE room_id = $1", room_id)
        if room is None:
            raise NotFound(f"no room {room_id} here")
        room_nid = room["room_nid"]
        counts = await connection.fetchrow(_COUNTS, room_nid)
        assert counts is not None
        members = await connection.fetch(
            "SELECT membership, count(*) FROM memberships WHERE room_nid = $1 GROUP BY 1 ORDER BY 2 DESC",
            room_nid,
        )
        types = await connection.fetch(
            "SELECT type, count(*) FROM current_state WHERE room_nid = $1 GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT $2",
            room_nid,
            _SHOWN_TYPES,
        )
        heads = await connection.fetch(
            "SELECT e.event_id FROM forward_extremities x JOIN events e USING (room_nid, event_nid) "
            "WHERE x.room_nid = $1 ORDER BY e.depth DESC, e.event_id",
            room_nid,
        )
        return RoomReport(
            room_id=room_id,
            room_version=room["room_version"],
            created_ts=room["created_ts"],
            members=_by_name(members),
            state_types=_by_name(types),
            forward_extremities=tuple(row["event_id"] for row in heads),
            tables=await _list_tables(connection, room_nid),
            **dict(counts),
        )


def _by_name(rows: list[asyncpg.Record]) -> dict[str, int]:
    return {row[0]: row[1] for row in rows}


async def _list_tables(connection: ReadConnection, room_nid: int) -> tuple[TableUse, ...]:
    """Every table with rows of the room, the largest first."""
    tables = await connection.fetch(
        "SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid "
        "WHERE c.relkind IN ('r', 'p') AND a.attname = 'room_nid' AND c.relnamespace = current_schema()::regnamespace"
    )
    uses = []
    for table in tables:
        # The name comes from the catalog, quoted by it.
        row = await connection.fetchrow(
            f"SELECT count(*) AS rows, coalesce(sum(pg_column_size(t.*)), 0)::bigint AS bytes FROM {table['name']} t "
            "WHERE room_nid = $1",
            room_nid,
        )
        if row is not None and row["rows"]:
            uses.append(TableUse(table["name"], row["rows"], row["bytes"]))
    return tuple(sorted(uses, key=lambda use: -use.bytes))
