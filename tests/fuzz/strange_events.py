"""Events that another server might send, each wrong in one thing, as bytes: signed rightly wherever that can be done."""

import json
from collections.abc import Iterator
from typing import Any

from hs._fast import event_hash
from hs._fast.canonical_json import CanonicalJsonError
from hs.matrix.keys import sign_bytes
from tests.remote_room import Pdu, RemoteRoom

NUL = "a\x00b"

VALUES: list[Any] = [
    None, True, False, -1, 0, 1, 2**31, 2**53 - 1, 2**53, -(2**53), 2**63 - 1, 2**63, 10**30, 1.0, 1.5, -0.0, 1e300,
    "", "\x00", NUL, "1", "1.5", " 100 ", "x" * 300, "☃" * 90, "\u202e\u2028\r\nINFO forged",
    "@a:b", "$a", "!a:b", "#a:b", [], [None], [[]], [{}], [1.5], ["\x00"], ["$a", "$a"], ["x"] * 30,
    {}, {"": None}, {"\x00": "\x00"}, {"a": {"b": [1.5, None]}}, {"membership": "join"},
]  # fmt: skip

# Fewer, for the many parts that contents have.
FEW_VALUES: list[Any] = [
    None, True, -1, 2**53 - 1, 1.5, "", NUL, "100", "x" * 300, "\u202e\r\nINFO", [], [None], {}, {"x": NUL},
]  # fmt: skip

FIELDS = (
    "type", "sender", "room_id", "content", "origin_server_ts", "depth", "prev_events", "auth_events", "state_key",
    "redacts", "unsigned", "origin", "membership", "event_id", "hashes", "signatures", "prev_state", "age_ts", "\x00",
    "event_nid", "stream_ordering",
)  # fmt: skip


def write(value: Any) -> bytes:
    """JSON of nearly anything."""
    return json.dumps(value, ensure_ascii=True).encode()


def sign(room: RemoteRoom, pdu: Pdu, server: str) -> Pdu:
    """The PDU with hash and signature; with rubbish for them where it has no canonical JSON."""
    assert room.signing_keys is not None
    pdu = {key: value for key, value in pdu.items() if key not in ("hashes", "signatures")}
    try:
        hashes = event_hash.prepare_pdu({**pdu, "signatures": {}}, room.version.number)
    except (CanonicalJsonError, TypeError, ValueError, AttributeError, KeyError):
        return pdu | {"hashes": {"sha256": "x" * 43}, "signatures": {server: {"ed25519:1": "x" * 86}}}
    signatures = sign_bytes(hashes.bytes_to_sign, {}, server, room.signing_keys[server])
    return pdu | {"hashes": {"sha256": hashes.content_hash}, "signatures": signatures}


def with_strange_fields(room: RemoteRoom, sender: str) -> Iterator[Pdu]:
    """A message with each value in each field; what can be signed is, with that value in it."""
    server = sender.partition(":")[2]
    for field in FIELDS:
        for number, value in enumerate(VALUES):
            right = room.forge(sender, origin_server_ts=room.first_ts + number)
            if room.version.has_reference_pairs:
                right["event_id"] = f"$strange-{field.strip(chr(0))}-{number}:{server}"
            yield {**right, field: value}
            if field not in ("hashes", "signatures"):
                yield sign(room, {**right, field: value}, server)


# By type: a content that is right, and the state key of each event; "" and others as they are.
KINDS: dict[str, tuple[str | None, dict[str, Any]]] = {
    "m.room.member": ("@guest{}:{}", {
        "membership": "join", "displayname": "M", "avatar_url": "mxc://a/b", "reason": "x", "is_direct": True,
        "join_authorised_via_users_server": "@a:b", "third_party_invite": {"display_name": "x", "signed": {
            "mxid": "@a:b", "token": "x", "signatures": {"a": {"ed25519:0": "x"}}}},
    }),
    "m.room.power_levels": ("", {
        "users": {"@a:b": 1}, "events": {"m.x": 1}, "users_default": 0, "events_default": 0, "state_default": 50,
        "ban": 50, "kick": 50, "redact": 50, "invite": 0, "notifications": {"room": 50},
    }),
    "m.room.create": ("", {"room_version": "12", "creator": "@a:b", "additional_creators": ["@a:b"], "type": "x",
        "predecessor": {"room_id": "!a:b", "event_id": "$x"}, "m.federate": True}),
    "m.room.join_rules": ("", {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": "!a:b"}]}),
    "m.room.history_visibility": ("", {"history_visibility": "shared"}),
    "m.room.guest_access": ("", {"guest_access": "can_join"}),
    "m.room.server_acl": ("", {"allow": ["*"], "deny": [], "allow_ip_literals": True}),
    "m.room.third_party_invite": ("token", {"display_name": "x", "public_key": "x", "key_validity_url": "https://x/",
        "public_keys": [{"public_key": "x", "key_validity_url": "x"}]}),
    "m.room.name": ("", {"name": "x"}),
    "m.room.topic": ("", {"topic": "x", "m.topic": {"m.text": [{"body": "x", "mimetype": "text/html"}]}}),
    "m.room.avatar": ("", {"url": "mxc://a/b", "info": {"w": 1}}),
    "m.room.canonical_alias": ("", {"alias": "#a:b", "alt_aliases": ["#a:b"]}),
    "m.room.aliases": ("a:b", {"aliases": ["#a:b"]}),
    "m.room.encryption": ("", {"algorithm": "m.megolm.v1.aes-sha2", "rotation_period_ms": 1}),
    "m.room.pinned_events": ("", {"pinned": ["$a"]}),
    "m.room.tombstone": ("", {"body": "x", "replacement_room": "!a:b"}),
    "m.space.child": ("!x:y", {"via": ["a"], "order": "a", "suggested": True}),
    "m.space.parent": ("!x:y", {"via": ["a"], "canonical": True}),
    "m.room.message": (None, {"msgtype": "m.text", "body": "x", "m.mentions": {"user_ids": ["@a:b"], "room": True},
        "m.new_content": {"body": "y"}, "m.relates_to": {"rel_type": "m.thread", "event_id": "{}", "key": "x",
            "is_falling_back": True, "m.in_reply_to": {"event_id": "{}"}}}),
    "m.reaction": (None, {"m.relates_to": {"rel_type": "m.annotation", "event_id": "{}", "key": "x"}}),
    "m.room.redaction": (None, {"redacts": "{}", "reason": "x"}),
    "m.room.encrypted": (None, {"algorithm": "x", "m.relates_to": {"rel_type": "m.replace", "event_id": "{}"}}),
}  # fmt: skip


def with_strange_content(room: RemoteRoom, sender: str, kind: str) -> Iterator[Pdu]:
    """Events of a type with each value in each part of its content."""
    server = sender.partition(":")[2]
    state_key, right = KINDS[kind]
    right = json.loads(json.dumps(right).replace("{}", room.newest.event_id))
    for number, content in enumerate(_strange(right)):
        pdu = room.forge(sender, kind, origin_server_ts=room.first_ts + number)
        pdu["content"] = content
        if state_key is not None:
            pdu["state_key"] = state_key.format(number, server)
        if kind == "m.room.member":
            # Who joins is nobody yet, so that one that goes wrong is no matter of the next.
            pdu["sender"] = pdu["state_key"]
        auth = room.select_auth(
            kind, pdu["sender"], pdu.get("state_key"), {"content": {"membership": "join"}}
        )
        pdu["auth_events"] = room.references(auth)
        if room.version.has_reference_pairs:
            pdu["event_id"] = f"$content-{number}:{server}"
        yield sign(room, pdu, server)


def _strange(right: Any) -> Iterator[Any]:
    """The value with one part of it wrong, or missing, or one too many."""
    if isinstance(right, dict):
        for key, part in right.items():
            yield {k: v for k, v in right.items() if k != key}
            for value in (*FEW_VALUES, *_strange(part)):
                yield right | {key: value}
                if key in ("membership", "redacts", "m.relates_to"):
                    yield {key: value}
        for value in FEW_VALUES:
            yield right | {"x": value, "\x00": 1}
            if isinstance(value, str):
                yield right | {value: value, f"@{value}:b": 50}
                yield right | {value: {value: 1}}
    elif isinstance(right, list) and right:
        for value in (*FEW_VALUES, *_strange(right[0])):
            yield [value]
            yield [*right, value]
