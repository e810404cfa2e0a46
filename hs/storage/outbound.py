"""What other servers have not been sent yet, and which servers are in a room."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from hs.storage.database import Database, Writer
from hs.storage.events import HIDDEN, Flag

# As in the index: everything after the first colon.
_SERVER = "substr(m.user_id, strpos(m.user_id, ':') + 1)"


@dataclass(frozen=True, slots=True)
class MissedEvent:
    """An event that a server has not been sent."""

    room_nid: int
    event_nid: int
    stream_ordering: int


@dataclass(frozen=True, slots=True)
class Farewell:
    """An event for a server that is not in the room any more."""

    server_name: str
    event: MissedEvent


@dataclass(frozen=True, slots=True)
class Progress:
    """What has changed since the last `save`."""

    position: int
    # The newest event of each room.
    rooms: Sequence[MissedEvent] = ()
    # From where on servers lack events; None for those that lack nothing.
    since_by_server: Mapping[str, int | None] = field(default_factory=dict)
    farewells: Sequence[Farewell] = ()


class OutboundStore:
    """Reads and writes how far other servers have come."""

    def __init__(self, database: Database, server_name: str) -> None:
        self._database = database
        self._server_name = server_name

    async def find_position(self) -> int | None:
        """Up to where nothing is forgotten; None where nothing was ever sent."""
        position: int | None = await self._database.fetchval("SELECT stream_ordering FROM outbound_position")
        return position

    async def list_behind(self) -> dict[str, int]:
        """From where on servers lack events, by server."""
        rows = await self._database.fetch("SELECT server_name, since FROM outbound_behind")
        return {row["server_name"]: row["since"] for row in rows}

    async def save(self, progress: Progress) -> None:
        """Write down what has changed, all of it or nothing."""
        async with self._database.write() as writer:
            await _set_rooms(writer, progress.rooms)
            await _set_behind(writer, progress.since_by_server)
            await _insert_farewells(writer, progress.farewells)
            await _set_position(writer, progress.position)

    async def take_over(self, position: int, upto: int) -> list[str]:
        """Have every server that an event of ours in (position, upto] may be for count as behind; those servers.

        For what was committed and not written down as sent before this process began, or what it lost sight of.
        """
        async with self._database.write() as writer:
            rows = await writer.fetch(
                "SELECT room_nid, event_nid, stream_ordering, state_key FROM events "
                "WHERE stream_ordering > $1 AND stream_ordering <= $2 AND flags & $3 = 0 "
                "AND (flags & $4 <> 0 OR substr(sender, strpos(sender, ':') + 1) = $5) ORDER BY stream_ordering",
                position,
                upto,
                HIDDEN,
                int(Flag.RELAYED),
                self._server_name,
            )
            newest = {
                row["room_nid"]: MissedEvent(row["room_nid"], row["event_nid"], row["stream_ordering"])
                for row in rows
            }
            await _set_rooms(writer, list(newest.values()))
            gone = await writer.fetch(
                f"SELECT {_SERVER} AS server_name, m.room_nid, m.event_nid, e.stream_ordering "
                "FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS e (room_nid, event_nid, stream_ordering) "
                "JOIN memberships m ON m.room_nid = e.room_nid AND m.event_nid = e.event_nid "
                f"WHERE m.membership IN ('leave', 'ban') AND {_SERVER} <> $4",
                [row["room_nid"] for row in rows if row["state_key"]],
                [row["event_nid"] for row in rows if row["state_key"]],
                [row["stream_ordering"] for row in rows if row["state_key"]],
                self._server_name,
            )
            farewells = [
                Farewell(
                    row["server_name"], MissedEvent(row["room_nid"], row["event_nid"], row["stream_ordering"])
                )
                for row in gone
            ]
            await _insert_farewells(writer, farewells)
            joined = await writer.fetch(
                f"SELECT DISTINCT {_SERVER} AS server_name FROM unnest($1::bigint[]) AS r (room_nid) "
                f"JOIN memberships m USING (room_nid) WHERE m.membership = 'join' AND {_SERVER} <> $2",
                list(newest),
                self._server_name,
            )
            servers = {row["server_name"] for row in joined} | {one.server_name for one in farewells}
            await writer.execute(
                "INSERT INTO outbound_behind (server_name, since) SELECT unnest($1::text[]), $2 "
                "ON CONFLICT (server_name) DO UPDATE SET since = least(outbound_behind.since, excluded.since)",
                sorted(servers),
                position,
            )
            await _set_position(writer, upto)
        return sorted(servers)

    async def list_missed(self, server_name: str, since: int, before: int, limit: int) -> list[MissedEvent]:
        """The newest events, in (since, before), of the rooms that the server is in; newest first, one a room."""
        rows = await self._database.fetch(
            "SELECT o.room_nid, o.event_nid, o.stream_ordering FROM outbound_rooms o "
            "WHERE o.stream_ordering > $2 AND o.stream_ordering < $3 AND EXISTS ("
            f" SELECT 1 FROM memberships m WHERE m.room_nid = o.room_nid AND {_SERVER} = $1"
            "  AND m.membership = 'join'"
            ") ORDER BY o.stream_ordering DESC LIMIT $4",
            server_name,
            since,
            before,
            limit,
        )
        return [MissedEvent(**row) for row in rows]

    async def list_few(
        self, server_name: str, room_nids: Sequence[int], since: int, upto: int, limit: int
    ) -> dict[int, list[MissedEvent]]:
        """Our events in (since, upto] and after the server's join, oldest first, by room.

        Only of rooms where at most `limit` events of anybody came after `since`.
        """
        rows = await self._database.fetch(
            "SELECT r.room_nid, e.event_nid, e.stream_ordering,"
            " e.is_ours AND EXISTS (SELECT 1 FROM memberships m JOIN events j USING (room_nid, event_nid)"
            f"  WHERE m.room_nid = r.room_nid AND {_SERVER} = $2 AND m.membership = 'join'"
            "   AND j.stream_ordering <= e.stream_ordering) AS is_for_them "
            "FROM unnest($1::bigint[]) AS r (room_nid) CROSS JOIN LATERAL ("
            " SELECT event_nid, stream_ordering,"
            "  flags & $6 = 0 AND (flags & $7 <> 0 OR substr(sender, strpos(sender, ':') + 1) = $8) AS is_ours"
            " FROM events WHERE room_nid = r.room_nid AND stream_ordering > $3 AND stream_ordering <= $4"
            " ORDER BY stream_ordering DESC LIMIT $5 + 1) AS e ORDER BY e.stream_ordering",
            list(room_nids),
            server_name,
            since,
            upto,
            limit,
            HIDDEN,
            int(Flag.RELAYED),
            self._server_name,
        )
        counts = Counter(row["room_nid"] for row in rows)
        found: dict[int, list[MissedEvent]] = {}
        for room_nid, event_nid, stream_ordering, is_for_them in rows:
            if is_for_them and counts[room_nid] <= limit:
                found.setdefault(room_nid, []).append(MissedEvent(room_nid, event_nid, stream_ordering))
        return found

    async def list_farewells(self, server_name: str, limit: int) -> list[MissedEvent]:
        """Events for the server about rooms that it is not in any more, oldest first."""
        rows = await self._database.fetch(
            "SELECT room_nid, event_nid, stream_ordering FROM outbound_farewells "
            "WHERE server_name = $1 ORDER BY stream_ordering LIMIT $2",
            server_name,
            limit,
        )
        return [MissedEvent(**row) for row in rows]

    async def delete_farewells(self, server_name: str, upto: int) -> None:
        """The server has them, up to a stream ordering."""
        async with self._database.write_once() as writer:
            await writer.execute(
                "DELETE FROM outbound_farewells WHERE server_name = $1 AND stream_ordering <= $2",
                server_name,
                upto,
            )

    async def list_servers(self, room_nid: int) -> list[str]:
        """Other servers with users in the room. From server to server by the index: members are not counted."""
        server = _SERVER
        rows = await self._database.fetch(
            "WITH RECURSIVE found (server_name) AS ("
            f" (SELECT {server} FROM memberships m WHERE m.room_nid = $1 AND m.membership = 'join'"
            f"  ORDER BY {server} LIMIT 1)"
            " UNION ALL"
            f" SELECT (SELECT {server} FROM memberships m WHERE m.room_nid = $1 AND m.membership = 'join'"
            f"  AND {server} > found.server_name ORDER BY {server} LIMIT 1)"
            " FROM found WHERE found.server_name IS NOT NULL"
            ") SELECT server_name FROM found WHERE server_name IS NOT NULL AND server_name <> $2",
            room_nid,
            self._server_name,
        )
        return [row["server_name"] for row in rows]

    async def list_joined(self, room_nid: int, server_names: Collection[str]) -> set[str]:
        """Those of the servers that have users in the room."""
        rows = await self._database.fetch(
            "SELECT s.server_name FROM unnest($2::text[]) AS s (server_name) WHERE EXISTS ("
            f" SELECT 1 FROM memberships m WHERE m.room_nid = $1 AND {_SERVER} = s.server_name"
            "  AND m.membership = 'join')",
            room_nid,
            list(server_names),
        )
        return {row["server_name"] for row in rows}


async def _set_position(writer: Writer, position: int) -> None:
    await writer.execute(
        "INSERT INTO outbound_position (stream_ordering) VALUES ($1) "
        "ON CONFLICT (is_only) DO UPDATE SET stream_ordering = excluded.stream_ordering",
        position,
    )


async def _set_rooms(writer: Writer, rooms: Sequence[MissedEvent]) -> None:
    if rooms:
        await writer.execute(
            "INSERT INTO outbound_rooms (room_nid, event_nid, stream_ordering) "
            "SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) "
            "ON CONFLICT (room_nid) DO UPDATE SET event_nid = excluded.event_nid, "
            "stream_ordering = excluded.stream_ordering "
            "WHERE outbound_rooms.stream_ordering < excluded.stream_ordering",
            [one.room_nid for one in rooms],
            [one.event_nid for one in rooms],
            [one.stream_ordering for one in rooms],
        )


async def _set_behind(writer: Writer, since_by_server: Mapping[str, int | None]) -> None:
    behind = {server: since for server, since in since_by_server.items() if since is not None}
    if behind:
        await writer.execute(
            "INSERT INTO outbound_behind (server_name, since) SELECT * FROM unnest($1::text[], $2::bigint[]) "
            "ON CONFLICT (server_name) DO UPDATE SET since = excluded.since",
            list(behind),
            list(behind.values()),
        )
    caught_up = [server for server, since in since_by_server.items() if since is None]
    if caught_up:
        await writer.execute("DELETE FROM outbound_behind WHERE server_name = ANY($1::text[])", caught_up)


async def _insert_farewells(writer: Writer, farewells: Sequence[Farewell]) -> None:
    if farewells:
        await writer.execute(
            "INSERT INTO outbound_farewells (server_name, room_nid, event_nid, stream_ordering) "
            "SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) ON CONFLICT DO NOTHING",
            [one.server_name for one in farewells],
            [one.event.room_nid for one in farewells],
            [one.event.event_nid for one in farewells],
            [one.event.stream_ordering for one in farewells],
        )
