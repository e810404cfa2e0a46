"""The compiled event_hash and its twin say the same of any PDU, and change none."""

import copy
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import hs._fast.event_hash as kernel
import hs._fast.event_hash_ref as twin

FUNCTIONS = [
    "bytes_to_sign",
    "content_hash",
    "event_id",
    "hash_pdu",
    "prepare_pdu",
    "redact",
    "redacted_json",
    "reference_hash",
]
FIELDS = ["pdu_json", "content_hash", "bytes_to_sign", "reference_hash", "event_id"]

TYPES = [
    "m.room.member",
    "m.room.create",
    "m.room.join_rules",
    "m.room.power_levels",
    "m.room.aliases",
    "m.room.history_visibility",
    "m.room.redaction",
    "m.room.message",
]
TOP_KEYS = [
    *["event_id", "room_id", "sender", "state_key", "hashes", "signatures", "depth", "prev_events"],
    *["prev_state", "auth_events", "origin", "origin_server_ts", "membership", "unsigned", "redacts"],
    # Around "hashes", which prepare_pdu puts in.
    *["hashe", "hashes!", "hashes\x00", "hasher", 'h"', "", "\U0001f600", "age"],
]
CONTENT_KEYS = [
    *["membership", "join_authorised_via_users_server", "third_party_invite", "displayname", "creator"],
    *["m.federate", "join_rule", "allow", "ban", "events", "events_default", "invite", "kick", "redact"],
    *["state_default", "users", "users_default", "notifications", "aliases", "history_visibility", "redacts"],
]

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**54), 2**54)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=()), max_size=10)
)
values = st.recursive(
    leaves,
    lambda v: st.lists(v, max_size=3) | st.dictionaries(st.sampled_from(["signed", "a", "b"]), v, max_size=3),
    max_leaves=6,
)
contents = st.dictionaries(st.sampled_from(CONTENT_KEYS), values, max_size=8) | values
pdus = st.builds(
    lambda top, rest: top | rest,
    st.dictionaries(st.sampled_from(TOP_KEYS) | st.text(max_size=8), values, max_size=10),
    st.fixed_dictionaries({}, optional={"type": st.sampled_from(TYPES) | values, "content": contents}),
)
versions = st.integers(1, 12)


def outcome(module: Any, name: str, pdu: dict[str, Any], version: int) -> Any:
    try:
        found = getattr(module, name)(pdu, version)
    except module.CanonicalJsonError:
        return "refused"
    return [getattr(found, field) for field in FIELDS] if name in ("hash_pdu", "prepare_pdu") else found


def test_both_have_the_same_names() -> None:
    assert (
        sorted(kernel.__all__)
        == sorted(twin.__all__)
        == sorted([*FUNCTIONS, "CanonicalJsonError", "PduHashes"])
    )
    assert all(hasattr(kernel.PduHashes, field) for field in twin.PduHashes._fields)
    assert list(twin.PduHashes._fields) == FIELDS


@given(pdus, versions)
@example({"type": "m.room.member", "content": {"third_party_invite": {"signed": 1, "display_name": 2}}}, 11)
@example({"type": "m.room.member", "content": {"third_party_invite": {"display_name": 2}}}, 12)
@example({"type": "m.room.create", "content": {"a": {"b": []}}}, 11)
@example({"type": "m.room.create", "content": []}, 12)
@example({"type": ["m.room.create"], "content": {"creator": 1}}, 10)
@example(
    {"hashes!": 1, "hashes": {"sha256": "old"}, "hasher": 2, "signatures": {"a": {}}, "unsigned": {}}, 12
)
@example({}, 1)
def test_every_function_agrees_with_the_twin(pdu: dict[str, Any], version: int) -> None:
    before = copy.deepcopy(pdu)
    for name in FUNCTIONS:
        assert outcome(kernel, name, pdu, version) == outcome(twin, name, pdu, version), name
    assert pdu == before


@given(pdus, versions)
def test_the_parts_agree_with_the_whole(pdu: dict[str, Any], version: int) -> None:
    try:
        found = kernel.hash_pdu(pdu, version)
    except kernel.CanonicalJsonError:
        return
    assert found.content_hash == kernel.content_hash(pdu, version)
    assert found.bytes_to_sign == kernel.bytes_to_sign(pdu, version)
    assert found.reference_hash == kernel.reference_hash(pdu, version)
    assert found.event_id == kernel.event_id(pdu, version)
    # Redacting twice changes nothing more, and neither do signatures and unsigned.
    redacted = kernel.redact(pdu, version)
    assert kernel.redact(redacted, version) == redacted
    assert kernel.event_id(redacted, version) == found.event_id
    assert kernel.event_id(pdu | {"unsigned": 1, "signatures": 2}, version) == found.event_id


@given(pdus, versions)
def test_a_prepared_pdu_hashes_as_a_received_one(pdu: dict[str, Any], version: int) -> None:
    try:
        prepared = kernel.prepare_pdu(pdu, version)
    except kernel.CanonicalJsonError:
        return
    finished = {k: v for k, v in pdu.items() if k not in ("signatures", "unsigned")}
    finished["hashes"] = {"sha256": prepared.content_hash}
    received = kernel.hash_pdu(finished, version)
    for field in FIELDS:
        assert getattr(prepared, field) == getattr(received, field)


@pytest.mark.parametrize("module", [kernel, twin])
def test_unsigned_may_hold_what_an_event_may_not(module: Any) -> None:
    # It is neither hashed nor stored.
    pdu = {"type": "m.room.message", "content": {}, "unsigned": {"age": 1.5}}
    assert b"unsigned" not in module.hash_pdu(pdu, 12).pdu_json


@pytest.mark.parametrize("module", [kernel, twin])
def test_floats_are_refused_since_version_6_only_where_they_count(module: Any) -> None:
    pdu = {"type": "m.room.message", "content": {"geo": 1.5}, "depth": 1}
    assert module.content_hash(pdu, 5)
    with pytest.raises(module.CanonicalJsonError):
        module.content_hash(pdu, 6)
    # The float is redacted away before the reference hash is taken.
    assert module.event_id(pdu, 6)


@pytest.mark.parametrize("module", [kernel, twin])
def test_nesting_counts_the_pdu_itself(module: Any) -> None:
    content: Any = 0
    for _ in range(510):
        content = [content]
    assert module.hash_pdu({"content": {"a": content}}, 12)
    with pytest.raises(module.CanonicalJsonError):
        module.hash_pdu({"content": {"a": [content]}}, 12)


class _Content(dict[str, Any]):
    pass


@pytest.mark.parametrize("type", TYPES)
def test_content_may_be_a_subclass_of_dict(type: str) -> None:
    pdu = {
        "type": type,
        "content": _Content(membership="join", users=_Content(a=1), third_party_invite=_Content()),
    }
    for version in (1, 12):
        for name in FUNCTIONS:
            assert outcome(kernel, name, pdu, version) == outcome(twin, name, pdu, version), name
