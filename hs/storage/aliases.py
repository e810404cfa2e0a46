"""Room aliases of this server, the rooms it publishes, and what a directory entry is made of."""

from collections.abc import Sequence

from hs.storage.database import Database, Writer


class DirectoryStore:
    """Aliases and published rooms, by room number."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_alias_room(self, alias: str) -> int | None:
        """The number of the room that the alias points to, or None."""
        room_nid: int | None = await self._database.fetchval(
            "SELECT room_nid FROM room_aliases WHERE alias = $1", alias
        )
        return room_nid

    async def find_alias_rooms(self, aliases: Sequence[str]) -> dict[str, int]:
        """The rooms that those of `aliases` point to which exist."""
        rows = await self._database.fetch(
            "SELECT alias, room_nid FROM room_aliases WHERE alias = ANY($1::text[])", aliases
        )
        return {row["alias"]: row["room_nid"] for row in rows}

    async def find_alias_creator(self, alias: str) -> str | None:
        """Who made the alias, or None where it does not exist."""
        creator: str | None = await self._database.fetchval(
            "SELECT creator FROM room_aliases WHERE alias = $1", alias
        )
        return creator

    async def list_room_aliases(self, room_nid: int) -> list[str]:
        """The room's aliases on this server, oldest first."""
        rows = await self._database.fetch(
            "SELECT alias FROM room_aliases WHERE room_nid = $1 ORDER BY created_ts, alias", room_nid
        )
        return [row["alias"] for row in rows]

    async def insert_alias(self, alias: str, room_nid: int, creator: str, now_ms: int) -> bool:
        """Whether the alias was free and now points to the room."""
        async with self._database.write() as writer:
            return await insert_alias(writer, alias, room_nid, creator, now_ms)

    async def delete_alias(self, alias: str) -> bool:
        """Whether there was such an alias; there is none any more."""
        async with self._database.write() as writer:
            gone = await writer.fetchval("DELETE FROM room_aliases WHERE alias = $1 RETURNING alias", alias)
        return gone is not None

    async def is_published(self, room_nid: int) -> bool:
        """Whether the room is in this server's list of public rooms."""
        found = await self._database.fetchval("SELECT 1 FROM published_rooms WHERE room_nid = $1", room_nid)
        return found is not None

    async def list_published(self, room_nids: Sequence[int]) -> set[int]:
        """Those of the rooms that are in this server's list of public rooms."""
        rows = await self._database.fetch(
            "SELECT room_nid FROM published_rooms WHERE room_nid = ANY($1::bigint[])", room_nids
        )
        return {row["room_nid"] for row in rows}

    async def set_published(self, room_nid: int, now_ms: int) -> None:
        """Put the room into the list of public rooms."""
        async with self._database.write() as writer:
            await insert_published(writer, room_nid, now_ms)

    async def delete_published(self, room_nid: int) -> None:
        """Take the room off the list of public rooms."""
        async with self._database.write() as writer:
            await writer.execute("DELETE FROM published_rooms WHERE room_nid = $1", room_nid)

    async def list_published_state(self, types: Sequence[str]) -> dict[int, dict[str, tuple[int, int]]]:
        """By published room and type: the state event with an empty key, and what redacts it (0: nothing).

        Both numbers together name a content that never changes, so that a caller may cache by them.
        """
        rows = await self._database.fetch(
            "SELECT p.room_nid, s.type, s.event_nid, e.redacted_by_nid FROM published_rooms p "
            "LEFT JOIN current_state s ON s.room_nid = p.room_nid AND s.type = ANY($1::text[]) AND s.state_key = '' "
            "LEFT JOIN events e ON e.room_nid = s.room_nid AND e.event_nid = s.event_nid",
            types,
        )
        rooms: dict[int, dict[str, tuple[int, int]]] = {}
        for row in rows:
            entries = rooms.setdefault(row["room_nid"], {})
            if row["event_nid"]:
                entries[row["type"]] = (row["event_nid"], row["redacted_by_nid"] or 0)
        return rooms

    async def count_joined(self, room_nids: Sequence[int]) -> dict[int, int]:
        """Joined members by room; rooms without any are left out."""
        rows = await self._database.fetch(
            "SELECT room_nid, count(*) AS joined FROM memberships "
            "WHERE room_nid = ANY($1::bigint[]) AND membership = 'join' GROUP BY room_nid",
            room_nids,
        )
        return {row["room_nid"]: row["joined"] for row in rows}


async def insert_alias(writer: Writer, alias: str, room_nid: int, creator: str, now_ms: int) -> bool:
    """Whether the alias was free and, once `writer` commits, points to the room."""
    # A concurrent insert of the same alias waits here for the other transaction's end.
    new = await writer.fetchval(
        "INSERT INTO room_aliases (alias, room_nid, creator, created_ts) VALUES ($1, $2, $3, $4) "
        "ON CONFLICT (alias) DO NOTHING RETURNING alias",
        alias,
        room_nid,
        creator,
        now_ms,
    )
    return new is not None


async def insert_published(writer: Writer, room_nid: int, now_ms: int) -> None:
    """Publish the room with the writer's commit; nothing changes where it is published already."""
    await writer.execute(
        "INSERT INTO published_rooms (room_nid, published_ts) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        room_nid,
        now_ms,
    )


async def move_room_entries(writer: Writer, from_nid: int, to_nid: int) -> None:
    """Point the aliases of one room to another, and publish that one in its stead, with the writer's commit."""
    await writer.execute("UPDATE room_aliases SET room_nid = $2 WHERE room_nid = $1", from_nid, to_nid)
    await writer.execute(
        "WITH gone AS (DELETE FROM published_rooms WHERE room_nid = $1 RETURNING published_ts) "
        "INSERT INTO published_rooms (room_nid, published_ts) SELECT $2, published_ts FROM gone "
        "ON CONFLICT DO NOTHING",
        from_nid,
        to_nid,
    )
