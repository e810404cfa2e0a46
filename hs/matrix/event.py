"""Events: PDUs that were found valid by themselves.

Whether an event is allowed in its room is asked elsewhere, of the auth rules. Spec: server-server-api
"Checks performed on receipt of a PDU" steps 1 and 3, "Signing Events"; the event formats of rooms/v1 to
v12; client-server-api "Size limits".
"""

import base64
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from signedjson.types import SigningKey

from hs._fast import event_hash
from hs.matrix.canonical_json import encode_for_room
from hs.matrix.ids import MAX_ID_BYTES, is_server_name, is_user_id
from hs.matrix.keys import decode_base64, encode_base64, sign_bytes
from hs.matrix.redaction import find_redacts, redact
from hs.matrix.room_versions import RoomVersion

MAX_PDU_BYTES: Final = 65_536
MAX_PREV_EVENTS: Final = 20
MAX_AUTH_EVENTS: Final = 10

# What the database can hold; up to v5 JSON may say more.
_MAX_TS: Final = 2**63 - 1

_HASH_ROOM_ID = re.compile(r"![A-Za-z0-9_-]{43}")
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")

_decoder = msgspec.json.Decoder(dict[str, Any])


class InvalidEvent(ValueError):
    """The PDU is not a valid event. `rule` names the check, `reason` says it in words.

    Rules begin with "json" (no canonical JSON), "format" (a key missing or of the wrong type) or "size".
    """

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(f"{rule}: {reason}")
        self.rule = rule
        self.reason = reason


class Event(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """An event that is valid by itself; whether it is allowed is another question.

    `room_id` is always filled, also on the create event of v12, which does not carry it. `prev_events`
    has no repetitions, `auth_events` is as the sender wrote it. `pdu_json` is the PDU in canonical JSON
    with hashes and signatures, without unsigned; where `redacted_for_hash` is set the content hash was
    wrong, and it and `content` are those of the redacted copy.
    """

    event_id: str
    room_id: str
    type: str
    sender: str
    state_key: str | None
    origin_server_ts: int
    depth: int
    prev_events: tuple[str, ...]
    auth_events: tuple[str, ...]
    redacts: str | None
    content: dict[str, Any]
    pdu_json: bytes
    version: RoomVersion
    redacted_for_hash: bool = False

    @property
    def is_state(self) -> bool:
        """Whether the event sets a piece of room state."""
        return self.state_key is not None


def parse_event(pdu: dict[str, Any], version: RoomVersion) -> Event:
    """The event a PDU describes, as its redacted copy where its content hash is wrong.

    Checks everything that is valid or not by itself, but for the signatures. Raises InvalidEvent: the
    PDU is to be dropped. `pdu` must not be changed afterwards: the event shares its content.
    """
    _check_format(pdu, version)
    hashes = _hash(event_hash.hash_pdu, pdu, version)
    _check_sizes(pdu, hashes.pdu_json, is_received=True)
    pdu_json = hashes.pdu_json
    is_genuine = _is_same_hash(pdu["hashes"]["sha256"], hashes.content_hash)
    if not is_genuine:
        pdu = redact(pdu, version)
        pdu_json = event_hash.redacted_json(pdu, version.number)
    return _build(pdu, pdu_json, hashes.event_id, version, redacted_for_hash=not is_genuine)


def sign_event(
    proto: dict[str, Any], version: RoomVersion, server_name: str, signing_key: SigningKey
) -> Event:
    """The finished event of a local draft: content hash, signature and id added; `proto` stays as it is.

    `proto` has all other keys of the PDU. prev_events and auth_events are lists of event ids in every
    version ([id, hashes] pairs are taken too in v1 and v2, where an id alone becomes a pair without
    hashes). In v1 and v2 event_id is made from the content hash where it is missing. Since v11 a top-level
    `redacts` moves into the content. In v12 the create event has no room_id. Signatures of other servers
    in `proto` are kept. Raises InvalidEvent.
    """
    pdu = _complete_proto(proto, version, server_name)
    _check_format(pdu | {"hashes": {"sha256": ""}}, version)
    hashes = _hash(event_hash.prepare_pdu, pdu, version)
    pdu["hashes"] = {"sha256": hashes.content_hash}
    pdu["signatures"] = sign_bytes(hashes.bytes_to_sign, pdu["signatures"], server_name, signing_key)
    pdu_json = encode_for_room(pdu, version)
    _check_sizes(pdu, pdu_json)
    return _build(pdu, pdu_json, hashes.event_id, version)


def add_signature(event: Event, server_name: str, signing_key: SigningKey) -> Event:
    """The same event with one more server's signature, as for invites and restricted joins."""
    pdu = pdu_dict(event)
    message = event_hash.bytes_to_sign(pdu, event.version.number)
    pdu["signatures"] = sign_bytes(message, pdu["signatures"], server_name, signing_key)
    pdu_json = encode_for_room(pdu, event.version)
    _check_sizes(pdu, pdu_json)
    return msgspec.structs.replace(event, pdu_json=pdu_json)


def event_from_stored(
    pdu_json: bytes, event_id: str, version: RoomVersion, *, redacted_for_hash: bool = False
) -> Event:
    """The event of stored bytes that came out of `Event.pdu_json`; nothing is checked again."""
    return _build(_decoder.decode(pdu_json), pdu_json, event_id, version, redacted_for_hash=redacted_for_hash)


def pdu_dict(event: Event) -> dict[str, Any]:
    """The PDU as a new dict, hashes and signatures included, without unsigned."""
    return _decoder.decode(event.pdu_json)


def reference_pair(event_id: str, pdu_json: bytes, version: RoomVersion) -> list[Any]:
    """How prev_events and auth_events of room versions 1 and 2 refer to an event: [id, hashes]."""
    digest = event_hash.reference_hash(_decoder.decode(pdu_json), version.number)
    return [event_id, {"sha256": encode_base64(digest)}]


# --- the checks -----------------------------------------------------------------------------------


def _check_format(pdu: dict[str, Any], version: RoomVersion) -> None:
    """The keys that the room version's event format demands, and their types."""
    _check_text(pdu, "type")
    if "state_key" in pdu:
        _check_text(pdu, "state_key")
    if not is_user_id(pdu.get("sender")):
        _fail_id(pdu.get("sender"), "sender", "not a user id")
    _check_room_id(pdu, version)
    if version.has_reference_pairs and not _is_id_with_server(pdu.get("event_id"), "$"):
        _fail_id(pdu.get("event_id"), "event_id", "not an event id")
    _check_integer(pdu, "origin_server_ts", -_MAX_TS, _MAX_TS)
    _check_integer(pdu, "depth", 0, version.max_depth)
    _check_references(pdu, "prev_events", MAX_PREV_EVENTS, version)
    _check_references(pdu, "auth_events", MAX_AUTH_EVENTS, version)
    if not isinstance(pdu.get("content"), dict):
        raise InvalidEvent("format.content", "content is no object")
    hashes = pdu.get("hashes")
    if not isinstance(hashes, dict) or not isinstance(hashes.get("sha256"), str):
        raise InvalidEvent("format.hashes", "there is no sha256 hash")
    _check_signatures(pdu.get("signatures"))


def _check_text(pdu: dict[str, Any], key: str) -> None:
    if not isinstance(pdu.get(key), str):
        raise InvalidEvent(f"format.{key}", f"{key} is missing or no string")


def _check_integer(pdu: dict[str, Any], key: str, least: int, most: int) -> None:
    value = pdu.get(key)
    # bool is an int to Python, but not to JSON.
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidEvent(f"format.{key}", f"{key} is missing or no integer")
    if not least <= value <= most:
        raise InvalidEvent(f"format.{key}", f"{key} is not between {least} and {most}")


def _check_room_id(pdu: dict[str, Any], version: RoomVersion) -> None:
    room_id = pdu.get("room_id")
    if not version.room_id_is_create_hash:
        if not _is_id_with_server(room_id, "!"):
            _fail_id(room_id, "room_id", "not a room id with a server name")
    elif pdu["type"] == "m.room.create":
        # Since v12: the room id follows from the event.
        if "room_id" in pdu:
            raise InvalidEvent("format.room_id", "a create event has no room_id in this room version")
    elif not isinstance(room_id, str) or not _HASH_ROOM_ID.fullmatch(room_id):
        _fail_id(room_id, "room_id", "not the hash of a create event")


def _fail_id(value: object, key: str, reason: str) -> None:
    # Too long is another error to clients than malformed.
    if isinstance(value, str) and len(value.encode(errors="surrogatepass")) > MAX_ID_BYTES:
        raise InvalidEvent(f"size.{key}", f"{key} is longer than {MAX_ID_BYTES} bytes")
    raise InvalidEvent(f"format.{key}", f"{key} is {reason}")


def _is_id_with_server(value: object, sigil: str) -> bool:
    if not isinstance(value, str) or not value.startswith(sigil) or _NO_TEXT.search(value):
        return False
    _, colon, server_name = value.partition(":")
    return colon == ":" and is_server_name(server_name)


def _check_references(pdu: dict[str, Any], key: str, most: int, version: RoomVersion) -> None:
    references = pdu.get(key)
    if not isinstance(references, (list, tuple)):
        raise InvalidEvent(f"format.{key}", f"{key} is missing or no array")
    if len(references) > most:
        raise InvalidEvent(f"format.{key}", f"{key} has more than {most} entries")
    for reference in references:
        if version.has_reference_pairs:
            if not isinstance(reference, (list, tuple)) or len(reference) != 2:
                raise InvalidEvent(f"format.{key}", f"an entry of {key} is no pair")
            reference, digests = reference
            if not isinstance(digests, dict):
                raise InvalidEvent(f"format.{key}", f"an entry of {key} has no hashes")
        if not isinstance(reference, str) or not reference.startswith("$") or _NO_TEXT.search(reference):
            raise InvalidEvent(f"format.{key}", f"an entry of {key} is no event id")
        if _byte_length(reference) > MAX_ID_BYTES:
            raise InvalidEvent(f"size.{key}", f"an entry of {key} is longer than {MAX_ID_BYTES} bytes")


def _check_signatures(signatures: object) -> None:
    if not isinstance(signatures, dict):
        raise InvalidEvent("format.signatures", "signatures is missing or no object")
    for by_key in signatures.values():
        if not isinstance(by_key, dict) or not all(isinstance(s, str) for s in by_key.values()):
            raise InvalidEvent("format.signatures", "a server's signatures are no object of strings")


def _hash(kernel: Any, pdu: dict[str, Any], version: RoomVersion) -> event_hash.PduHashes:
    try:
        hashes: event_hash.PduHashes = kernel(pdu, version.number)
    except event_hash.CanonicalJsonError as error:
        raise InvalidEvent("json", str(error)) from error
    return hashes


def _check_sizes(pdu: Mapping[str, Any], pdu_json: bytes, *, is_received: bool = False) -> None:
    """InvalidEvent where something is too long.

    Servers have counted characters for years: what others have sent with a longer type or state key is in the
    history of rooms. It is an event, so that the history after it holds together, and `check_auth_list` rejects it.
    """
    if len(pdu_json) > MAX_PDU_BYTES:
        raise InvalidEvent("size.event", f"the event is larger than {MAX_PDU_BYTES} bytes")
    for key in ("sender", "room_id", "type", "state_key", "event_id"):
        value = pdu.get(key)
        if not isinstance(value, str):
            continue
        length = len(value) if is_received and key in ("type", "state_key") else _byte_length(value)
        if length > MAX_ID_BYTES:
            raise InvalidEvent(f"size.{key}", f"{key} is longer than {MAX_ID_BYTES} bytes")


def _byte_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _is_same_hash(given: str, expected: str) -> bool:
    if given == expected:
        return True
    # Padding is tolerated; anything else is another hash.
    try:
        return decode_base64(given) == decode_base64(expected)
    except ValueError:
        return False


# --- putting together ---------------------------------------------------------------------------------


def _complete_proto(proto: dict[str, Any], version: RoomVersion, server_name: str) -> dict[str, Any]:
    pdu = {key: value for key, value in proto.items() if key not in ("hashes", "unsigned")}
    pdu.setdefault("signatures", {})
    if version.redacts_in_content and "redacts" in pdu and isinstance(pdu.get("content"), dict):
        # Since v11: `redacts` is part of the content.
        pdu["content"] = {**pdu["content"], "redacts": pdu.pop("redacts")}
    if version.room_id_is_create_hash and pdu.get("type") == "m.room.create":
        pdu.pop("room_id", None)
    if version.has_reference_pairs:
        for key in ("prev_events", "auth_events"):
            pdu[key] = [[item, {}] if isinstance(item, str) else item for item in pdu.get(key, [])]
        if "event_id" not in pdu:
            digest = _hash(event_hash.prepare_pdu, pdu, version).reference_hash
            opaque = base64.urlsafe_b64encode(digest[:18]).decode()
            pdu["event_id"] = f"${opaque}:{server_name}"
    return pdu


def _build(
    pdu: dict[str, Any],
    pdu_json: bytes,
    event_id: str | None,
    version: RoomVersion,
    *,
    redacted_for_hash: bool = False,
) -> Event:
    assert event_id is not None  # _check_format has seen it
    room_id = pdu.get("room_id")
    return Event(
        event_id=event_id,
        # Since v12: the create event's own id, with the other sigil.
        room_id="!" + event_id[1:] if room_id is None else room_id,
        type=pdu["type"],
        sender=pdu["sender"],
        state_key=pdu.get("state_key"),
        origin_server_ts=pdu["origin_server_ts"],
        depth=pdu["depth"],
        prev_events=tuple(dict.fromkeys(_reference_ids(pdu["prev_events"], version))),
        auth_events=tuple(_reference_ids(pdu["auth_events"], version)),
        redacts=find_redacts(pdu, version),
        content=pdu["content"],
        pdu_json=pdu_json,
        version=version,
        redacted_for_hash=redacted_for_hash,
    )


def _reference_ids(references: list[Any], version: RoomVersion) -> list[str]:
    return [pair[0] for pair in references] if version.has_reference_pairs else references
