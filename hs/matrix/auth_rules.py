"""Whether an event is allowed: by its own auth events, or by a state of the room.

    verdict = check_auth_list(version, record, auth, create)      # check 4 on receipt of a PDU
    verdict = check_auth_state(version, record, state)            # checks 5 and 6
    if isinstance(verdict, Rejected): ...                         # verdict.rule, verdict.reason

What is valid about an event by itself is `hs.matrix.event`'s business, and the signature of a restricted
join's authorising server `hs.matrix.signing`'s. The rules are in `hs._fast.event_auth`; its twin is
the text to read. Spec: server-server-api "Checks performed on receipt of a PDU", rooms/v1 to v12
"Authorisation rules".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

from hs._fast import event_auth
from hs.matrix.event import Event
from hs.matrix.ids import MAX_ID_BYTES
from hs.matrix.keys import ALGORITHM, BadSignature, verify_key_from_base64
from hs.matrix.room_versions import RoomVersion
from hs.matrix.signing import verify_json

__all__ = [
    "Accepted",
    "AuthRecord",
    "Rejected",
    "StateKey",
    "Verdict",
    "check_auth_list",
    "check_auth_state",
    "list_needed_keys",
    "make_record",
    "select_auth_keys",
    "verify_third_party_signed",
]

AuthRecord: TypeAlias = event_auth.AuthRecord
StateKey: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Accepted:
    """The rules allow the event."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The rules refuse the event: the rule ("auth.member.join.5.2") and the reason in words."""

    rule: str
    reason: str


Verdict: TypeAlias = Accepted | Rejected

_ACCEPTED = Accepted()

# An event has room for many thousands of pairs of key and signature, and each costs 50 us: identity servers
# sign once and name two keys.
_MAX_SIGNATURES_TRIED = 64


def make_record(
    event: Event, nid: int, auth: Sequence[AuthRecord], *, is_rejected: bool = False
) -> AuthRecord:
    """The auth record of an event with this number; `auth` are the records of its auth_events."""
    return event_auth.make_record(
        version=event.version.number,
        nid=nid,
        event_id=event.event_id,
        type=event.type,
        state_key=event.state_key,
        sender=event.sender,
        room_id=event.room_id,
        origin_server_ts=event.origin_server_ts,
        depth=event.depth,
        content=event.content,
        auth_nids=[record.nid for record in auth],
        prev_event_ids=event.prev_events,
        redacts=event.redacts,
        rejected=is_rejected,
    )


def select_auth_keys(
    version: RoomVersion, type: str, sender: str, state_key: str | None, content: Mapping[str, Any]
) -> list[StateKey]:
    """The (type, state_key) pairs whose current events belong into a new event's auth_events.

    Spec: server-server-api "Auth events selection". Since v12 the create event is not among them.
    """
    return event_auth.select_auth_keys(version.number, type, sender, state_key, content)


def list_needed_keys(version: RoomVersion, record: AuthRecord) -> list[StateKey]:
    """The (type, state_key) pairs that `check_auth_state` looks at: as selected, and m.room.create in v12 too."""
    return event_auth.list_needed_keys(version.number, record)


def check_auth_list(
    version: RoomVersion,
    record: AuthRecord,
    auth: Sequence[AuthRecord],
    create: AuthRecord | None = None,
) -> Verdict:
    """Judge an event by ALL of its auth events, as a list, so that none can hide behind another.

    `create` is the room's create event, which since v12 is not in the list; without it a v12 event is
    rejected. Before v12 it is ignored: the list has to have it.

    Names of too many bytes are refused here, too: see `parse_event`.
    """
    if _is_too_long(record.type) or _is_too_long(record.state_key):
        return Rejected("size", f"the type or the state key is longer than {MAX_ID_BYTES} bytes")
    return _verdict(
        event_auth.check_auth_list(version.number, record, auth, create, verify_third_party_signed)
    )


def check_auth_state(
    version: RoomVersion, record: AuthRecord, state: Mapping[StateKey, AuthRecord]
) -> Verdict:
    """Judge an event by a state of the room, given at least for `list_needed_keys`."""
    return _verdict(event_auth.check_auth_state(version.number, record, state, verify_third_party_signed))


def _is_too_long(name: str | None) -> bool:
    # A character has four bytes at most: nearly all names are short enough for that.
    return name is not None and len(name) * 4 > MAX_ID_BYTES and len(name.encode()) > MAX_ID_BYTES


def _verdict(rejection: tuple[str, str] | None) -> Verdict:
    return _ACCEPTED if rejection is None else Rejected(*rejection)


def verify_third_party_signed(signed: dict[str, Any], public_keys: Sequence[str]) -> bool:
    """Whether any signature of a third-party invite's `signed` object is by any of the public keys.

    The keys came with the invite, so it does not matter which server and key id the signature names.
    """
    signatures = signed.get("signatures")
    if not isinstance(signatures, dict):
        return False
    pairs = (
        (server, key_id, public_key)
        for server, by_key in signatures.items()
        if isinstance(by_key, dict)
        for key_id in by_key
        if key_id.startswith(ALGORITHM + ":")
        for public_key in public_keys
    )
    return any(_verify(signed, *pair) for pair in islice(pairs, _MAX_SIGNATURES_TRIED))


def _verify(signed: dict[str, Any], server: str, key_id: str, public_key: str) -> bool:
    # Both alphabets of base64 are allowed here.
    standard = public_key.replace("-", "+").replace("_", "/")
    try:
        verify_json(signed, server, key_id, verify_key_from_base64(key_id, standard))
    except (BadSignature, ValueError):
        return False
    return True
