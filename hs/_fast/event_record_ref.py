"""The record of the event cache: one msgpack array per event, read field by field.

The record is `msgpack.packb([...])` of the fields in the order of `FIELDS`. `content` stays the JSON
bytes it was stored as, so an event can become client JSON without being decoded.

Bytes that are no record raise ValueError, at the latest when the field that is damaged is read; a field
that is not damaged may still be readable.
"""

import json
from collections.abc import Sequence
from typing import Any

import msgpack
import msgspec

__all__ = ["FIELDS", "EventRecord", "client_json", "finish_client_json", "pack"]

# Integers stand first: they are what is read most, and reading a field means skipping those before it.
FIELDS = (
    "event_nid",
    "room_nid",
    "stream_ordering",
    "depth",
    "origin_server_ts",
    "flags",
    "state_id",
    "replaces_nid",
    "redacted_by_nid",
    "event_id",
    "room_id",
    "type",
    "sender",
    "state_key",
    "redacts",
    "txn_id",
    "txn_device_id",
    "content_json",
    "prev_event_ids",
    "auth_event_ids",
)

_INT_COUNT = 9
_OPTIONAL = frozenset({"state_key", "redacts", "txn_id", "txn_device_id"})
_content_decoder = msgspec.json.Decoder(dict[str, Any])


def pack(
    *,
    event_nid: int,
    room_nid: int,
    stream_ordering: int,
    depth: int,
    origin_server_ts: int,
    flags: int,
    state_id: int,
    event_id: str,
    room_id: str,
    type: str,
    sender: str,
    content_json: bytes,
    prev_event_ids: Sequence[str],
    auth_event_ids: Sequence[str],
    state_key: str | None = None,
    redacts: str | None = None,
    replaces_nid: int = 0,
    redacted_by_nid: int = 0,
    txn_id: str | None = None,
    txn_device_id: str | None = None,
) -> bytes:
    """The record of an event: the msgpack array of its fields.

    event_nid, room_nid     our numbers of the event and its room
    stream_ordering, depth  our order of arrival; the sender's claim
    origin_server_ts        milliseconds
    flags                   bits, given their meaning by storage
    state_id                the state tree after the event; 0 = the empty state
    replaces_nid            the state event that this one replaced; 0 = none
    redacted_by_nid         the redaction that was applied to `content_json`; 0 = none
    redacts                 what a redaction redacts, whichever place its room version keeps it in
    txn_id, txn_device_id   the transaction that a local user's device sent it with
    content_json            a JSON object; trusted, spliced as it is

    Integers beyond 64 signed bits raise OverflowError, values of a wrong type TypeError, lone surrogates
    UnicodeEncodeError.
    """
    integers = (
        event_nid,
        room_nid,
        stream_ordering,
        depth,
        origin_server_ts,
        flags,
        state_id,
        replaces_nid,
        redacted_by_nid,
    )
    for number in integers:
        if not -(2**63) <= number < 2**63:
            raise OverflowError("an integer of a record has at most 64 bits")
    texts = (event_id, room_id, type, sender)
    optional_texts = (state_key, redacts, txn_id, txn_device_id)
    references = (*prev_event_ids, *auth_event_ids)
    if not (
        all(isinstance(text, str) for text in texts + references)
        and all(text is None or isinstance(text, str) for text in optional_texts)
        and isinstance(content_json, bytes)
    ):
        raise TypeError("a field of a record has the wrong type")
    fields = [*integers, *texts, *optional_texts, content_json, list(prev_event_ids), list(auth_event_ids)]
    packed: bytes = msgpack.packb(fields)  # type: ignore[no-untyped-call]
    return packed


def _has_type(name: str, value: object) -> bool:
    if name in FIELDS[:_INT_COUNT]:
        return type(value) is int and value < 2**63
    if name == "content_json":
        return isinstance(value, bytes)
    if name in ("prev_event_ids", "auth_event_ids"):
        return isinstance(value, tuple) and all(isinstance(item, str) for item in value)
    return isinstance(value, str) or (value is None and name in _OPTIONAL)


def _read(data: bytes, name: str) -> Any:
    """The value of one field; ValueError where the bytes are no record."""
    try:
        values = msgpack.unpackb(data, use_list=False)  # type: ignore[attr-defined,no-untyped-call]
    except (ValueError, msgpack.UnpackException) as error:
        raise ValueError("not an event record") from error
    if not isinstance(values, tuple) or len(values) != len(FIELDS):
        raise ValueError("not an event record")
    if not all(map(_has_type, FIELDS, values)):
        raise ValueError("not an event record")
    return values[FIELDS.index(name)]


class EventRecord:
    """An event as the cache keeps it: the bytes that `pack` made, and nothing else.

    Every property decodes its field from the bytes each time; keep the value where it is needed twice.
    Records are equal when their bytes are.
    """

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        if not isinstance(data, bytes):
            raise TypeError("a record is made of bytes")
        self._data = data

    @property
    def data(self) -> bytes:
        """The bytes that `pack` made."""
        return self._data

    @property
    def nbytes(self) -> int:
        """The number of these bytes."""
        return len(self._data)

    @property
    def event_nid(self) -> int:
        return int(_read(self._data, "event_nid"))

    @property
    def room_nid(self) -> int:
        return int(_read(self._data, "room_nid"))

    @property
    def stream_ordering(self) -> int:
        return int(_read(self._data, "stream_ordering"))

    @property
    def depth(self) -> int:
        return int(_read(self._data, "depth"))

    @property
    def origin_server_ts(self) -> int:
        return int(_read(self._data, "origin_server_ts"))

    @property
    def flags(self) -> int:
        return int(_read(self._data, "flags"))

    @property
    def state_id(self) -> int:
        return int(_read(self._data, "state_id"))

    @property
    def replaces_nid(self) -> int:
        return int(_read(self._data, "replaces_nid"))

    @property
    def redacted_by_nid(self) -> int:
        return int(_read(self._data, "redacted_by_nid"))

    @property
    def event_id(self) -> str:
        return str(_read(self._data, "event_id"))

    @property
    def room_id(self) -> str:
        return str(_read(self._data, "room_id"))

    @property
    def type(self) -> str:
        return str(_read(self._data, "type"))

    @property
    def sender(self) -> str:
        return str(_read(self._data, "sender"))

    @property
    def state_key(self) -> str | None:
        value: str | None = _read(self._data, "state_key")
        return value

    @property
    def redacts(self) -> str | None:
        value: str | None = _read(self._data, "redacts")
        return value

    @property
    def txn_id(self) -> str | None:
        value: str | None = _read(self._data, "txn_id")
        return value

    @property
    def txn_device_id(self) -> str | None:
        value: str | None = _read(self._data, "txn_device_id")
        return value

    @property
    def content_json(self) -> bytes:
        return bytes(_read(self._data, "content_json"))

    @property
    def prev_event_ids(self) -> tuple[str, ...]:
        return tuple(_read(self._data, "prev_event_ids"))

    @property
    def auth_event_ids(self) -> tuple[str, ...]:
        return tuple(_read(self._data, "auth_event_ids"))

    @property
    def is_state(self) -> bool:
        """Whether the event has a state key."""
        return self.state_key is not None

    @property
    def content(self) -> dict[str, Any]:
        """The decoded content, a fresh dict each time; ValueError where it is not a JSON object."""
        try:
            return _content_decoder.decode(self.content_json)
        except msgspec.DecodeError as error:
            raise ValueError(f"the content of the record is no JSON object: {error}") from error

    def __eq__(self, other: object) -> bool:
        return self._data == other._data if isinstance(other, EventRecord) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._data)

    def __repr__(self) -> str:
        return f"<EventRecord of {len(self._data)} bytes>"


def _quote(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False).encode()


def client_json(record: EventRecord, with_room_id: bool) -> bytes:
    """The event in the client format as JSON bytes, without `unsigned` and without the closing brace.

    Keys: content, event_id, origin_server_ts, redacts (redactions only), room_id (where asked for), sender,
    state_key (state events only), type, in this order. Finish it with `finish_client_json`.

    client-server-api, "Room event format". A redaction names what it redacts at the top level and in its
    content, whichever its room version does (rooms/v11, "Moving the redacts property"); one that was
    redacted itself only where its content still says so.
    """
    content_json, redacts = record.content_json, record.redacts
    if redacts is not None:
        content = record.content
        if "redacts" not in content:
            if record.redacted_by_nid:
                redacts = None
            else:
                content_json = msgspec.json.encode({**content, "redacts": redacts})
    parts = [
        b'{"content":' + content_json,
        b'"event_id":' + _quote(record.event_id),
        b'"origin_server_ts":%d' % record.origin_server_ts,
    ]
    if redacts is not None:
        parts.append(b'"redacts":' + _quote(redacts))
    if with_room_id:
        parts.append(b'"room_id":' + _quote(record.room_id))
    parts.append(b'"sender":' + _quote(record.sender))
    if record.state_key is not None:
        parts.append(b'"state_key":' + _quote(record.state_key))
    parts.append(b'"type":' + _quote(record.type))
    return b",".join(parts)


def finish_client_json(prefix: bytes, unsigned_json: bytes) -> bytes:
    """What `client_json` gave, as a whole JSON object with this `unsigned`; b"" leaves it out."""
    return prefix + b',"unsigned":' + unsigned_json + b"}" if unsigned_json else prefix + b"}"
