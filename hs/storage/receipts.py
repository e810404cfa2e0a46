"""Receipts: who has read a room up to where. Spec: client-server-api module "Receipts"."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import asyncpg

from hs.storage.batching import Batcher
from hs.storage.database import Database, Writer
from hs.storage.streams import StreamIds, load_stream

READ = "m.read"
READ_PRIVATE = "m.read.private"
MAIN = "main"

# Receipts of one room that a client is told of when it knows nothing: the newest, and its user's own.
MAX_TOLD = 500


@dataclass(frozen=True, slots=True)
class Receipt:
    """A user has read up to an event; `thread_id` is "" for all threads, "main", or the id of a root."""

    room_nid: int
    user_id: str
    receipt_type: str
    thread_id: str
    thread_nid: int
    event_id: str
    position: int
    ts: int
    stream_id: int = 0

    @property
    def key(self) -> tuple[int, str, str, str]:
        """What it replaces earlier receipts of."""
        return self.room_nid, self.user_id, self.receipt_type, self.thread_id

    def is_visible_to(self, user_id: str) -> bool:
        """Whether the user may know of it: private ones are for their own user."""
        return self.receipt_type != READ_PRIVATE or self.user_id == user_id


@dataclass(frozen=True, slots=True)
class ReadUpTo:
    """How far a user has read a room, as stream orderings; by_thread is by the root's number, 0 for main."""

    unthreaded: int = 0
    by_thread: dict[int, int] = field(default_factory=dict)


async def load_receipt_stream(database: Database) -> StreamIds:
    """The stream of all rooms' receipts."""
    return await load_stream(database, "SELECT max(stream_id) FROM receipts")


_COLUMNS = "room_nid, user_id, receipt_type, thread_id, thread_nid, event_id, position, ts, stream_id"


class ReceiptStore:
    """Reads and writes receipts."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rooms: Batcher[tuple[str, int], list[Receipt]] = Batcher(self._load_rooms)
        self._read: Batcher[tuple[str, int], ReadUpTo] = Batcher(self._load_read)

    async def upsert(self, writer: Writer, receipts: Sequence[Receipt]) -> list[Receipt]:
        """Those of the receipts that are new or further ahead than before, which are stored now."""
        rows = await writer.fetch(
            f"INSERT INTO receipts AS r ({_COLUMNS}) "
            "SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], "
            "$7::bigint[], $8::bigint[], $9::bigint[]) "
            "ON CONFLICT (room_nid, user_id, receipt_type, thread_id) DO UPDATE SET event_id = excluded.event_id, "
            "position = excluded.position, ts = excluded.ts, stream_id = excluded.stream_id "
            f"WHERE excluded.position > r.position RETURNING {_COLUMNS}",
            *_columns(receipts),
        )
        return _receipts(rows)

    async def list_of_room(self, user_id: str, room_nid: int) -> list[Receipt]:
        """What the user may know of the room's receipts: the newest MAX_TOLD, and all their own."""
        return await self._rooms.get((user_id, room_nid)) or []

    async def list_since(
        self, user_id: str, room_nids: Sequence[int], since: int, upto: int
    ) -> list[Receipt]:
        """What the user may know of these rooms' receipts with stream ids in (since, upto], oldest first."""
        rows = await self._database.fetch(
            f"SELECT {_COLUMNS} FROM receipts WHERE room_nid = ANY($1::bigint[]) AND stream_id > $2 "
            "AND stream_id <= $3 AND (receipt_type <> 'm.read.private' OR user_id = $4) ORDER BY stream_id",
            room_nids,
            since,
            upto,
            user_id,
        )
        return _receipts(rows)

    async def find_read(self, user_id: str, room_nid: int) -> ReadUpTo:
        """How far the user has read the room."""
        return await self._read.get((user_id, room_nid)) or ReadUpTo()

    async def find_place(self, room_nid: int, event_id: str) -> tuple[int, int, str] | None:
        """(stream ordering, number and id of the thread's root; 0 and "" in main) of a room's event, or None."""
        row = await self._database.fetchrow(
            "SELECT e.stream_ordering, e.thread_nid, coalesce(root.event_id, '') AS thread_id FROM events e "
            "LEFT JOIN events root ON root.room_nid = e.room_nid AND root.event_nid = e.thread_nid "
            "WHERE e.room_nid = $1 AND e.event_id = $2",
            room_nid,
            event_id,
        )
        return None if row is None else (row["stream_ordering"], row["thread_nid"], row["thread_id"])

    async def _load_rooms(self, wanted: Sequence[tuple[str, int]]) -> dict[tuple[str, int], list[Receipt]]:
        rows = await self._database.fetch(
            f"SELECT w.n, r.* FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS w (viewer, room, n) "
            "CROSS JOIN LATERAL ("
            f" (SELECT {_COLUMNS} FROM receipts WHERE room_nid = w.room AND user_id = w.viewer)"
            " UNION"
            f" (SELECT {_COLUMNS} FROM receipts WHERE room_nid = w.room AND receipt_type <> 'm.read.private'"
            "  ORDER BY stream_id DESC LIMIT $3)"
            ") r ORDER BY w.n, r.stream_id",
            *zip(*wanted, strict=True),
            MAX_TOLD,
        )
        found: dict[tuple[str, int], list[Receipt]] = {}
        for row in rows:
            found.setdefault(wanted[row["n"] - 1], []).append(_receipt(row))
        return found

    async def _load_read(self, wanted: Sequence[tuple[str, int]]) -> dict[tuple[str, int], ReadUpTo]:
        rows = await self._database.fetch(
            "SELECT w.n, r.thread_id, r.thread_nid, max(r.position) AS position "
            "FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS w (viewer, room, n) "
            "JOIN receipts r ON r.room_nid = w.room AND r.user_id = w.viewer "
            "GROUP BY w.n, r.thread_id, r.thread_nid",
            *zip(*wanted, strict=True),
        )
        unthreaded: dict[int, int] = {}
        by_thread: dict[int, dict[int, int]] = {}
        for row in rows:
            if row["thread_id"]:
                by_thread.setdefault(row["n"], {})[row["thread_nid"]] = row["position"]
            else:
                unthreaded[row["n"]] = row["position"]
        return {key: ReadUpTo(unthreaded.get(n, 0), by_thread.get(n, {})) for n, key in enumerate(wanted, 1)}


def _columns(receipts: Sequence[Receipt]) -> list[list[object]]:
    return [[getattr(receipt, name) for receipt in receipts] for name in _COLUMNS.split(", ")]


def _receipts(rows: Iterable[asyncpg.Record]) -> list[Receipt]:
    return [_receipt(row) for row in rows]


def _receipt(row: asyncpg.Record) -> Receipt:
    return Receipt(**{name: row[name] for name in _COLUMNS.split(", ")})
