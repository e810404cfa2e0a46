"""Filters: parsing, normal form, matching, and picking fields."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hs.matrix.errors import BadJson, NotJson
from hs.matrix.filters import (
    DEFAULT_LIMIT,
    MAX_LIMIT,
    MAX_WILDCARD_TYPES,
    NO_FILTER,
    EventFilter,
    Filter,
    RoomEventFilter,
    build_matcher,
    compile_filter,
    limit_of,
    parse_filter,
    parse_room_event_filter,
    pick_fields,
)


@dataclass
class Sent:
    """An event as far as filters look at it."""

    type: str = "m.room.message"
    sender: str = "@bob:hs"
    room_id: str = "!room:hs"
    content: dict[str, Any] = field(default_factory=dict)


def matches(sent: Sent, **definition: Any) -> bool:
    return build_matcher(parse_room_event_filter(json.dumps(definition))).matches(sent)


# --- parsing --------------------------------------------------------------------------------------


def test_the_filter_of_the_spec_is_understood() -> None:
    parsed = parse_filter(
        b"""{
        "room": {
          "state": {"types": ["m.room.*"], "not_rooms": ["!726s6s6q:example.com"]},
          "timeline": {
            "limit": 10, "types": ["m.room.message"],
            "not_rooms": ["!726s6s6q:example.com"], "not_senders": ["@spam:example.com"]
          },
          "ephemeral": {"types": ["m.receipt", "m.typing"], "not_senders": ["@spam:example.com"]}
        },
        "presence": {"types": ["m.presence"], "not_senders": ["@alice:example.com"]},
        "event_format": "client",
        "event_fields": ["type", "content", "sender"]
        }"""
    )
    assert parsed.event_fields == ("content", "sender", "type")
    assert parsed.room.timeline.limit == 10
    assert parsed.room.state.types == ("m.room.*",)
    assert parsed.room.ephemeral == RoomEventFilter(
        types=("m.receipt", "m.typing"), not_senders=("@spam:example.com",)
    )
    assert parsed.presence == EventFilter(types=("m.presence",), not_senders=("@alice:example.com",))
    assert not parsed.room.include_leave


def test_an_empty_filter_restricts_nothing() -> None:
    assert parse_filter(b"{}") == NO_FILTER
    assert compile_filter(NO_FILTER).timeline.is_open
    assert compile_filter(NO_FILTER).accepts_room("!any:hs")


def test_unknown_keys_are_ignored_and_null_is_absent() -> None:
    parsed = parse_filter(b'{"new": 1, "room": {"timeline": {"types": null, "x": {}, "contains_url": null}}}')
    assert parsed == NO_FILTER


def test_flags_and_relations_are_parsed() -> None:
    parsed = parse_room_event_filter(
        b'{"lazy_load_members": true, "include_redundant_members": true, "unread_thread_notifications": true,'
        b' "related_by_senders": ["@a:hs"], "related_by_rel_types": ["m.thread"]}'
    )
    assert parsed == RoomEventFilter(
        lazy_load_members=True,
        include_redundant_members=True,
        unread_thread_notifications=True,
        related_by_senders=("@a:hs",),
        related_by_rel_types=("m.thread",),
    )
    matcher = build_matcher(parsed)
    assert not matcher.is_open
    assert matcher.related_by == (("@a:hs",), ("m.thread",))
    assert build_matcher(RoomEventFilter(lazy_load_members=True)).related_by is None
    assert build_matcher(RoomEventFilter(related_by_senders=())).is_closed


@pytest.mark.parametrize(
    "definition",
    [
        [],
        "m.room.message",
        None,
        {"room": []},
        {"room": {"timeline": 5}},
        {"room": {"timeline": {"types": "m.room.message"}}},
        {"room": {"timeline": {"types": [5]}}},
        {"room": {"timeline": {"limit": "10"}}},
        {"room": {"timeline": {"limit": -1}}},
        {"room": {"timeline": {"limit": 1.5}}},
        {"room": {"timeline": {"rooms": ["room"]}}},
        {"room": {"timeline": {"contains_url": 1}}},
        {"room": {"state": {"senders": ["bob"]}}},
        {"room": {"include_leave": "yes"}},
        {"room": {"not_rooms": ["#alias:hs"]}},
        {"presence": {"not_senders": [""]}},
        {"event_format": "other"},
        {"event_fields": {}},
        {"event_fields": [f"f{i}" for i in range(1_001)]},
        {"account_data": {"types": [f"*{i}" for i in range(MAX_WILDCARD_TYPES + 1)]}},
    ],
)
def test_wrong_shapes_are_bad_json(definition: Any) -> None:
    with pytest.raises(BadJson):
        parse_filter(json.dumps(definition))


@pytest.mark.parametrize("text", ["", "{", "{'a': 1}", "nope", "[" * 100_000, b"\xff", '{"room":{}}x'])
def test_what_is_not_json_is_not_json(text: bytes | str) -> None:
    for parse in (parse_filter, parse_room_event_filter):
        with pytest.raises((NotJson, BadJson)):
            parse(text)


@pytest.mark.parametrize(
    ("limit", "expected"), [(None, DEFAULT_LIMIT), (0, 1), (1, 1), (50, 50), (10**9, MAX_LIMIT)]
)
def test_limits_are_bounded(limit: int | None, expected: int) -> None:
    assert limit_of(parse_room_event_filter(json.dumps({"limit": limit}))) == expected


def test_an_endpoint_may_have_its_own_default_limit() -> None:
    assert limit_of(EventFilter(), default=50) == 50


NAMES = st.lists(st.sampled_from(["@a", "@b", "@c"]), max_size=5)


@given(NAMES, st.randoms(use_true_random=False))
def test_filters_that_mean_the_same_are_equal(names: list[str], random: Any) -> None:
    other = names + names[:1]
    random.shuffle(other)
    one, two = (
        parse_filter(json.dumps({"room": {"state": {"senders": senders}}})) for senders in (names, other)
    )
    assert one == two
    assert hash(one) == hash(two)
    assert {one.room.state: 1}[two.room.state] == 1


def test_filters_that_differ_are_different_keys() -> None:
    texts = [
        "{}",
        '{"event_format": "federation"}',
        '{"event_fields": []}',
        '{"room": {"timeline": {"types": []}}}',
        '{"room": {"timeline": {"not_types": ["x"]}}}',
        '{"room": {"state": {"not_types": ["x"]}}}',
        '{"room": {"state": {"lazy_load_members": true}}}',
        '{"room": {"timeline": {"limit": 10}}}',
        '{"room": {"timeline": {"contains_url": false}}}',
    ]
    assert len({parse_filter(text) for text in texts}) == len(texts)


def test_the_event_shape_is_what_changes_the_look_of_events() -> None:
    one = compile_filter(parse_filter('{"event_fields": ["b", "a"], "room": {"timeline": {"limit": 5}}}'))
    two = compile_filter(parse_filter('{"event_fields": ["a", "b"]}'))
    assert one.event_shape == two.event_shape != compile_filter(Filter()).event_shape


# --- matching -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        ({}, True),
        ({"types": ["m.room.message"]}, True),
        ({"types": ["m.room.*"]}, True),
        ({"types": ["*"]}, True),
        ({"types": ["*.message", "x"]}, True),
        ({"types": ["m.*.message"]}, True),
        ({"types": ["m.room"]}, False),
        ({"types": ["M.ROOM.MESSAGE"]}, False),
        ({"types": ["m.room.messag?"]}, False),
        ({"types": ["m.room.messag?*"]}, False),
        ({"types": []}, False),
        ({"not_types": []}, True),
        ({"not_types": ["m.room.message"]}, False),
        ({"not_types": ["m.*"]}, False),
        ({"not_types": ["*"]}, False),
        # The exclusion wins.
        ({"types": ["m.room.message"], "not_types": ["m.room.message"]}, False),
        ({"senders": ["@bob:hs"]}, True),
        ({"senders": ["@*:hs"]}, False),
        ({"senders": []}, False),
        ({"not_senders": ["@bob:hs"]}, False),
        ({"senders": ["@bob:hs"], "not_senders": ["@bob:hs"]}, False),
        ({"rooms": ["!room:hs"]}, True),
        ({"rooms": ["!other:hs"]}, False),
        ({"not_rooms": ["!room:hs"]}, False),
        ({"rooms": ["!room:hs"], "not_rooms": ["!room:hs"]}, False),
        ({"types": ["m.room.message"], "senders": ["@carol:hs"]}, False),
        ({"contains_url": False}, True),
        ({"contains_url": True}, False),
    ],
)
def test_lists_let_events_through(definition: dict[str, Any], expected: bool) -> None:
    assert matches(Sent(), **definition) is expected


def test_a_question_mark_in_a_type_is_itself() -> None:
    assert matches(Sent("what?now"), types=["what?*"])
    assert not matches(Sent("what!now"), types=["what?*"])
    assert not matches(Sent("what\0now"), types=["what?*"])


def test_contains_url_looks_for_a_url_in_the_content() -> None:
    sent = Sent(content={"url": "mxc://hs/x"})
    assert matches(sent, contains_url=True)
    assert not matches(sent, contains_url=False)
    assert matches(sent)
    assert not matches(Sent(content={"info": {"url": "x"}}), contains_url=True)


@pytest.mark.parametrize("definition", [{"types": []}, {"senders": []}, {"rooms": []}, {"not_types": ["*"]}])
def test_a_filter_that_lets_nothing_through_says_so(definition: dict[str, Any]) -> None:
    matcher = build_matcher(parse_room_event_filter(json.dumps(definition)))
    assert matcher.is_closed
    assert not matcher.is_open


def test_an_unrestricted_matcher_decodes_nothing() -> None:
    class Unreadable:
        @property
        def type(self) -> str:
            raise AssertionError

        sender = room_id = content = type

    assert build_matcher(RoomEventFilter(limit=5, lazy_load_members=True)).matches(Unreadable())  # type: ignore[arg-type]


def test_parts_of_a_filter_can_be_asked_alone() -> None:
    matcher = build_matcher(EventFilter(types=("m.*",), not_senders=("@spam:hs",)))
    assert matcher.accepts_type("m.typing")
    assert not matcher.accepts_type("x")
    assert not matcher.accepts_sender("@spam:hs")
    assert matcher.accepts_room("!any:hs")


def test_the_rooms_of_a_filter_stand_above_those_of_its_parts() -> None:
    compiled = compile_filter(
        parse_filter('{"room": {"not_rooms": ["!a:hs"], "timeline": {"not_rooms": ["!b:hs"]}}}')
    )
    assert not compiled.accepts_room("!a:hs")
    assert compiled.accepts_room("!b:hs")
    assert not compiled.timeline.accepts_room("!b:hs")


TYPES = st.sampled_from(["a", "b", "ab", "a*", "*b", "*", "a*b"])
TYPE_LIST = st.none() | st.lists(TYPES, max_size=3)


def naive_accepts(names: list[str] | None, name: str) -> bool:
    return any(
        p == name
        or (p == "*")
        or (p == "a*" and name.startswith("a"))
        or (p == "*b" and name.endswith("b"))
        or (p == "a*b" and len(name) > 1 and name.startswith("a") and name.endswith("b"))
        for p in names or []
    )


@given(TYPE_LIST, TYPE_LIST, st.text("ab", max_size=3))
def test_types_agree_with_the_plain_reading(
    types: list[str] | None, not_types: list[str] | None, name: str
) -> None:
    expected = (types is None or naive_accepts(types, name)) and not naive_accepts(not_types, name)
    assert matches(Sent(name), types=types, not_types=not_types) is expected


# --- picking fields -------------------------------------------------------------------------------

EVENT = {
    "type": "m.room.message",
    "sender": "@bob:hs",
    "content": {"body": "x", "m.relates_to": {"rel_type": "m.thread", "event_id": "$e"}, "n": None},
}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([], {}),
        (["type", "sender"], {"type": "m.room.message", "sender": "@bob:hs"}),
        (["content.body"], {"content": {"body": "x"}}),
        (["content.n"], {"content": {"n": None}}),
        ([r"content.m\.relates_to.rel_type"], {"content": {"m.relates_to": {"rel_type": "m.thread"}}}),
        (
            [r"content.m\.relates_to.rel_type", r"content.m\.relates_to.event_id", "content.body"],
            {"content": {"m.relates_to": {"rel_type": "m.thread", "event_id": "$e"}, "body": "x"}},
        ),
        (["content.body", "content"], {"content": EVENT["content"]}),
        (["content.body.deeper", "missing", "content.missing", "", "."], {}),
        (["type.x"], {}),
    ],
)
def test_fields_are_picked(fields: list[str], expected: dict[str, Any]) -> None:
    before = json.dumps(EVENT)
    picked = pick_fields(EVENT, fields)
    assert picked == expected
    assert json.dumps(EVENT) == before


PATHS = st.lists(st.sampled_from(["type", "content", "content.body", r"content.m\.relates_to", "content.n"]))


@given(PATHS)
def test_what_is_picked_does_not_depend_on_the_order(fields: list[str]) -> None:
    assert pick_fields(EVENT, fields) == pick_fields(EVENT, reversed(fields))
