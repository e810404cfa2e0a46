"""What a scripted remote knows: its key, rooms and people; and how it says no."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from signedjson.key import encode_verify_key_base64, get_verify_key
from signedjson.sign import sign_json
from signedjson.types import SigningKey

from tests.remote_room import Pdu, RemoteRoom
from tests.remote_scripts import Reply

DAY_MS = 24 * 3600 * 1000


class Refused(Exception):
    """The request is answered with an error."""

    def __init__(self, status: int, errcode: str, error: str = "no", **more: Any) -> None:
        super().__init__(f"{status} {errcode}: {error}")
        self.reply = Reply(status, {"errcode": errcode, "error": error, **more})


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@dataclass(eq=False)
class RemoteWorld:
    """What a remote knows; tests change it as they like."""

    name: str
    key: SigningKey
    rooms: dict[str, RemoteRoom] = field(default_factory=dict)
    profiles: dict[str, dict[str, Any]] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    openid_tokens: dict[str, str] = field(default_factory=dict)
    old_keys: dict[str, Any] = field(default_factory=dict)
    key_valid_until_ts: int | None = None
    # Key documents of others that this server hands on as a notary, by server name.
    notary_keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    # All that was sent here, in the order of arrival.
    pdus: list[Pdu] = field(default_factory=list)
    edus: list[dict[str, Any]] = field(default_factory=list)
    invites: list[Pdu] = field(default_factory=list)

    def signed(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """The document with this server's signature."""
        return dict(sign_json(dict(document), self.name, self.key))

    def key_document(self) -> dict[str, Any]:
        """What GET /_matrix/key/v2/server says."""
        key = get_verify_key(self.key)
        until = now_ms() + DAY_MS if self.key_valid_until_ts is None else self.key_valid_until_ts
        document = {
            "server_name": self.name,
            "verify_keys": {f"{key.alg}:{key.version}": {"key": encode_verify_key_base64(key)}},
            "old_verify_keys": self.old_keys,
            "valid_until_ts": until,
        }
        return self.signed(document)

    def room(self, room_id: str) -> RemoteRoom:
        """The room; Refused where there is none."""
        found = self.rooms.get(room_id)
        if found is None:
            raise Refused(404, "M_NOT_FOUND", "unknown room")
        return found
