"""Hashes, ids and redacted forms of PDUs, by room version.

Spec: server-server-api "Signing Events", rooms/v1 to v12 "Redactions" and "Event IDs". A PDU is decoded JSON,
a dict; nothing here changes it. Every function raises CanonicalJsonError where the PDU, or the part
that counts, has no canonical JSON, strict since room version 6.
"""

import base64
import hashlib
from typing import Any, NamedTuple

from hs._fast.canonical_json_ref import CanonicalJsonError, encode

__all__ = [
    "CanonicalJsonError",
    "PduHashes",
    "bytes_to_sign",
    "content_hash",
    "event_id",
    "hash_pdu",
    "prepare_pdu",
    "redact",
    "redacted_json",
    "reference_hash",
]


class PduHashes(NamedTuple):
    """What hash_pdu and prepare_pdu find out, each field the answer of a function below."""

    pdu_json: bytes  # canonical JSON of the PDU without `unsigned`
    content_hash: str  # unpadded base64, as in hashes.sha256
    bytes_to_sign: bytes
    reference_hash: bytes  # 32 bytes
    event_id: str | None


_TOP_KEYS_V1 = frozenset(
    [
        "event_id",
        "type",
        "room_id",
        "sender",
        "state_key",
        "content",
        "hashes",
        "signatures",
        "depth",
        "prev_events",
        "prev_state",
        "auth_events",
        "origin",
        "origin_server_ts",
        "membership",
    ]
)
# Since v11: origin, membership and prev_state are no longer protected.
_TOP_KEYS_V11 = _TOP_KEYS_V1 - {"origin", "membership", "prev_state"}

_POWER_LEVELS_V1 = [
    "ban",
    "events",
    "events_default",
    "kick",
    "redact",
    "state_default",
    "users",
    "users_default",
]


def _kept_content_keys(type: Any, version: int) -> list[str]:
    match type:
        case "m.room.member":
            # Since v9: a redacted restricted join still says who authorised it.
            return ["membership", "join_authorised_via_users_server"] if version >= 9 else ["membership"]
        case "m.room.create" if version <= 10:
            return ["creator"]
        case "m.room.join_rules":
            # Since v8: `allow`, the rooms of a restricted join rule.
            return ["join_rule", "allow"] if version >= 8 else ["join_rule"]
        case "m.room.power_levels":
            # Since v11: `invite`.
            return [*_POWER_LEVELS_V1, "invite"] if version >= 11 else _POWER_LEVELS_V1
        case "m.room.aliases" if version <= 5:
            return ["aliases"]
        case "m.room.history_visibility":
            return ["history_visibility"]
        case "m.room.redaction" if version >= 11:
            return ["redacts"]
        case _:
            return []


def _redact_content(type: Any, content: Any, version: int) -> dict[str, Any]:
    if not isinstance(content, dict):
        return {}
    # Since v11: m.room.create keeps everything.
    if type == "m.room.create" and version >= 11:
        return content
    kept = {key: content[key] for key in _kept_content_keys(type, version) if key in content}
    if type == "m.room.member" and version >= 11 and isinstance(content.get("third_party_invite"), dict):
        # Since v11: of third_party_invite, the key `signed`.
        invite = content["third_party_invite"]
        kept["third_party_invite"] = {key: invite[key] for key in ("signed",) if key in invite}
    return kept


def redact(pdu: dict[str, Any], version: int) -> dict[str, Any]:
    """A new dict with what outlives a redaction; signatures stay, `unsigned` does not. Values are shared.

    A `content` that is no object becomes {}; one that is missing stays missing.
    """
    top_keys = _TOP_KEYS_V11 if version >= 11 else _TOP_KEYS_V1
    redacted = {key: value for key, value in pdu.items() if key in top_keys}
    if "content" in redacted:
        redacted["content"] = _redact_content(pdu.get("type"), redacted["content"], version)
    return redacted


def redacted_json(pdu: dict[str, Any], version: int) -> bytes:
    """Canonical JSON of the redacted PDU, signatures included."""
    return encode(redact(pdu, version), version >= 6)


def content_hash(pdu: dict[str, Any], version: int) -> str:
    """SHA-256 of the whole PDU without unsigned, signatures and hashes, in unpadded base64."""
    rest = {key: value for key, value in pdu.items() if key not in ("unsigned", "signatures", "hashes")}
    digest = hashlib.sha256(encode(rest, version >= 6)).digest()
    return base64.b64encode(digest).decode().rstrip("=")


def bytes_to_sign(pdu: dict[str, Any], version: int) -> bytes:
    """Canonical JSON of the redacted PDU without signatures: what servers sign and event ids hash."""
    rest = {key: value for key, value in redact(pdu, version).items() if key != "signatures"}
    return encode(rest, version >= 6)


def reference_hash(pdu: dict[str, Any], version: int) -> bytes:
    """SHA-256 of the bytes to sign, 32 bytes."""
    return hashlib.sha256(bytes_to_sign(pdu, version)).digest()


def event_id(pdu: dict[str, Any], version: int) -> str | None:
    """The event's id: "$" and the reference hash in base64 (v3) or URL-safe base64 (since v4).

    In v1 and v2 it is what the PDU says, or None where that is no string.
    """
    if version <= 2:
        given = pdu.get("event_id")
        return given if isinstance(given, str) else None
    alphabet = b"+/" if version == 3 else b"-_"
    return "$" + base64.b64encode(reference_hash(pdu, version), alphabet).decode().rstrip("=")


def hash_pdu(pdu: dict[str, Any], version: int) -> PduHashes:
    """Everything about a PDU that came from somewhere, its own `hashes` taken as they are."""
    whole = {key: value for key, value in pdu.items() if key != "unsigned"}
    return PduHashes(
        encode(whole, version >= 6),
        content_hash(pdu, version),
        bytes_to_sign(pdu, version),
        reference_hash(pdu, version),
        event_id(pdu, version),
    )


def prepare_pdu(pdu: dict[str, Any], version: int) -> PduHashes:
    """Everything about a PDU that is being made: as hash_pdu, with `hashes` set to its content hash.

    Signatures in `pdu` do not count: pdu_json has none.
    """
    proto = {key: value for key, value in pdu.items() if key != "signatures"}
    return hash_pdu(proto | {"hashes": {"sha256": content_hash(pdu, version)}}, version)
