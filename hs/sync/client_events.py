"""Events as client JSON: what is the same for everybody is made once, what is personal is spliced in.

Spec: client-server-api "Room event format", `unsigned`: age, membership, prev_content, redacted_because,
transaction_id.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from cachetools import LRUCache

from hs._fast import event_record
from hs._fast.event_record import EventRecord
from hs.matrix.filters import pick_fields
from hs.rooms.clock import Clock
from hs.storage.events import EventStore

# Ready bytes kept, in bytes; about 1 KB an event.
_CACHED_BYTES = 32 * 2**20

EventShape = tuple[str, tuple[str, ...] | None]
CLIENT_SHAPE: EventShape = ("client", None)


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who is going to read the events, on which device."""

    user_id: str
    device_id: str


@dataclass(frozen=True, slots=True)
class _Shared:
    """What of an event is the same for all readers: its JSON up to `unsigned`, and the end of that."""

    prefix: bytes
    unsigned_tail: bytes


class ClientEvents:
    """Renders events for clients."""

    def __init__(self, events: EventStore, clock: Clock) -> None:
        self._events = events
        self._clock = clock
        self._cache: LRUCache[tuple[int, int, bool], _Shared] = LRUCache(
            _CACHED_BYTES, getsizeof=lambda shared: len(shared.prefix) + len(shared.unsigned_tail) + 200
        )

    async def render(
        self,
        records: Sequence[EventRecord],
        viewer: Viewer,
        memberships: Mapping[int, str] | None = None,
        *,
        with_room_id: bool = False,
        shape: EventShape = CLIENT_SHAPE,
    ) -> list[bytes]:
        """The events as JSON, in order; `memberships` are the viewer's at the events, by number."""
        await self._prepare(records, with_room_id)
        now_ms = self._clock.now_ms()
        rendered = []
        for record in records:
            shared = self._cache.get(_cache_key(record, with_room_id)) or await self._share(
                record, with_room_id
            )
            unsigned = b'{"age":%d' % max(0, now_ms - record.origin_server_ts) + shared.unsigned_tail
            membership = memberships.get(record.event_nid) if memberships else None
            if membership is not None:
                unsigned += b',"membership":"' + membership.encode() + b'"'
            if record.txn_device_id == viewer.device_id and record.sender == viewer.user_id and record.txn_id:
                unsigned += b',"transaction_id":' + msgspec.json.encode(record.txn_id)
            rendered.append(event_record.finish_client_json(shared.prefix, unsigned + b"}"))
        return rendered if shape == CLIENT_SHAPE else [_reshape(event, shape) for event in rendered]

    async def _prepare(self, records: Iterable[EventRecord], with_room_id: bool) -> None:
        """Load in one go what events that are not ready refer to."""
        new = [record for record in records if _cache_key(record, with_room_id) not in self._cache]
        referred = [nid for record in new for nid in (record.replaces_nid, record.redacted_by_nid) if nid]
        if referred:
            await self._events.get_many(referred)

    async def _share(self, record: EventRecord, with_room_id: bool) -> _Shared:
        referred = [nid for nid in (record.replaces_nid, record.redacted_by_nid) if nid]
        found = await self._events.get_many(referred) if referred else {}
        tail = b""
        replaced = found.get(record.replaces_nid)
        if replaced is not None:
            tail += b',"prev_content":' + replaced.content_json
            tail += b',"prev_sender":' + msgspec.json.encode(replaced.sender)
            tail += b',"replaces_state":' + msgspec.json.encode(replaced.event_id)
        redaction = found.get(record.redacted_by_nid)
        if redaction is not None:
            because = event_record.client_json(redaction, with_room_id)
            tail += b',"redacted_because":' + event_record.finish_client_json(because, b"")
        shared = _Shared(event_record.client_json(record, with_room_id), tail)
        self._cache[_cache_key(record, with_room_id)] = shared
        return shared


def _cache_key(record: EventRecord, with_room_id: bool) -> tuple[int, int, bool]:
    return record.event_nid, record.redacted_by_nid, with_room_id


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


def _reshape(event: bytes, shape: EventShape) -> bytes:
    _, fields = shape
    if fields is None:
        return event
    return msgspec.json.encode(pick_fields(msgspec.json.decode(event), fields))
