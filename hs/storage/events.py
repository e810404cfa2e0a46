"""Events as they are read: records through the cache, PDUs as bytes, ids to numbers."""

from collections.abc import Callable, Mapping, Sequence
from enum import IntFlag
from typing import Any

import asyncpg
import msgspec
from cachetools import LRUCache

from hs._fast import canonical_json, event_record
from hs._fast.event_record import EventRecord
from hs.matrix.errors import NotFound
from hs.matrix.redaction import find_redacts, redact
from hs.matrix.room_versions import get_room_version
from hs.storage.batching import Batcher
from hs.storage.database import Database
from hs.storage.event_cache import EventCache
from hs.storage.pdu_codec import decode_pdu


class Flag(IntFlag):
    """What is known about an event beside its PDU."""

    OUTLIER = 1
    REJECTED = 2
    SOFT_FAILED = 4
    # When it came, something before it was missing: what arrived earlier is not what comes before it.
    AFTER_GAP = 8
    REDACTED = 16
    # Kept for what it tells one of our users; its auth events are not known, so nothing may rest on it.
    UNJUDGED = 32
    # Another server's user has sent it through us: ours to pass on.
    RELAYED = 64


# About 250 bytes each: 75 MB when full.
_RESIDENT_IDS = 300_000

# Rows that have no place in a timeline.
HIDDEN = int(Flag.OUTLIER | Flag.REJECTED | Flag.SOFT_FAILED)


class _PduBody(msgspec.Struct):
    """The parts of a stored PDU that a record needs; `content` stays bytes."""

    content: msgspec.Raw
    prev_events: list[Any] = []
    auth_events: list[Any] = []


_body_decoder = msgspec.json.Decoder(_PduBody)

_SELECT_RECORDS = """
    SELECT e.event_nid, e.room_nid, e.event_id, r.room_id, r.room_version, e.type, e.state_key, e.sender, e.depth,
           e.stream_ordering, e.origin_server_ts, e.state_id, e.replaces_nid, e.redacts, e.redacted_by_nid,
           e.flags, e.txn_device_id, e.txn_id, e.key_ix, j.pdu
    FROM events e
    JOIN event_json j USING (room_nid, event_nid)
    JOIN rooms r USING (room_nid)
    WHERE e.event_nid = ANY($1::bigint[])
"""


def _event_ids(references: list[Any]) -> list[str]:
    # Room versions 1 and 2 refer by [event_id, hashes] pairs.
    return [item if isinstance(item, str) else item[0] for item in references]


def _record_from_row(row: asyncpg.Record) -> bytes:
    pdu_json = decode_pdu(row["pdu"])
    flags, redacts = row["flags"], row["redacts"]
    if row["redacted_by_nid"]:
        version = get_room_version(row["room_version"])
        pdu = redact(msgspec.json.decode(pdu_json), version)
        redacts = find_redacts(pdu, version)
        pdu_json = canonical_json.encode(pdu, False)
        flags |= Flag.REDACTED
    body = _body_decoder.decode(pdu_json)
    return event_record.pack(
        event_nid=row["event_nid"],
        room_nid=row["room_nid"],
        stream_ordering=row["stream_ordering"],
        depth=row["depth"],
        origin_server_ts=row["origin_server_ts"],
        flags=int(flags),
        state_id=row["state_id"],
        replaces_nid=row["replaces_nid"],
        redacted_by_nid=row["redacted_by_nid"],
        event_id=row["event_id"],
        room_id=row["room_id"],
        type=row["type"],
        sender=row["sender"],
        state_key=row["state_key"],
        redacts=redacts,
        txn_id=row["txn_id"],
        txn_device_id=row["txn_device_id"],
        content_json=bytes(body.content),
        prev_event_ids=_event_ids(body.prev_events),
        auth_event_ids=_event_ids(body.auth_events),
    )


async def load_records(database: Database, event_nids: Sequence[int]) -> Mapping[int, bytes]:
    """Cache records of the events with these numbers, redactions applied; unknown ones are left out."""
    rows = await database.fetch(_SELECT_RECORDS, event_nids)
    return {row["event_nid"]: _record_from_row(row) for row in rows}


class RecordLoader:
    """What the event cache loads with: misses of several readers in the same turn are one query."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._groups: Batcher[tuple[int, ...], Mapping[int, bytes]] = Batcher(self._load)

    async def load(self, event_nids: Sequence[int]) -> Mapping[int, bytes]:
        """Cache records of the events with these numbers; unknown ones are left out."""
        return await self._groups.get(tuple(event_nids)) or {}

    async def _load(self, groups: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], Mapping[int, bytes]]:
        found = await load_records(self._database, [nid for group in groups for nid in group])
        return {group: {nid: found[nid] for nid in group if nid in found} for group in groups}


# Called with events of one room that have been written, and the numbers of those redacted with them.
OnWritten = Callable[[Sequence[EventRecord], Sequence[int]], None]


class EventStore:
    """Reads events; what was read stays in the event cache."""

    def __init__(self, database: Database, cache: EventCache) -> None:
        self._database = database
        self._cache = cache
        # Which events are held never changes, so what was once found stays true.
        self._nids: LRUCache[tuple[int, str], int] = LRUCache(_RESIDENT_IDS)
        self._listeners: list[OnWritten] = []

    def on_written(self, listen: OnWritten) -> None:
        """Have it called with the events that were written and the numbers of those that were redacted, be they
        news or old history: whoever keeps what was made from events learns here that it is not true any more.
        """
        self._listeners.append(listen)

    async def get(self, event_nid: int) -> EventRecord:
        """The event with this number; NotFound where there is none."""
        found = await self._cache.get_many([event_nid])
        if event_nid not in found:
            raise NotFound("unknown event")
        return found[event_nid]

    async def get_many(self, event_nids: Sequence[int]) -> dict[int, EventRecord]:
        """The events with these numbers, by number; unknown ones are left out."""
        return await self._cache.get_many(event_nids)

    async def find_nid(self, room_nid: int, event_id: str) -> int | None:
        """The number of the room's event, or None where we do not hold it."""
        return (await self.find_nids(room_nid, [event_id])).get(event_id)

    async def find_nids(self, room_nid: int, event_ids: Sequence[str]) -> dict[str, int]:
        """Numbers of those of `event_ids` that the room holds: from memory, and one query for all others."""
        found = {id: nid for id in event_ids if (nid := self._nids.get((room_nid, id))) is not None}
        missing = [id for id in event_ids if id not in found and "\x00" not in id]
        if missing:
            loaded = await self._load_nids(room_nid, missing)
            for event_id, nid in loaded.items():
                self._nids[room_nid, event_id] = nid
            found |= loaded
        return found

    async def _load_nids(self, room_nid: int, event_ids: Sequence[str]) -> dict[str, int]:
        rows = await self._database.fetch(
            "SELECT event_id, event_nid FROM events WHERE event_id = ANY($2::text[]) AND room_nid = $1",
            room_nid,
            event_ids,
        )
        return {row["event_id"]: row["event_nid"] for row in rows}

    async def get_pdu_json(self, event_nids: Sequence[int]) -> dict[int, bytes]:
        """The PDUs as they came, as bytes of canonical JSON, by number."""
        if not event_nids:
            return {}
        rows = await self._database.fetch(
            "SELECT j.event_nid, j.pdu FROM events e JOIN event_json j USING (room_nid, event_nid) "
            "WHERE e.event_nid = ANY($1::bigint[])",
            event_nids,
        )
        return {row["event_nid"]: decode_pdu(row["pdu"]) for row in rows}

    def remember(self, records: Sequence[EventRecord], redacted_nids: Sequence[int]) -> None:
        """Keep what a commit has just written; events that it redacted are read anew."""
        for record in records:
            self._cache.put(record.event_nid, record.data)
            self._nids[record.room_nid, record.event_id] = record.event_nid
        self._cache.invalidate(redacted_nids)
        for listen in self._listeners:
            listen(records, redacted_nids)
