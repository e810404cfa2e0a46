"""The compiled auth rules answer as their twin does, on sane and on absurd events."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import hs._fast.event_auth as kernel
import hs._fast.event_auth_ref as twin
from hs._fast.auth_payload import LEVELS

FIELDS = [
    *("nid", "event_id", "type", "state_key", "sender", "room_id", "origin_server_ts", "depth", "auth_nids"),
    *("rejected", "has_prev_events", "prev_mark", "redacts", "membership", "authoriser", "payload"),
]

USERS = ["@a:x", "@b:y", "@c:x:80", "@d:[::1]"]
TYPES = [
    "m.room.create",
    "m.room.member",
    "m.room.power_levels",
    "m.room.join_rules",
    "m.room.third_party_invite",
    "m.room.aliases",
    "m.room.redaction",
    "m.room.topic",
]

users = st.sampled_from(USERS)
odd_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(),
    st.text(max_size=4),
    st.just([]),
    st.just({}),
    st.just("\ud800"),
)
levels = st.one_of(
    st.sampled_from([0, 25, 50, 100]),
    st.sampled_from(["50", " 0050 ", "+1", "-5", "5.5", "0x1", "", "１", "9" * 400, "0" * 400 + "7"]),
    st.sampled_from([1.9, -1.9, float("inf"), float("nan"), 1e308, 2**53, -(2**53), 10**400, True, None]),
)
sane_levels = st.sampled_from([0, 25, 50, 100])


def level_maps(keys: Sequence[str], values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(st.sampled_from(list(keys)), values, max_size=3)


def power_levels(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(LEVELS, values),
            "users": level_maps(USERS, values),
            "events": level_maps(TYPES, values),
            "notifications": level_maps(["room"], values),
        },
    )


signed = st.fixed_dictionaries(
    {}, optional={"mxid": users, "token": st.sampled_from(["t1", "t2", 5]), "signatures": st.just({"x": {}})}
)
contents = {
    "m.room.create": st.fixed_dictionaries(
        {},
        optional={
            "creator": st.one_of(users, odd_values),
            "m.federate": st.one_of(st.booleans(), odd_values),
            "room_version": st.sampled_from(["1", "12", "13", 10, None]),
            "additional_creators": st.one_of(st.lists(st.one_of(users, odd_values), max_size=2), odd_values),
        },
    ),
    "m.room.member": st.fixed_dictionaries(
        {},
        optional={
            "membership": st.one_of(
                st.sampled_from(["join", "invite", "leave", "ban", "knock", "hug"]), odd_values
            ),
            "join_authorised_via_users_server": st.one_of(users, odd_values),
            "third_party_invite": st.one_of(
                st.fixed_dictionaries({}, optional={"signed": signed}), odd_values
            ),
        },
    ),
    "m.room.power_levels": st.one_of(power_levels(sane_levels), power_levels(levels)),
    "m.room.join_rules": st.fixed_dictionaries(
        {},
        optional={
            "join_rule": st.one_of(
                st.sampled_from(["public", "invite", "knock", "restricted", "knock_restricted", "private"]),
                odd_values,
            )
        },
    ),
    "m.room.third_party_invite": st.fixed_dictionaries(
        {},
        optional={
            "public_key": odd_values,
            "public_keys": st.lists(st.just({"public_key": "k"}), max_size=2),
        },
    ),
}


@st.composite
def events(draw: st.DrawFn, type: str | None = None, tidy: bool = False) -> dict[str, Any]:
    """Arguments of make_record, without the version; `tidy` ones look like state that could be there."""
    type = type or draw(st.sampled_from(TYPES))
    sender = draw(users)
    if type == "m.room.member":
        state_key = draw(users if tidy else st.one_of(users, st.none()))
    elif type == "m.room.third_party_invite":
        state_key = draw(st.sampled_from(["t1", "t2"]))
    elif type in TYPES[:4] and tidy:
        state_key = ""
    else:
        state_key = draw(st.one_of(st.just(""), users, st.none(), st.sampled_from(["x", "y"])))
    prevs = draw(st.sampled_from([["$create:x"], ["$create:x", "$b"], ["$b"], []]))
    return {
        "nid": draw(st.integers(1, 2**40)),
        "event_id": "$create:x"
        if type == "m.room.create"
        else draw(st.sampled_from(["$e1:x", "$e2:y", "$é"])),
        "type": type,
        "state_key": state_key,
        "sender": sender,
        "room_id": draw(st.sampled_from(["!create:x", "!create:x", "!other:y"])) if not tidy else "!create:x",
        "origin_server_ts": draw(st.sampled_from([0, 1, -5, 2**70, -(2**70), 1_700_000_000_000])),
        "depth": draw(st.sampled_from([0, 7, 2**64])),
        "content": draw(contents.get(type, st.just({"body": "x"}))),
        "auth_nids": draw(st.lists(st.integers(1, 9), max_size=3)),
        "prev_event_ids": [] if type == "m.room.create" and tidy else prevs,
        "redacts": draw(st.sampled_from([None, "$r:x", "$r:y"])),
        "rejected": draw(st.sampled_from([False] * 9 + [True])),
    }


@st.composite
def states(draw: st.DrawFn) -> list[dict[str, Any]]:
    """The events of a room state that is mostly complete."""
    chosen = [
        draw(events(type, tidy=True)) for type in TYPES[:4] if draw(st.sampled_from([True] * 5 + [False]))
    ]
    chosen += draw(st.lists(events("m.room.member", tidy=True), max_size=4))
    chosen += draw(st.lists(events("m.room.third_party_invite", tidy=True), max_size=1))
    return list({(event["type"], event["state_key"]): event for event in chosen}.values())


versions = st.integers(1, 12)


def fields(record: Any) -> list[Any]:
    return [getattr(record, name) for name in FIELDS]


def accepts_everything(signed: dict[str, Any], keys: Sequence[str]) -> bool:
    return True


def test_same_names() -> None:
    assert kernel.__all__ == twin.__all__
    assert kernel.CREATOR_POWER == twin.CREATOR_POWER


@settings(max_examples=300)
@given(versions, events())
def test_records_and_their_packed_form(version: int, event: dict[str, Any]) -> None:
    ours, other = kernel.make_record(version, **event), twin.make_record(version, **event)
    assert repr(fields(ours)) == repr(fields(other))
    packed = kernel.pack_record(ours)
    assert packed == twin.pack_record(other)
    again = [
        module.unpack_record(ours.nid, ours.auth_nids, packed, ours.room_id) for module in (kernel, twin)
    ]
    assert repr(fields(again[0])) == repr(fields(again[1])) == repr(fields(other))
    assert kernel.pack_record(again[0]) == packed


@given(st.binary(max_size=120))
@example(b"")
def test_bad_bytes_are_refused(packed: bytes) -> None:
    for module in (kernel, twin):
        with pytest.raises(ValueError):
            module.unpack_record(1, (), packed)


@given(versions, events(), st.data())
def test_damaged_bytes_are_refused(version: int, event: dict[str, Any], data: st.DataObject) -> None:
    packed = bytearray(kernel.pack_record(kernel.make_record(version, **event)))
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    for module in (kernel, twin):
        with pytest.raises(ValueError):
            module.unpack_record(1, (), bytes(packed))


@settings(max_examples=300)
@given(versions, events())
def test_keys(version: int, event: dict[str, Any]) -> None:
    ours, other = kernel.make_record(version, **event), twin.make_record(version, **event)
    assert kernel.list_needed_keys(version, ours) == twin.list_needed_keys(version, other)
    asked = event["type"], event["sender"], event["state_key"], event["content"]
    assert kernel.select_auth_keys(version, *asked) == twin.select_auth_keys(version, *asked)


def _agree(version: int, event: dict[str, Any], state: list[dict[str, Any]], verify: Any) -> None:
    """Judge by the state, by the list of the selected part of it, and by all of it as a list."""
    answers = []
    for module in (kernel, twin):
        record = module.make_record(version, **event)
        records = [module.make_record(version, **other) for other in state]
        by_key = {(other.type, other.state_key): other for other in records}
        create = by_key.get(("m.room.create", ""))
        selected = [
            by_key[key]
            for key in module.list_needed_keys(version, record)
            if key in by_key and (version < 12 or key[0] != "m.room.create")
        ]
        answers.append(
            (
                module.check_auth_state(version, record, by_key, verify),
                module.check_auth_list(version, record, selected, create, verify),
                module.check_auth_list(version, record, records, create, verify),
                module.check_auth_list(version, record, selected * 2, create, verify),
                module.check_auth_list(version, record, selected, None, verify),
            )
        )
    assert answers[0] == answers[1]


@settings(max_examples=600)
@given(versions, events(), states(), st.sampled_from([None, accepts_everything]))
def test_judgements(version: int, event: dict[str, Any], state: list[dict[str, Any]], verify: Any) -> None:
    _agree(version, event, state, verify)


@settings(max_examples=300)
@given(versions, events("m.room.power_levels"), states(), power_levels(sane_levels))
def test_judgements_of_power_levels(
    version: int, event: dict[str, Any], state: list[dict[str, Any]], content: dict[str, Any]
) -> None:
    joined = [other for other in state if other["type"] != "m.room.member"]
    for user in USERS:
        member = {
            **event,
            "type": "m.room.member",
            "state_key": user,
            "sender": user,
            "event_id": f"$m{user}",
        }
        joined.append({**member, "content": {"membership": "join"}, "rejected": False})
    _agree(version, event, joined, None)
    _agree(version, {**event, "content": content}, joined, None)


MEMBERSHIPS = st.sampled_from(["join", "join", "invite", "leave", "ban", "knock"])


@st.composite
def orderly_rooms(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A state in which everything is as it should be, and where anybody may be anything."""
    sane = draw(events("m.room.create", tidy=True)) | {"rejected": False, "sender": USERS[0]}
    create = {**sane, "content": {"creator": USERS[0]}}
    rules = ["public", "invite", "knock", "restricted", "knock_restricted", "private"]
    state = [create]
    if draw(st.booleans()):
        levels = draw(power_levels(sane_levels))
        if "users" in levels:
            levels["users"].pop(USERS[0], None)
        state.append({**sane, "type": "m.room.power_levels", "event_id": "$p", "content": levels})
    if draw(st.sampled_from([True, True, False])):
        content = {"join_rule": draw(st.sampled_from(rules))}
        state.append({**sane, "type": "m.room.join_rules", "event_id": "$j", "content": content})
    if draw(st.booleans()):
        invite = {**sane, "type": "m.room.third_party_invite", "state_key": "t1", "event_id": "$t"}
        state.append({**invite, "content": {"public_key": "k"}})
    for user in USERS:
        if draw(st.sampled_from([True, True, True, False])):
            content = {"membership": draw(MEMBERSHIPS)}
            member = {**sane, "type": "m.room.member", "state_key": user, "sender": user, "content": content}
            state.append({**member, "event_id": f"$m{user}"})
    return state


@st.composite
def orderly_members(draw: st.DrawFn) -> dict[str, Any]:
    sender = draw(users)
    content = {"membership": draw(MEMBERSHIPS)}
    if draw(st.sampled_from([False, False, True])):
        content["join_authorised_via_users_server"] = draw(users)
    if draw(st.sampled_from([False, False, True])):
        content["third_party_invite"] = {"signed": draw(signed)}
    state_key = draw(st.sampled_from([sender, *USERS]))
    event = draw(events("m.room.topic", tidy=True))
    return {**event, "type": "m.room.member", "sender": sender, "state_key": state_key, "content": content}


@settings(max_examples=800)
@given(versions, orderly_members(), orderly_rooms(), st.sampled_from([None, accepts_everything]))
def test_judgements_of_members(
    version: int, event: dict[str, Any], state: list[dict[str, Any]], verify: Any
) -> None:
    _agree(version, event, state, verify)


@given(versions, st.sampled_from(USERS), events("m.room.create"), st.none() | events("m.room.power_levels"))
def test_power_of(version: int, user: str, create: dict[str, Any], levels: dict[str, Any] | None) -> None:
    answers = [
        module.power_of(
            version,
            user,
            module.make_record(version, **create),
            None if levels is None else module.make_record(version, **levels),
        )
        for module in (kernel, twin)
    ]
    assert answers[0] == answers[1]
    assert kernel.power_of(version, user, None, None) == twin.power_of(version, user, None, None) == 0
