"""Events: PDUs that were found valid by themselves. (Signatures only; the body is being written.)"""

from typing import Any

import msgspec
from signedjson.types import SigningKey

from hs.matrix.room_versions import RoomVersion


class InvalidEvent(ValueError):
    """The PDU is not a valid event; `rule` names the check ("size.type"), `reason` says it in words."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(f"{rule}: {reason}")
        self.rule = rule
        self.reason = reason


class Event(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """An event that is valid by itself; whether it is allowed is another question."""

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
    """The event a PDU describes; InvalidEvent where it is not valid by itself."""
    raise NotImplementedError


def sign_event(
    proto: dict[str, Any], version: RoomVersion, server_name: str, signing_key: SigningKey
) -> Event:
    """The finished event of a local draft: hashes, signature and id added."""
    raise NotImplementedError


def event_from_stored(pdu_json: bytes, event_id: str, version: RoomVersion) -> Event:
    """The event of stored bytes that came out of `Event.pdu_json`; nothing is checked again."""
    raise NotImplementedError


def pdu_dict(event: Event) -> dict[str, Any]:
    """The PDU as a new dict, hashes and signatures included, without unsigned."""
    raise NotImplementedError
