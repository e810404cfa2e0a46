"""Receipts: who has read a room up to where. Spec: client-server-api module "Receipts"."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import asyncpg
from cachetools import LRUCache

from hs.matrix.relations import THREAD
from hs.storage.batching import Batcher
from hs.storage.database import Database, Writer
from hs.storage.streams import StreamIds, load_stream

READ = "m.read"
READ_PRIVATE = "m.read.private"
MAIN = "main"

# Receipts of a room that one answer tells: the newest, and as many of its user's own. Who has read lately is
# what clients show beside the last messages; a small room is told whole.
MAX_TOLD = 200
# Rooms told by one query: what that makes of objects keeps the event loop for a few milliseconds.
_ROOMS_AT_ONCE = 25
# About 350 bytes each. A room full of people reads the same few events.
_CACHED_PLACES = 50_000

# (room_nid, user_id, receipt_type, thread_id)
ReceiptKey = tuple[int, str, str, str]


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
    def key(self) -> ReceiptKey:
        """What it replaces earlier receipts of."""
        return self.room_nid, self.user_id, self.receipt_type, self.thread_id


@dataclass(frozen=True, slots=True)
class ReadUpTo:
    """How far a user has read a room, as stream orderings; by_thread is by the root's number, 0 for main.

    The newest of public and private receipts; threads that `unthreaded` is ahead of are left out.
    """

    unthreaded: int = 0
    by_thread: Mapping[int, int] = field(default_factory=dict)

    def after(self, receipt: Receipt) -> "ReadUpTo":
        """How far it is with one more receipt; this object where that changes nothing."""
        position = receipt.position
        if position <= self.unthreaded:
            return self
        if not receipt.thread_id:
            return ReadUpTo(position, {nid: at for nid, at in self.by_thread.items() if at > position})
        if position <= self.by_thread.get(receipt.thread_nid, 0):
            return self
        return ReadUpTo(self.unthreaded, {**self.by_thread, receipt.thread_nid: position})


@dataclass(frozen=True, slots=True)
class EventPlace:
    """Where an event is: `thread_nid` and `thread_id` name its thread's root, 0 and "" in the main timeline."""

    stream_ordering: int
    thread_nid: int
    thread_id: str
    relates_to: str | None


async def load_receipt_stream(database: Database) -> StreamIds:
    """The stream of all rooms' receipts."""
    return await load_stream(database, "SELECT max(stream_id) FROM receipts")


_COLUMNS = "room_nid, user_id, receipt_type, thread_id, thread_nid, event_id, position, ts, stream_id"
# What a viewer may know of.
_SHOWN = "(receipt_type <> 'm.read.private' OR user_id = w.viewer)"

# A viewer, a room, and the stream ids after the first and up to the second.
_Span = tuple[str, int, int, int]


class ReceiptStore:
    """Reads and writes receipts."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._spans: Batcher[_Span, list[Receipt]] = Batcher(self._load_spans, _ROOMS_AT_ONCE)
        self._read: Batcher[tuple[str, int], ReadUpTo] = Batcher(self._load_read)
        self._places: Batcher[tuple[int, str], EventPlace] = Batcher(self._load_places)
        self._known_places: LRUCache[tuple[int, str], EventPlace] = LRUCache(_CACHED_PLACES)

    async def list_ahead(self, receipts: Sequence[Receipt]) -> list[Receipt]:
        """Those of the receipts, of different keys, that are new or ahead of what is stored."""
        rows = await self._database.fetch(
            "SELECT g.n FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[]) "
            "WITH ORDINALITY AS g (room_nid, user_id, receipt_type, thread_id, position, n) "
            "LEFT JOIN receipts r USING (room_nid, user_id, receipt_type, thread_id) "
            "WHERE r.position IS NULL OR r.position < g.position ORDER BY g.n",
            *zip(*((*receipt.key, receipt.position) for receipt in receipts), strict=True),
        )
        return [receipts[row["n"] - 1] for row in rows]

    async def set_receipts(self, writer: Writer, receipts: Sequence[Receipt]) -> None:
        """Store the receipts, of different keys, in one statement; all, so that the stream ends where they do."""
        await writer.execute(
            f"INSERT INTO receipts ({_COLUMNS}) "
            "SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], "
            "$7::bigint[], $8::bigint[], $9::bigint[]) "
            "ON CONFLICT (room_nid, user_id, receipt_type, thread_id) DO UPDATE SET event_id = excluded.event_id, "
            "position = excluded.position, ts = excluded.ts, stream_id = excluded.stream_id",
            *([getattr(receipt, name) for receipt in receipts] for name in _COLUMNS.split(", ")),
        )

    async def list_rooms_since(
        self, user_id: str, room_nids: Collection[int], since: int, upto: int
    ) -> list[int]:
        """Those of the rooms with receipts in (since, upto] that the user may know of."""
        rows = await self._database.fetch(
            "SELECT w.room FROM (SELECT $1::text AS viewer, room FROM unnest($2::bigint[]) AS room) w "
            "WHERE EXISTS (SELECT 1 FROM receipts WHERE room_nid = w.room AND stream_id > $3 AND stream_id <= $4 "
            f"AND {_SHOWN})",
            user_id,
            list(room_nids),
            since,
            upto,
        )
        return [row["room"] for row in rows]

    async def list_receipts(self, user_id: str, room_nid: int, since: int, upto: int) -> list[Receipt]:
        """What the user may know of the room's receipts in (since, upto], oldest first.

        Where there are more, the newest MAX_TOLD, and the newest MAX_TOLD of the user's own.
        """
        return await self._spans.get((user_id, room_nid, since, upto)) or []

    async def find_read(self, user_id: str, room_nid: int) -> ReadUpTo:
        """How far the user has read the room."""
        return await self._read.get((user_id, room_nid)) or ReadUpTo()

    async def find_place(self, room_nid: int, event_id: str) -> EventPlace | None:
        """Where the room's event is; None where the room has no such event."""
        known = self._known_places.get((room_nid, event_id))
        if known is None:
            known = await self._places.get((room_nid, event_id))
            if known is not None:
                self._known_places[room_nid, event_id] = known
        return known

    async def find_thread_root(self, room_nid: int, event_id: str) -> int | None:
        """The event's number if there is a thread below it."""
        nid: int | None = await self._database.fetchval(
            "SELECT event_nid FROM events e WHERE room_nid = $1 AND event_id = $2 AND EXISTS "
            "(SELECT 1 FROM events t WHERE t.room_nid = $1 AND t.relates_to = $2 AND t.rel_type = $3)",
            room_nid,
            event_id,
            THREAD,
        )
        return nid

    async def _load_spans(self, wanted: Sequence[_Span]) -> dict[_Span, list[Receipt]]:
        span = "room_nid = w.room AND stream_id > w.since AND stream_id <= w.upto"
        rows = await self._database.fetch(
            "SELECT r.*, w.n FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) "
            "WITH ORDINALITY AS w (viewer, room, since, upto, n) CROSS JOIN LATERAL ("
            f" (SELECT {_COLUMNS} FROM receipts WHERE {span} AND user_id = w.viewer"
            "  ORDER BY stream_id DESC LIMIT $5)"
            " UNION"
            f" (SELECT {_COLUMNS} FROM receipts WHERE {span} AND {_SHOWN} ORDER BY stream_id DESC LIMIT $5)"
            ") r ORDER BY w.n, r.stream_id",
            *zip(*wanted, strict=True),
            MAX_TOLD,
        )
        found: dict[_Span, list[Receipt]] = {}
        for row in rows:
            *columns, n = row
            found.setdefault(wanted[n - 1], []).append(Receipt(*columns))
        return found

    async def _load_read(self, wanted: Sequence[tuple[str, int]]) -> dict[tuple[str, int], ReadUpTo]:
        rows = await self._database.fetch(
            "SELECT w.n, r.thread_id, r.thread_nid, max(r.position) AS position "
            "FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS w (viewer, room, n) "
            "JOIN receipts r ON r.room_nid = w.room AND r.user_id = w.viewer "
            "GROUP BY w.n, r.thread_id, r.thread_nid",
            *zip(*wanted, strict=True),
        )
        by_key: dict[int, list[asyncpg.Record]] = {}
        for row in rows:
            by_key.setdefault(row["n"], []).append(row)
        return {wanted[n - 1]: _read_up_to(threads) for n, threads in by_key.items()}

    async def _load_places(self, wanted: Sequence[tuple[int, str]]) -> dict[tuple[int, str], EventPlace]:
        rows = await self._database.fetch(
            "SELECT e.room_nid, e.event_id, e.stream_ordering, e.thread_nid, e.relates_to, root.event_id AS root_id "
            "FROM unnest($1::bigint[], $2::text[]) AS w (room, event) "
            "JOIN events e ON e.room_nid = w.room AND e.event_id = w.event "
            "LEFT JOIN events root ON root.room_nid = e.room_nid AND root.event_nid = e.thread_nid",
            *zip(*wanted, strict=True),
        )
        return {
            (row["room_nid"], row["event_id"]): EventPlace(
                row["stream_ordering"], row["thread_nid"], row["root_id"] or "", row["relates_to"]
            )
            for row in rows
        }


def _read_up_to(rows: Sequence[asyncpg.Record]) -> ReadUpTo:
    unthreaded: int = max((row["position"] for row in rows if not row["thread_id"]), default=0)
    by_thread = {row["thread_nid"]: row["position"] for row in rows if row["thread_id"]}
    return ReadUpTo(unthreaded, {nid: at for nid, at in by_thread.items() if at > unthreaded})
