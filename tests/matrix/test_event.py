"""What is valid about an event by itself. Spec: server-server-api "PDUs", client-server-api "Size limits"."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hs.matrix.event import (
    InvalidEvent,
    add_signature,
    event_from_stored,
    parse_event,
    pdu_dict,
    reference_pair,
    sign_event,
)
from hs.matrix.keys import signing_key_from_seed
from hs.matrix.room_versions import ROOM_VERSIONS, RoomVersion, get_room_version

KEY = signing_key_from_seed("a_1", b"\x01" * 32)
VERSIONS = list(ROOM_VERSIONS.values())
HASH = "Rqnc-F-dvnEYJTyHq_iKxU2bZ1CI92-kuZq3a5lr5Zg"
every_version = pytest.mark.parametrize("version", VERSIONS, ids=lambda v: "v" + v.id)


def room_id_of(version: RoomVersion) -> str:
    return "!" + HASH if version.number >= 12 else "!room:example.org"


def message(version: RoomVersion, **changes: Any) -> dict[str, Any]:
    return {
        "type": "m.room.message",
        "room_id": room_id_of(version),
        "sender": "@alice:example.org",
        "content": {"body": "hello"},
        "origin_server_ts": 1_700_000_000_000,
        "depth": 7,
        "prev_events": ["$prev:example.org", "$other:example.org"],
        "auth_events": ["$auth:example.org"],
        **changes,
    }


def wire(version: RoomVersion, **changes: Any) -> dict[str, Any]:
    """A signed PDU as it comes over the wire, changed afterwards: None takes a key away."""
    pdu = pdu_dict(sign_event(message(version), version, "example.org", KEY))
    pdu |= changes
    return {key: value for key, value in pdu.items() if value is not None}


def rule_of(pdu: Any, version: RoomVersion) -> str:
    with pytest.raises(InvalidEvent) as caught:
        parse_event(pdu, version)
    assert caught.value.reason
    return caught.value.rule


@every_version
def test_a_signed_event_is_received_as_it_was_sent(version: RoomVersion) -> None:
    sent = sign_event(message(version), version, "example.org", KEY)
    received = parse_event(pdu_dict(sent) | {"unsigned": {"age": 1.5}}, version)
    for event in (sent, received, event_from_stored(sent.pdu_json, sent.event_id, version)):
        assert event.event_id == sent.event_id
        assert event.room_id == room_id_of(version)
        assert event.prev_events == ("$prev:example.org", "$other:example.org")
        assert event.auth_events == ("$auth:example.org",)
        assert (event.type, event.sender, event.state_key) == ("m.room.message", "@alice:example.org", None)
        assert (event.origin_server_ts, event.depth) == (1_700_000_000_000, 7)
        assert event.content == {"body": "hello"}
        assert event.pdu_json == sent.pdu_json
        assert b'"unsigned"' not in event.pdu_json
        assert not event.is_state
        assert not event.redacted_for_hash
        assert event.redacts is None


def test_event_ids_by_version() -> None:
    ids = {v.number: sign_event(message(v), v, "example.org", KEY).event_id for v in VERSIONS}
    # v1, v2: "$opaque_id:domain", our choice; the same draft gets the same id.
    assert ids[1] == ids[2]
    assert ids[1].endswith(":example.org")
    # v3: standard base64; since v4: the same hash in the URL-safe alphabet.
    assert ids[3].translate(str.maketrans("+/", "-_")) == ids[4] == ids[10]
    assert all(len(ids[n]) == 44 for n in range(3, 13))


@every_version
def test_references_by_version(version: RoomVersion) -> None:
    pdu = wire(version)
    if version.number <= 2:
        assert pdu["auth_events"] == [["$auth:example.org", {}]]
    else:
        assert pdu["auth_events"] == ["$auth:example.org"]


def test_a_draft_may_bring_the_reference_hashes_of_version_1() -> None:
    version = get_room_version("1")
    first = sign_event(message(version), version, "example.org", KEY)
    pair = reference_pair(first.event_id, first.pdu_json, version)
    assert pair[0] == first.event_id
    assert len(pair[1]["sha256"]) == 43
    second = sign_event(message(version, prev_events=[pair]), version, "example.org", KEY)
    assert second.prev_events == (first.event_id,)
    assert pdu_dict(second)["prev_events"] == [pair]


@every_version
def test_the_create_event_and_its_room(version: RoomVersion) -> None:
    create = message(
        version,
        type="m.room.create",
        state_key="",
        prev_events=[],
        auth_events=[],
        room_id="!room:example.org",
    )
    event = sign_event(create, version, "example.org", KEY)
    assert event.is_state
    if version.number >= 12:
        # "Since v12: the room id is the event id of the create event with the sigil ! instead of $."
        assert event.room_id == "!" + event.event_id[1:]
        assert "room_id" not in pdu_dict(event)
        assert rule_of(pdu_dict(event) | {"room_id": event.room_id}, version) == "format.room_id"
    else:
        assert event.room_id == "!room:example.org"
        assert (
            rule_of({k: v for k, v in pdu_dict(event).items() if k != "room_id"}, version) == "format.room_id"
        )
    assert parse_event(pdu_dict(event), version).room_id == event.room_id


@every_version
def test_a_changed_content_leaves_the_redacted_copy(version: RoomVersion) -> None:
    sent = sign_event(
        message(
            version,
            type="m.room.member",
            state_key="@alice:example.org",
            content={"membership": "join", "a": 1},
        ),
        version,
        "example.org",
        KEY,
    )
    pdu = pdu_dict(sent)
    pdu["content"]["a"] = 2
    received = parse_event(pdu, version)
    assert received.redacted_for_hash
    assert received.content == {"membership": "join"}
    # The id hashes the redacted form, so it stays the same.
    assert received.event_id == sent.event_id
    assert pdu_dict(received)["content"] == {"membership": "join"}
    assert pdu_dict(received)["signatures"] == pdu_dict(sent)["signatures"]
    # Received once more, as another server would relay it, it is the same.
    assert parse_event(pdu_dict(received), version).pdu_json == received.pdu_json


def test_a_key_added_on_the_way_is_stripped_with_the_hash_check() -> None:
    version = get_room_version("12")
    received = parse_event(wire(version, extra="x"), version)
    assert received.redacted_for_hash
    assert b"extra" not in received.pdu_json


def test_a_hash_may_be_padded_but_nothing_else() -> None:
    version = get_room_version("12")
    genuine = wire(version)["hashes"]["sha256"]
    assert not parse_event(wire(version, hashes={"sha256": genuine + "="}), version).redacted_for_hash
    for wrong in ("", "!", genuine[:-1], genuine[1:] + "A", genuine + "A", "é"):
        assert parse_event(wire(version, hashes={"sha256": wrong}), version).redacted_for_hash


@every_version
@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"type": None}, "format.type"),
        ({"type": 1}, "format.type"),
        ({"state_key": 1}, "format.state_key"),
        ({"sender": None}, "format.sender"),
        ({"sender": "alice"}, "format.sender"),
        ({"sender": "@alice"}, "format.sender"),
        ({"sender": "@a:b c"}, "format.sender"),
        ({"sender": ["@a:b"]}, "format.sender"),
        ({"room_id": 1}, "format.room_id"),
        ({"room_id": "room"}, "format.room_id"),
        ({"room_id": "!a\x00:b"}, "format.room_id"),
        ({"content": None}, "format.content"),
        ({"content": []}, "format.content"),
        ({"content": "x"}, "format.content"),
        ({"origin_server_ts": None}, "format.origin_server_ts"),
        ({"origin_server_ts": "1"}, "format.origin_server_ts"),
        ({"origin_server_ts": 1.0}, "format.origin_server_ts"),
        ({"origin_server_ts": True}, "format.origin_server_ts"),
        ({"origin_server_ts": 2**63}, "format.origin_server_ts"),
        ({"depth": None}, "format.depth"),
        ({"depth": -1}, "format.depth"),
        # JSON's true is no integer, though Python's is.
        ({"depth": True}, "format.depth"),
        ({"depth": 1.0}, "format.depth"),
        ({"depth": 2**63}, "format.depth"),
        ({"prev_events": None}, "format.prev_events"),
        ({"prev_events": {}}, "format.prev_events"),
        ({"prev_events": "$a"}, "format.prev_events"),
        ({"prev_events": [1]}, "format.prev_events"),
        ({"prev_events": [None]}, "format.prev_events"),
        ({"prev_events": [[]]}, "format.prev_events"),
        ({"prev_events": [["$a:b"]]}, "format.prev_events"),
        ({"prev_events": [["$a:b", "hash"]]}, "format.prev_events"),
        ({"prev_events": [["no sigil", {}]]}, "format.prev_events"),
        ({"auth_events": None}, "format.auth_events"),
        ({"auth_events": ["no sigil"]}, "format.auth_events"),
        ({"auth_events": ["$a\x00b"]}, "format.auth_events"),
        ({"hashes": None}, "format.hashes"),
        ({"hashes": []}, "format.hashes"),
        ({"hashes": {}}, "format.hashes"),
        ({"hashes": {"sha256": 1}}, "format.hashes"),
        ({"hashes": {"sha512": "x"}}, "format.hashes"),
        ({"signatures": None}, "format.signatures"),
        ({"signatures": []}, "format.signatures"),
        ({"signatures": {"a": []}}, "format.signatures"),
        ({"signatures": {"a": {"ed25519:1": 1}}}, "format.signatures"),
    ],
)
def test_the_format_is_checked(version: RoomVersion, changes: dict[str, Any], rule: str) -> None:
    assert rule_of(wire(version, **changes), version) == rule


@every_version
def test_a_state_key_of_null_is_none(version: RoomVersion) -> None:
    pdu = wire(version)
    pdu["state_key"] = None
    assert rule_of(pdu, version) == "format.state_key"


@every_version
def test_depth_ends_where_the_version_says(version: RoomVersion) -> None:
    # Before v6 below 2^63, since v6 what canonical JSON can say.
    most = 2**53 - 1 if version.number >= 6 else 2**63 - 1
    assert sign_event(message(version, depth=most), version, "example.org", KEY).depth == most
    assert sign_event(message(version, depth=0), version, "example.org", KEY).depth == 0
    with pytest.raises(InvalidEvent):
        sign_event(message(version, depth=most + 1), version, "example.org", KEY)


@every_version
def test_references_are_bounded(version: RoomVersion) -> None:
    ids = [f"${n}:example.org" for n in range(21)]
    event = sign_event(
        message(version, prev_events=ids[:20], auth_events=ids[:10]), version, "example.org", KEY
    )
    assert (len(event.prev_events), len(event.auth_events)) == (20, 10)
    for key, most in (("prev_events", 20), ("auth_events", 10)):
        with pytest.raises(InvalidEvent) as caught:
            sign_event(message(version, **{key: ids[: most + 1]}), version, "example.org", KEY)
        assert caught.value.rule == f"format.{key}"


def test_repeated_prev_events_count_once_and_repeated_auth_events_stay() -> None:
    # A repeated auth event is a matter of the auth rules ("duplicate entries ... reject").
    version = get_room_version("12")
    event = sign_event(
        message(version, prev_events=["$a", "$b", "$a"], auth_events=["$c", "$c"]),
        version,
        "example.org",
        KEY,
    )
    assert event.prev_events == ("$a", "$b")
    assert event.auth_events == ("$c", "$c")


def test_room_ids_must_fit_the_version() -> None:
    assert (
        rule_of(wire(get_room_version("11"), room_id="!" + HASH), get_room_version("11")) == "format.room_id"
    )
    v12 = get_room_version("12")
    for wrong in ("!room:example.org", "!" + HASH[1:], "!" + HASH + "A", "$" + HASH, f"!{HASH}\n"):
        assert rule_of(wire(v12, room_id=wrong), v12) == "format.room_id"


def test_event_ids_of_versions_1_and_2_are_checked() -> None:
    version = get_room_version("2")
    for wrong in (None, 1, "id:example.org", "$id", "$id:", "$id:exa mple", "$a\x00:b"):
        assert rule_of(wire(version, event_id=wrong), version) == "format.event_id"
    assert rule_of(wire(version, event_id="$" + "a" * 250 + ":b.org"), version) == "size.event_id"


@every_version
@pytest.mark.parametrize(
    ("key", "longest", "too_long"),
    [
        ("type", "t" * 255, "t" * 256),
        # Bytes count, not characters.
        ("type", "ä" * 127, "ä" * 128),
        ("state_key", "k" * 255, "k" * 256),
        ("state_key", "本" * 85, "本" * 86),
        ("sender", "@" + "a" * 242 + ":example.org", "@" + "a" * 243 + ":example.org"),
        ("sender", "@" + "ä" * 121 + ":example.org", "@" + "ä" * 122 + ":example.org"),
    ],
)
def test_fields_have_255_bytes_at_most(version: RoomVersion, key: str, longest: str, too_long: str) -> None:
    assert sign_event(message(version, **{key: longest}), version, "example.org", KEY)
    with pytest.raises(InvalidEvent) as caught:
        sign_event(message(version, **{key: too_long}), version, "example.org", KEY)
    assert caught.value.rule == f"size.{key}"


@every_version
def test_an_event_has_64_kib_at_most(version: RoomVersion) -> None:
    base = len(sign_event(message(version, content={"body": ""}), version, "example.org", KEY).pdu_json)
    room = 65_536 - base
    largest = sign_event(message(version, content={"body": "x" * room}), version, "example.org", KEY)
    assert len(largest.pdu_json) == 65_536
    # What only this server adds does not count.
    assert (
        parse_event(pdu_dict(largest) | {"unsigned": {"a": "x" * 1000}}, version).event_id == largest.event_id
    )
    with pytest.raises(InvalidEvent) as caught:
        sign_event(message(version, content={"body": "x" * (room + 1)}), version, "example.org", KEY)
    assert caught.value.rule == "size.event"
    # Signatures of others count.
    pdu = pdu_dict(largest)
    pdu["signatures"]["b"] = {}
    assert rule_of(pdu, version) == "size.event"


@every_version
@pytest.mark.parametrize("number", [1.5, 2**53, -(2**53), 10**40])
def test_numbers_beyond_canonical_json_pass_up_to_version_5(version: RoomVersion, number: float) -> None:
    draft = message(version, content={"n": number})
    if version.number >= 6:
        with pytest.raises(InvalidEvent) as caught:
            sign_event(draft, version, "example.org", KEY)
        assert caught.value.rule == "json"
    else:
        event = sign_event(draft, version, "example.org", KEY)
        assert parse_event(pdu_dict(event), version).content == {"n": number}
        assert event_from_stored(event.pdu_json, event.event_id, version).content == {"n": number}


@every_version
def test_lone_surrogates_and_deep_nesting_are_refused(version: RoomVersion) -> None:
    deep: Any = 0
    for _ in range(600):
        deep = [deep]
    for content in ({"a": "\ud800"}, {"\udfff": 1}, {"a": deep}):
        assert rule_of(wire(version, content=content), version) == "json"
    assert rule_of(wire(version, type="\ud800"), version) == "json"
    assert rule_of(wire(version, sender="@\ud800:b"), version) == "format.sender"
    assert rule_of(wire(version, prev_events=["$\ud800"]), version) == "format.prev_events"


def test_text_with_nul_is_text() -> None:
    # Only identifiers exclude it; what cannot be stored is the storage's matter.
    version = get_room_version("12")
    event = sign_event(
        message(version, state_key="a\x00b", content={"x": "\x00"}), version, "example.org", KEY
    )
    assert event.state_key == "a\x00b"


def test_a_redaction_names_its_target_where_the_version_has_it() -> None:
    for version in VERSIONS:
        draft = message(version, type="m.room.redaction", redacts="$target", content={"reason": "spam"})
        event = sign_event(draft, version, "example.org", KEY)
        pdu = pdu_dict(event)
        assert event.redacts == parse_event(pdu, version).redacts == "$target"
        # Since v11 in the content, and only there.
        assert ("redacts" in pdu, "redacts" in pdu["content"]) == (version.number <= 10, version.number >= 11)
        assert draft["content"] == {"reason": "spam"}


def test_signing_leaves_the_draft_alone_and_drops_what_is_not_signed() -> None:
    version = get_room_version("12")
    draft = message(version, unsigned={"age": 1}, hashes={"sha256": "old"})
    before = repr(draft)
    event = sign_event(draft, version, "example.org", KEY)
    assert repr(draft) == before
    assert b"unsigned" not in event.pdu_json
    assert not parse_event(pdu_dict(event), version).redacted_for_hash


def test_another_server_can_add_its_signature() -> None:
    version = get_room_version("12")
    event = sign_event(message(version), version, "example.org", KEY)
    other = signing_key_from_seed("b", b"\x02" * 32)
    both = add_signature(event, "other.org", other)
    assert set(pdu_dict(both)["signatures"]) == {"example.org", "other.org"}
    assert (both.event_id, both.content) == (event.event_id, event.content)
    assert set(pdu_dict(event)["signatures"]) == {"example.org"}
    again = sign_event(pdu_dict(both), version, "example.org", KEY)
    assert again.pdu_json == both.pdu_json


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=9),
    lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=5), v, max_size=3),
    max_leaves=5,
)


@given(
    st.sampled_from(VERSIONS),
    st.dictionaries(
        st.sampled_from(
            [*message(VERSIONS[0]), "state_key", "event_id", "hashes", "signatures", "redacts", "unsigned"]
        ),
        json_values,
        max_size=4,
    ),
    st.sampled_from(["m.room.message", "m.room.create", "m.room.member", "m.room.redaction"]),
)
def test_hostile_pdus_are_invalid_events_or_events(
    version: RoomVersion, changes: dict[str, Any], type: str
) -> None:
    pdu = (
        pdu_dict(sign_event(message(version, type="x"), version, "example.org", KEY))
        | {"type": type}
        | changes
    )
    try:
        event = parse_event(pdu, version)
    except InvalidEvent:
        return
    assert event_from_stored(event.pdu_json, event.event_id, version).content == event.content
