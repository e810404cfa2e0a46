"""Which keys outlive a redaction, in each room version. Spec: rooms/v1 to v12 "Redactions"."""

from typing import Any

import pytest

from hs.matrix.redaction import find_redacts, redact
from hs.matrix.room_versions import ROOM_VERSIONS, get_room_version

ALL = range(1, 13)

# In every version: what identifies the event, places it in the graph and proves it.
TOP_ALWAYS = [
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
    "auth_events",
    "origin_server_ts",
]
# "Since v11: the top-level origin, membership, and prev_state properties are no longer protected."
TOP_UNTIL_10 = ["origin", "membership", "prev_state"]
# Never protected: `unsigned` is the server's own, `redacts` of a redaction that is redacted says nothing any
# more (up to v10; since v11 it is in the content), the rest is no part of the format.
TOP_NEVER = ["unsigned", "redacts", "replaces_state", "age_ts", "prev_content", "foo"]

# (type, content key) -> the versions in which the key survives.
CONTENT: dict[tuple[str, str], range | list[int]] = {
    ("m.room.member", "membership"): ALL,
    # Since v9: a redacted restricted join must still pass the auth rules.
    ("m.room.member", "join_authorised_via_users_server"): range(9, 13),
    ("m.room.member", "displayname"): [],
    ("m.room.member", "reason"): [],
    # Up to v10 the only key; since v11 there is none of that name, but everything is kept.
    ("m.room.create", "creator"): ALL,
    ("m.room.create", "room_version"): range(11, 13),
    ("m.room.create", "m.federate"): range(11, 13),
    ("m.room.create", "additional_creators"): range(11, 13),
    ("m.room.join_rules", "join_rule"): ALL,
    # Since v8: the rooms whose members may join.
    ("m.room.join_rules", "allow"): range(8, 13),
    ("m.room.join_rules", "foo"): [],
    **{
        ("m.room.power_levels", key): ALL
        for key in [
            "ban",
            "events",
            "events_default",
            "kick",
            "redact",
            "state_default",
            "users",
            "users_default",
        ]
    },
    # Forgotten until v11.
    ("m.room.power_levels", "invite"): range(11, 13),
    ("m.room.power_levels", "notifications"): [],
    # "Since v6: all significant meaning for m.room.aliases has been removed."
    ("m.room.aliases", "aliases"): range(1, 6),
    ("m.room.history_visibility", "history_visibility"): ALL,
    ("m.room.history_visibility", "foo"): [],
    # Since v11 a redaction says in its content what it redacts.
    ("m.room.redaction", "redacts"): range(11, 13),
    ("m.room.redaction", "reason"): [],
    ("m.room.message", "body"): [],
    ("m.room.name", "name"): [],
    ("m.room.third_party_invite", "public_key"): [],
    ("org.example.custom", "membership"): [],
}


@pytest.mark.parametrize("version", ROOM_VERSIONS.values(), ids=lambda v: v.id)
def test_top_level_keys(version: Any) -> None:
    pdu = dict.fromkeys([*TOP_ALWAYS, *TOP_UNTIL_10, *TOP_NEVER], 1) | {
        "type": "m.room.message",
        "content": {},
    }
    kept = set(TOP_ALWAYS) | (set(TOP_UNTIL_10) if version.number <= 10 else set())
    assert set(redact(pdu, version)) == kept


@pytest.mark.parametrize(("type", "key"), CONTENT)
def test_content_keys(type: str, key: str) -> None:
    pdu = {"type": type, "content": {key: {"value": [1]}}}
    surviving = [v.number for v in ROOM_VERSIONS.values() if redact(pdu, v)["content"]]
    assert surviving == list(CONTENT[type, key])
    for version in ROOM_VERSIONS.values():
        redacted = redact(pdu, version)
        assert redacted["content"] in ({}, pdu["content"])


@pytest.mark.parametrize("number", ALL)
def test_of_a_third_party_invite_the_signed_part_survives_since_version_11(number: int) -> None:
    version = get_room_version(str(number))

    def kept(invite: Any) -> Any:
        content = {"membership": "invite", "third_party_invite": invite}
        return redact({"type": "m.room.member", "content": content}, version)["content"]

    signed = {"mxid": "@a:b", "token": "t", "signatures": {}}
    expected = {"third_party_invite": {"signed": signed}} if number >= 11 else {}
    assert kept({"signed": signed, "display_name": "A"}) == {"membership": "invite"} | expected
    # What is malformed keeps as much of its shape as the rule says, and is refused by the auth rules.
    assert kept({"display_name": "A"}) == {"membership": "invite"} | (
        {"third_party_invite": {}} if expected else {}
    )
    assert kept("text") == {"membership": "invite"}


def test_a_state_key_is_not_needed_for_the_content_rules() -> None:
    # The rules go by the event's type alone.
    pdu = {"type": "m.room.create", "content": {"creator": "@a:b"}}
    assert redact(pdu, get_room_version("1"))["content"] == {"creator": "@a:b"}


def test_the_original_stays_as_it_is() -> None:
    content = {"membership": "join", "displayname": "A"}
    pdu = {"type": "m.room.member", "content": content, "unsigned": {}}
    redact(pdu, get_room_version("12"))
    assert pdu == {
        "type": "m.room.member",
        "content": {"membership": "join", "displayname": "A"},
        "unsigned": {},
    }


@pytest.mark.parametrize("content", [None, [], "text", 1])
def test_a_content_that_is_no_object_becomes_empty(content: Any) -> None:
    for version in ROOM_VERSIONS.values():
        assert redact({"type": "m.room.create", "content": content}, version)["content"] == {}


def test_what_a_redaction_redacts() -> None:
    old, new = get_room_version("10"), get_room_version("11")
    pdu = {"type": "m.room.redaction", "redacts": "$top", "content": {"redacts": "$content"}}
    assert find_redacts(pdu, old) == "$top"
    assert find_redacts(pdu, new) == "$content"
    assert find_redacts(pdu | {"type": "m.room.message"}, old) is None
    for wrong in (None, 1, ["$id"], {}):
        assert find_redacts(pdu | {"redacts": wrong}, old) is None
        assert find_redacts(pdu | {"content": {"redacts": wrong}}, new) is None
    assert find_redacts({"type": "m.room.redaction", "content": {}}, old) is None
