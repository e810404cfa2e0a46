"""Events as client JSON: what is the same for everybody is made once, what is personal is spliced in.

Spec: client-server-api "Room event format", `unsigned`: age, membership, prev_content, redacted_because,
transaction_id.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import msgspec
from cachetools import LRUCache

from hs._fast import canonical_json, event_record
from hs._fast.event_record import EventRecord
from hs.matrix.filters import pick_fields
from hs.matrix.redaction import redact
from hs.matrix.room_versions import RoomVersion
from hs.rooms.clock import Clock
from hs.storage.events import EventStore, Flag
from hs.sync.visibility import Visibility

# Ready bytes kept, in bytes; about 1 KB an event.
_CACHED_BYTES = 32 * 2**20
# After so many events of a long list others get their turn.
_TURN = 1000
# What an entry takes beside its bytes.
_ENTRY_OVERHEAD = 200

_NO_RELATIONS: Mapping[int, bytes] = MappingProxyType({})

# Where an age will be: no JSON has such a byte.
AGE = b"\x00"

EventShape = tuple[str, tuple[str, ...] | None]
CLIENT_SHAPE: EventShape = ("client", None)


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who is going to read the events, on which device."""

    user_id: str
    device_id: str


class ClientEvents:
    """Renders events for clients."""

    def __init__(self, events: EventStore, clock: Clock, visibility: Visibility) -> None:
        self._events = events
        self._visibility = visibility
        self._clock = clock
        # JSON up to `unsigned`. The redaction is part of the key, so what was redacted is never shown.
        self._prefixes: LRUCache[tuple[int, int, bool], bytes] = LRUCache(
            _CACHED_BYTES, getsizeof=lambda prefix: len(prefix) + _ENTRY_OVERHEAD
        )

    async def render(
        self,
        records: Sequence[EventRecord],
        viewer: Viewer,
        memberships: Mapping[int, str] | None = None,
        *,
        with_room_id: bool = False,
        with_previous: bool = True,
        joined_at: int | None = None,
        shape: EventShape = CLIENT_SHAPE,
        relations: Mapping[int, bytes] = _NO_RELATIONS,
    ) -> list[bytes]:
        """The events as JSON, in order; `memberships` are the viewer's at the events, `relations` what
        `aggregations` says of what relates to them, both by number.

        `with_previous` adds what a state event replaced, for readers who see it happen; `joined_at` says since
        when the viewer has been in the room of the events.
        """
        if not records:
            return []
        tails = await self._tails(records, viewer, joined_at, with_room_id, with_previous)
        now_ms = self._clock.now_ms()
        rendered = []
        for count, record in enumerate(records, 1):
            if count % _TURN == 0:
                await asyncio.sleep(0)
            nid = record.event_nid
            unsigned = b'{"age":%d' % max(0, now_ms - record.origin_server_ts)
            if nid in tails:
                unsigned += tails[nid]
            if nid in relations:
                unsigned += b',"m.relations":' + relations[nid]
            if memberships is not None and nid in memberships:
                unsigned += b',"membership":"%b"' % memberships[nid].encode()
            if record.txn_device_id == viewer.device_id and record.sender == viewer.user_id:
                unsigned += b',"transaction_id":' + msgspec.json.encode(record.txn_id)
            rendered.append(
                event_record.finish_client_json(self._prefix(record, nid, with_room_id), unsigned + b"}")
            )
        return rendered if shape == CLIENT_SHAPE else [_pick(event, shape) for event in rendered]

    async def render_for_all(self, records: Sequence[EventRecord]) -> list[bytes]:
        """The events as everybody sees them, with room ids, `AGE` for their ages, and nothing that is personal:
        neither what they replaced nor transaction ids.
        """
        tails = await self._tails(records, Viewer("", ""), None, True, False)
        rendered = []
        for record in records:
            nid = record.event_nid
            unsigned = b'{"age":%b%b}' % (AGE, tails.get(nid, b""))
            rendered.append(event_record.finish_client_json(self._prefix(record, nid, True), unsigned))
        return rendered

    async def render_pdus(
        self, records: Sequence[EventRecord], version: RoomVersion, viewer: Viewer, shape: EventShape
    ) -> list[bytes]:
        """The events in the federation format, redactions applied.

        Spec: client-server-api "Filtering", event_format: "the raw event as received over federation".
        """
        pdus = await self._events.get_pdu_json([record.event_nid for record in records])
        now_ms = self._clock.now_ms()
        rendered = []
        for record in records:
            pdu = pdus[record.event_nid]
            if record.flags & Flag.REDACTED:
                pdu = canonical_json.encode(redact(msgspec.json.decode(pdu), version), False)
            unsigned = b'{"age":%d}' % max(0, now_ms - record.origin_server_ts)
            rendered.append(_pick(event_record.finish_client_json(pdu[:-1], unsigned), shape))
        return rendered

    def _prefix(self, record: EventRecord, event_nid: int, with_room_id: bool) -> bytes:
        key = (event_nid, record.redacted_by_nid, with_room_id)
        prefix = self._prefixes.get(key)
        if prefix is None:
            prefix = self._prefixes[key] = event_record.client_json(record, with_room_id)
        return prefix

    async def _tails(
        self,
        records: Sequence[EventRecord],
        viewer: Viewer,
        joined_at: int | None,
        with_room_id: bool,
        with_previous: bool,
    ) -> dict[int, bytes]:
        """What the events they replaced, and their redactions, add to `unsigned`, by number.

        Made anew each time: what they refer to may be redacted, too.
        """
        referred = {
            record.event_nid: (record.replaces_nid if with_previous else 0, record.redacted_by_nid)
            for record in records
            if record.redacted_by_nid or (with_previous and record.replaces_nid)
        }
        if not referred:
            return {}
        found = await self._events.get_many([nid for pair in referred.values() for nid in pair if nid])
        replaced = [found[nid] for nid, _ in referred.values() if nid in found]
        visible = await self._find_visible(replaced, viewer, joined_at)
        return {
            nid: _previous(found.get(old), old in visible) + _because(found.get(redaction), with_room_id)
            for nid, (old, redaction) in referred.items()
        }

    async def _find_visible(
        self, records: Sequence[EventRecord], viewer: Viewer, joined_at: int | None
    ) -> set[int]:
        """Those of the events, by number, that the viewer may see."""
        by_room: dict[int, list[EventRecord]] = {}
        for record in records:
            by_room.setdefault(record.room_nid, []).append(record)
        visible: set[int] = set()
        for of_room in by_room.values():
            seen = await self._visibility.filter(viewer.user_id, of_room, joined_at)
            visible.update(one.record.event_nid for one in seen)
        return visible


def stripped_json(record: EventRecord) -> bytes:
    """The event as stripped state. Spec: client-server-api "Stripped state"."""
    return msgspec.json.encode(
        {
            "type": record.type,
            "state_key": record.state_key,
            "sender": record.sender,
            "content": msgspec.Raw(record.content_json),
        }
    )


def _previous(replaced: EventRecord | None, is_visible: bool) -> bytes:
    if replaced is None:
        return b""
    event_id = msgspec.json.encode(replaced.event_id)
    if not is_visible:
        # Spec: this alone is told whoever asks.
        return b',"replaces_state":' + event_id
    sender = msgspec.json.encode(replaced.sender)
    return b',"prev_content":%b,"prev_sender":%b,"replaces_state":%b' % (
        replaced.content_json,
        sender,
        event_id,
    )


def _because(redaction: EventRecord | None, with_room_id: bool) -> bytes:
    if redaction is None:
        return b""
    because = event_record.client_json(redaction, with_room_id)
    return b',"redacted_because":' + event_record.finish_client_json(because, b"")


def _pick(event: bytes, shape: EventShape) -> bytes:
    _, fields = shape
    return event if fields is None else msgspec.json.encode(pick_fields(msgspec.json.decode(event), fields))
