"""Auth records, what the auth rules need to know of one event: the readable twin's half of `event_auth`."""

import json
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from hs._fast.auth_payload import payload_of

__all__ = ["AuthRecord", "make_record", "mark_of", "pack_record", "unpack_record"]

_MEMBERSHIPS = ("", "join", "invite", "leave", "ban", "knock")
_INT64 = 2**63 - 1


@dataclass(slots=True, eq=False)
class AuthRecord:
    """What the auth rules and state resolution need of one event.

    Equal only to itself; never changed once made.
    """

    nid: int
    event_id: str
    type: str
    state_key: str | None
    sender: str
    room_id: str
    """Empty where the record came from the store, which keeps records by room."""
    origin_server_ts: int
    depth: int
    auth_nids: tuple[int, ...]
    rejected: bool
    has_prev_events: bool
    prev_mark: int
    """64-bit digest of the previous event's id where there is exactly one, else 0."""
    redacts: str | None
    membership: str | None
    """None where content has none, "" where it is none of the spec's five."""
    authoriser: str | None
    """Since v8 `join_authorised_via_users_server`; "" where it is not a string."""
    payload: dict[str, Any] | None
    """What the content means to the rules: see `hs._fast.auth_payload.payload_of`."""


def make_record(
    version: int,
    nid: int,
    event_id: str,
    type: str,
    state_key: str | None,
    sender: str,
    room_id: str,
    origin_server_ts: int,
    depth: int,
    content: Mapping[str, Any],
    auth_nids: Iterable[int],
    prev_event_ids: Sequence[str] = (),
    redacts: str | None = None,
    rejected: bool = False,
) -> AuthRecord:
    """The auth record of an event; never fails on the content, a wrong one is judged by the rules.

    `auth_nids` are the numbers of all events in the event's auth_events. `room_id` is never empty
    (v12 create events: "!" and the event's hash). `redacts` is the id of the event to redact.
    """
    membership = authoriser = None
    if type == "m.room.member":
        if "membership" in content:
            membership = content["membership"]
            if not isinstance(membership, str) or membership not in _MEMBERSHIPS:
                membership = ""
        if version >= 8 and "join_authorised_via_users_server" in content:
            authoriser = content["join_authorised_via_users_server"]
            if not isinstance(authoriser, str):
                authoriser = ""
    return AuthRecord(
        nid=nid,
        event_id=event_id,
        type=type,
        state_key=state_key,
        sender=sender,
        room_id=room_id,
        origin_server_ts=min(max(origin_server_ts, -_INT64), _INT64),
        depth=min(max(depth, -_INT64), _INT64),
        auth_nids=tuple(auth_nids),
        rejected=bool(rejected),
        has_prev_events=len(prev_event_ids) > 0,
        prev_mark=mark_of(prev_event_ids[0]) if len(prev_event_ids) == 1 else 0,
        redacts=redacts,
        membership=membership,
        authoriser=authoriser,
        payload=payload_of(version, type, sender, membership, content),
    )


def mark_of(event_id: str) -> int:
    """64 bits that stand for an event id."""
    return int.from_bytes(blake2b(_utf8(event_id), digest_size=8).digest(), "little")


# Packed: header, [prev_mark u64], then strings (u16 length, UTF-8) event_id, sender, [type], [state_key],
# [redacts], [authoriser], then the payload's JSON, then the CRC-32 of all that.
_HEADER = struct.Struct("<BHBBqq")  # format, flags, type code, membership code, ts, depth
_FORMAT = 1
_REJECTED, _PREVS, _MARK, _KEY, _KEY_IS_SENDER, _REDACTS, _AUTHORISER, _PAYLOAD = (
    1 << bit for bit in range(8)
)
_TYPES = (
    "",
    "m.room.create",
    "m.room.member",
    "m.room.power_levels",
    "m.room.join_rules",
    "m.room.third_party_invite",
)
_NO_MEMBERSHIP = 255


def pack_record(record: AuthRecord) -> bytes:
    """The record as bytes for the store; without nid, room_id and auth_nids, which are kept beside it."""
    own_key = record.state_key == record.sender
    flags = (
        _REJECTED * record.rejected
        | _PREVS * record.has_prev_events
        | _MARK * (record.prev_mark != 0)
        | _KEY * (record.state_key is not None and not own_key)
        | _KEY_IS_SENDER * own_key
        | _REDACTS * (record.redacts is not None)
        | _AUTHORISER * (record.authoriser is not None)
        | _PAYLOAD * (record.payload is not None)
    )
    code = _TYPES.index(record.type) if record.type in _TYPES else 0
    membership = _NO_MEMBERSHIP if record.membership is None else _MEMBERSHIPS.index(record.membership)
    parts = [_HEADER.pack(_FORMAT, flags, code, membership, record.origin_server_ts, record.depth)]
    if record.prev_mark:
        parts.append(struct.pack("<Q", record.prev_mark))
    parts += [_pack_text(record.event_id), _pack_text(record.sender)]
    if code == 0:
        parts.append(_pack_text(record.type))
    if flags & _KEY and record.state_key is not None:
        parts.append(_pack_text(record.state_key))
    if record.redacts is not None:
        parts.append(_pack_text(record.redacts))
    if record.authoriser is not None:
        parts.append(_pack_text(record.authoriser))
    if record.payload is not None:
        parts.append(json.dumps(record.payload, separators=(",", ":")).encode())
    packed = b"".join(parts)
    return packed + struct.pack("<I", zlib.crc32(packed))


def unpack_record(nid: int, auth_nids: Iterable[int], packed: bytes, room_id: str = "") -> AuthRecord:
    """The record that was packed; ValueError where the bytes are not ours or damaged."""
    packed = bytes(packed)
    if len(packed) < _HEADER.size + 4 or struct.unpack("<I", packed[-4:])[0] != zlib.crc32(packed[:-4]):
        raise ValueError("damaged auth record")
    format, flags, code, membership, ts, depth = _HEADER.unpack_from(packed)
    if format != _FORMAT:
        raise ValueError("auth record of an unknown format")
    reader = _Reader(packed[:-4], _HEADER.size)
    prev_mark = reader.number() if flags & _MARK else 0
    event_id, sender = reader.text(), reader.text()
    type = reader.text() if code == 0 else _TYPES[code]
    state_key = sender if flags & _KEY_IS_SENDER else reader.text() if flags & _KEY else None
    return AuthRecord(
        nid=nid,
        event_id=event_id,
        type=type,
        state_key=state_key,
        sender=sender,
        room_id=room_id,
        origin_server_ts=ts,
        depth=depth,
        auth_nids=tuple(auth_nids),
        rejected=bool(flags & _REJECTED),
        has_prev_events=bool(flags & _PREVS),
        prev_mark=prev_mark,
        redacts=reader.text() if flags & _REDACTS else None,
        membership=None if membership == _NO_MEMBERSHIP else _MEMBERSHIPS[membership],
        authoriser=reader.text() if flags & _AUTHORISER else None,
        payload=json.loads(reader.rest()) if flags & _PAYLOAD else None,
    )


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _pack_text(text: str) -> bytes:
    raw = _utf8(text)
    if len(raw) > 0xFFFF:
        raise ValueError("a string of the event is too long")
    return struct.pack("<H", len(raw)) + raw


class _Reader:
    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def number(self) -> int:
        self.at += 8
        return int.from_bytes(self.data[self.at - 8 : self.at], "little")

    def text(self) -> str:
        start = self.at + 2
        self.at = start + int.from_bytes(self.data[start - 2 : start], "little")
        return self.data[start : self.at].decode("utf-8", "surrogatepass")

    def rest(self) -> bytes:
        return self.data[self.at :]
