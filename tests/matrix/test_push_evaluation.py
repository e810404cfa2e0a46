"""What push rules say of events: the examples of client-server-api/modules/push.md and more."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from hs.matrix.power_levels import CREATOR_POWER
from hs.matrix.property_paths import split_path
from hs.matrix.push_evaluation import (
    MAX_SEARCHED,
    NOTHING,
    Outcome,
    PushEvent,
    RoomFacts,
    build_outcome,
    compile_rules,
)
from hs.matrix.push_rules import NO_RULES, PushRules, Rule, RuleBody, put_rule, set_actions, set_enabled

ALICE = "@alice:hs"
BOB = "@bob:hs"
GROUP = RoomFacts(member_count=10)
PAIR = RoomFacts(member_count=2)


@dataclass
class Sent:
    """An event as far as push rules look at it."""

    type: str = "m.room.message"
    content: dict[str, Any] = field(default_factory=dict)
    state_key: str | None = None
    sender: str = BOB
    room_id: str = "!room:hs"
    event_id: str = "$event"
    redacts: str | None = None
    origin_server_ts: int = 5


def text(body: Any, **content: Any) -> Sent:
    return Sent(content={"msgtype": "m.text", "body": body, **content})


def judge(
    sent: Sent, rules: PushRules = NO_RULES, room: RoomFacts = GROUP, name: str | None = "Alice"
) -> Outcome:
    return compile_rules(rules, ALICE).evaluate(PushEvent(sent), room, name)


def holds(condition: dict[str, Any], sent: Sent, room: RoomFacts = GROUP, name: str | None = "Alice") -> bool:
    """Whether a rule with just this condition decides on the event."""
    marker = {"set_tweak": "marker"}
    rules = put_rule(NO_RULES, "override", "r", RuleBody(["notify", marker], conditions=[condition]))
    return marker in judge(sent, rules, room, name).actions


def event_match(key: str, pattern: Any) -> dict[str, Any]:
    return {"kind": "event_match", "key": key, "pattern": pattern}


# --- default rules --------------------------------------------------------------------------------

PLAIN = Outcome(("notify",), is_notify=True)
DEFAULT_SOUND = {"set_tweak": "sound", "value": "default"}


@pytest.mark.parametrize(
    ("sent", "room", "expected"),
    [
        (text("hello"), GROUP, PLAIN),
        (text("hello"), PAIR, Outcome(("notify", DEFAULT_SOUND), True, False, "default")),
        (Sent("m.room.encrypted"), GROUP, PLAIN),
        (Sent("m.room.encrypted"), PAIR, Outcome(("notify", DEFAULT_SOUND), True, False, "default")),
        (Sent(content={"msgtype": "m.notice", "body": "x"}), PAIR, NOTHING),
        (
            Sent("m.call.invite"),
            GROUP,
            Outcome(("notify", {"set_tweak": "sound", "value": "ring"}), True, False, "ring"),
        ),
        (Sent("m.room.member", {"membership": "join"}, BOB), PAIR, NOTHING),
        (Sent("m.room.member", {"membership": "invite"}, "@carol:hs"), PAIR, NOTHING),
        (
            Sent("m.room.member", {"membership": "invite"}, ALICE),
            GROUP,
            Outcome(("notify", DEFAULT_SOUND), True, False, "default"),
        ),
        (
            text("x", **{"m.mentions": {"user_ids": ["@x:hs", ALICE]}}),
            GROUP,
            Outcome(("notify", DEFAULT_SOUND, {"set_tweak": "highlight"}), True, True, "default"),
        ),
        (text("x", **{"m.mentions": {"user_ids": [BOB]}}), GROUP, PLAIN),
        (text("alice", **{"m.mentions": {"user_ids": ALICE}}), GROUP, PLAIN),
        (
            Sent("m.room.tombstone", {}, ""),
            GROUP,
            Outcome(("notify", {"set_tweak": "highlight"}), True, True, None),
        ),
        (Sent("m.room.tombstone", {}, "elsewhere"), GROUP, NOTHING),
        (Sent("m.room.tombstone", {}), GROUP, NOTHING),
        (Sent("m.reaction"), PAIR, NOTHING),
        (Sent("m.room.server_acl", {}, ""), PAIR, NOTHING),
        (text("* x", **{"m.relates_to": {"rel_type": "m.replace"}}), PAIR, NOTHING),
        (text("x", **{"m.relates_to": {"rel_type": "m.thread"}}), GROUP, PLAIN),
        (Sent("m.room.topic", {"topic": "x"}, ""), PAIR, NOTHING),
        (Sent("custom"), PAIR, NOTHING),
    ],
)
def test_default_rules(sent: Sent, room: RoomFacts, expected: Outcome) -> None:
    assert judge(sent, room=room) == expected


@pytest.mark.parametrize(
    ("power", "levels", "is_highlight"),
    [
        (0, {}, False),
        (49, {}, False),
        (50, {}, True),
        (0, {"room": 0}, True),
        (99, {"room": 100}, False),
        (CREATOR_POWER, {"room": 2**53 - 1}, True),
        (50, {"other": 100}, True),
    ],
)
def test_a_room_mention_needs_the_power_for_it(
    power: int, levels: dict[str, int], is_highlight: bool
) -> None:
    sent = text("x", **{"m.mentions": {"room": True}})
    assert judge(sent, room=RoomFacts(10, power, levels)).is_highlight is is_highlight


def test_a_room_mention_is_true_and_nothing_like_it() -> None:
    for value in (1, "true", None, [True]):
        assert not judge(text("x", **{"m.mentions": {"room": value}}), room=RoomFacts(10, 100)).is_highlight


def test_the_users_own_events_never_notify() -> None:
    assert compile_rules(NO_RULES, BOB).evaluate(PushEvent(text("x")), PAIR) is NOTHING


def test_the_master_switch_is_above_the_users_own_rules() -> None:
    rules = put_rule(NO_RULES, "override", "all", RuleBody(["notify"]))
    assert judge(Sent("custom"), rules).is_notify
    assert judge(Sent("custom"), set_enabled(rules, "override", ".m.rule.master", True)) is NOTHING


def test_changed_defaults_count() -> None:
    rules = set_enabled(NO_RULES, "override", ".m.rule.suppress_notices", False)
    assert judge(Sent(content={"msgtype": "m.notice"}), rules) == PLAIN
    rules = set_actions(NO_RULES, "underride", ".m.rule.message", [])
    assert judge(text("x"), rules) is NOTHING
    rules = set_actions(NO_RULES, "override", ".m.rule.is_user_mention", ["notify"])
    assert judge(text("x", **{"m.mentions": {"user_ids": [ALICE]}}), rules) == PLAIN
    # Others still have the default.
    assert compile_rules(NO_RULES, "@carol:hs").evaluate(PushEvent(text("x")), GROUP) == PLAIN


def test_one_event_is_judged_for_many_users() -> None:
    event = PushEvent(text("x", **{"m.mentions": {"user_ids": [ALICE]}}))
    muted = put_rule(NO_RULES, "room", "!room:hs", RuleBody([]))
    outcomes = [
        compile_rules(rules, user_id).evaluate(event, GROUP)
        for rules, user_id in [
            (NO_RULES, "@carol:hs"),
            (NO_RULES, ALICE),
            (muted, ALICE),
            (muted, "@carol:hs"),
            (NO_RULES, BOB),
        ]
    ]
    assert [outcome.is_notify for outcome in outcomes] == [True, True, True, False, False]
    assert [outcome.is_highlight for outcome in outcomes] == [False, True, True, False, False]


# --- importance -----------------------------------------------------------------------------------


def loud(tweak: str) -> RuleBody:
    return RuleBody(["notify", {"set_tweak": tweak}], pattern="cake")


def test_users_with_one_pattern_share_its_answer_but_not_that_of_another_property() -> None:
    event = PushEvent(text("some caketin", topic="cake"))
    for _ in range(2):
        for pattern, expected in (("cake*", True), ("*tin", True), ("c?ke", False), ("cake", False)):
            body = RuleBody(["notify", {"set_tweak": "highlight"}], pattern=pattern)
            rules = put_rule(NO_RULES, "content", "r", body)
            assert compile_rules(rules, ALICE).evaluate(event, GROUP).is_highlight is expected
    topic = [event_match("content.topic", "c?ke")]
    rules = put_rule(NO_RULES, "override", "r", RuleBody(["notify", {"set_tweak": "highlight"}], topic))
    assert compile_rules(rules, ALICE).evaluate(event, GROUP).is_highlight


def test_long_bodies_are_searched_up_to_a_limit() -> None:
    highlight = RuleBody(["notify", {"set_tweak": "highlight"}], pattern="cake")
    rules = put_rule(NO_RULES, "content", "cake", highlight)
    assert judge(text("x" * (MAX_SEARCHED - 5) + " cake " + "x" * 50_000), rules).is_highlight
    assert not judge(text("x" * MAX_SEARCHED + " cake"), rules).is_highlight


def test_kinds_are_tried_in_order_and_the_first_match_decides() -> None:
    rules = NO_RULES
    kinds = ["underride", "sender", "room", "content", "override"]
    for kind, rule_id in zip(kinds, ["u", BOB, "!room:hs", "c", "o"], strict=True):
        rules = put_rule(rules, kind, rule_id, loud(kind))
        assert judge(text("a cake"), rules).actions[1] == {"set_tweak": kind}
    for kind, rule_id in zip(reversed(kinds), ["o", "c", "!room:hs", BOB, "u"], strict=True):
        assert judge(text("a cake"), rules).actions[1] == {"set_tweak": kind}
        rules = set_enabled(rules, kind, rule_id, False)
    assert judge(text("a cake"), rules) == PLAIN


def test_the_more_important_of_two_matching_rules_decides() -> None:
    tea = Rule("tea", ["notify", {"set_tweak": "tea"}], pattern="tea")
    time = Rule("time", ["notify", {"set_tweak": "time"}], pattern="time")
    sent = text("It's time for tea")
    assert judge(sent, PushRules(content=(tea, time))).actions[1] == {"set_tweak": "tea"}
    assert judge(sent, PushRules(content=(time, tea))).actions[1] == {"set_tweak": "time"}


def test_rules_of_other_rooms_and_senders_do_not_apply() -> None:
    rules = put_rule(NO_RULES, "room", "!other:hs", RuleBody([]))
    rules = put_rule(rules, "sender", "@spambot:hs", RuleBody([]))
    assert judge(text("x"), rules) == PLAIN
    assert judge(Sent(sender="@spambot:hs"), rules) is NOTHING
    assert judge(Sent(room_id="!other:hs"), rules) is NOTHING


def test_override_rules_for_single_rooms_keep_their_place_among_the_others() -> None:
    def rule(rule_id: str, *conditions: dict[str, Any]) -> Rule:
        return Rule(rule_id, ["notify", {"set_tweak": rule_id}], conditions=list(conditions))

    here = rule("here", event_match("room_id", "!room:hs"))
    there = rule("there", event_match("room_id", "!other:hs"))
    shout = rule("shout", event_match("content.body", "hey"))
    for override, expected in [
        ((here, shout, there), "here"),
        ((shout, here, there), "shout"),
        ((there, shout, here), "shout"),
        ((there, here), "here"),
    ]:
        assert judge(text("hey"), PushRules(override=override)).actions[1] == {"set_tweak": expected}
    narrow = rule("narrow", event_match("room_id", "!room:hs"), event_match("type", "custom"))
    assert judge(text("x"), PushRules(override=(narrow,))) == PLAIN
    assert holds(event_match("room_id", "!ro*:hs"), text("x"))


def test_a_rule_whose_kind_of_condition_is_unknown_never_matches() -> None:
    assert not holds({"kind": "org.example.new"}, text("x"))
    assert not holds({"kind": "device"}, text("x"))


def test_all_conditions_must_hold() -> None:
    both = [event_match("type", "m.room.message"), event_match("content.body", "cake")]
    rules = put_rule(NO_RULES, "override", "r", RuleBody([], conditions=both))
    assert judge(text("cake"), rules) is NOTHING
    assert judge(text("pie"), rules) == PLAIN


# --- conditions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        ("lunc?*", "Lunch plans", True),
        ("lunc?*", "LUNCH", True),
        ("lunc?*", " lunch", False),
        ("lunc?*", "lunc", False),
        ("lunc?*", None, False),
        ("*", None, False),
        ("*", 5, False),
        ("*", ["x"], False),
        ("*", "", True),
        ("", "", True),
        ("", "x", False),
        ("LUNCH", "lunch", True),
        ("a.c", "abc", False),
        ("*\n*", "two\nlines", True),
        ("ÄRGER", "ärger", True),
    ],
)
def test_event_match_compares_the_whole_value(pattern: str, value: Any, expected: bool) -> None:
    sent = Sent("m.room.topic", {"topic": value}, "")
    assert holds(event_match("content.topic", pattern), sent) is expected


def test_event_match_needs_the_property() -> None:
    assert not holds(event_match("content.topic", "*"), Sent())
    assert not holds(event_match("state_key", "*"), Sent())
    assert holds(event_match("state_key", "*"), Sent(state_key=""))
    assert not holds(event_match("content.body.deeper", "*"), text("x"))
    assert not holds(event_match("nonsense", "*"), text("x"))


@pytest.mark.parametrize(
    ("pattern", "body", "expected"),
    [
        ("ex*ple", "An example event.", True),
        ("ex*ple", "exple", True),
        ("ex*ple", "An exciting triple-whammy", True),
        ("ex*ple", "examples", False),
        ("cake", "Cake!", True),
        ("cake", "pancake", False),
        ("cake", "cakes", False),
        ("cake", "_cake", False),
        ("cake", "cake1", False),
        ("cake", "pancake cake", True),
        # Only ASCII letters are word characters.
        ("cake", "äcake", True),
        ("c?ke", "a coke, please", True),
        ("@room", "hey @room", True),
        ("cake", 5, False),
        ("cake", None, False),
    ],
)
def test_bodies_are_matched_at_word_boundaries(pattern: str, body: Any, expected: bool) -> None:
    assert holds(event_match("content.body", pattern), text(body)) is expected
    rules = put_rule(NO_RULES, "content", "r", RuleBody([], pattern=pattern))
    assert (judge(text(body), rules) is NOTHING) is expected


@pytest.mark.parametrize(
    ("value", "found", "expected"),
    [
        (True, True, True),
        (True, "true", False),
        (True, 1, False),
        (1, True, False),
        (1, 1, True),
        (1, 1.0, False),
        (0, False, False),
        (None, None, True),
        (None, "", False),
        ("a", "a", True),
        ("a", "A", False),
        ("a*", "ab", False),
        (["a"], ["a"], False),
        ({}, {}, False),
        (1.5, 1.5, False),
    ],
)
def test_event_property_is_compares_exactly(value: Any, found: Any, expected: bool) -> None:
    condition = {"kind": "event_property_is", "key": r"content.m\.federate", "value": value}
    assert holds(condition, Sent("m.room.create", {"m.federate": found}, "")) is expected
    contains = condition | {"kind": "event_property_contains"}
    assert holds(contains, Sent("m.room.create", {"m.federate": ["other", found]}, "")) is expected
    assert not holds(contains, Sent("m.room.create", {"m.federate": found}, ""))


def test_an_absent_property_is_not_null() -> None:
    assert not holds({"kind": "event_property_is", "key": "content.x", "value": None}, Sent())
    assert not holds({"kind": "event_property_contains", "key": "content.x", "value": None}, Sent())


def test_event_property_contains_compares_whole_items() -> None:
    condition = {"kind": "event_property_contains", "key": "content.alt_aliases", "value": "#myroom:hs"}
    assert holds(condition, Sent(content={"alt_aliases": ["#a:hs", "#myroom:hs"]}))
    assert not holds(condition, Sent(content={"alt_aliases": [":hs", {"#myroom:hs": 1}]}))


@pytest.mark.parametrize(
    ("name", "body", "expected"),
    [
        ("Alice", "hi alice!", True),
        ("Alice", "hi Malice!", False),
        ("Al*", "hi alice", False),
        ("Al*", "hi al*", True),
        ("", "hi", False),
        (None, "hi", False),
        ("Alice", None, False),
    ],
)
def test_contains_display_name(name: str | None, body: Any, expected: bool) -> None:
    assert holds({"kind": "contains_display_name"}, text(body), name=name) is expected


@pytest.mark.parametrize(
    ("is_", "counts"),
    [
        ("2", {2}),
        ("==2", {2}),
        ("<2", {0, 1}),
        ("<=2", {0, 1, 2}),
        (">2", {3, 4}),
        (">=2", {2, 3, 4}),
        ("!=2", set()),
        ("", set()),
        (" 2", set()),
        ("2.0", set()),
        ("-2", set()),
        ("=2", set()),
        ("٢", set()),
        ("9" * 5_000, set()),
        (2, set()),
        (None, set()),
    ],
)
def test_room_member_count(is_: Any, counts: set[int]) -> None:
    condition = {"kind": "room_member_count", "is": is_}
    assert {count for count in range(5) if holds(condition, text("x"), RoomFacts(count))} == counts


@pytest.mark.parametrize(
    "condition",
    [
        {"kind": "event_match"},
        {"kind": "event_match", "key": "type"},
        {"kind": "event_match", "key": 5, "pattern": "*"},
        {"kind": "event_match", "key": "type", "pattern": None},
        {"kind": "event_property_is", "key": "type"},
        {"kind": "event_property_contains", "value": "x"},
        {"kind": "room_member_count"},
        {"kind": "sender_notification_permission"},
        {"kind": "sender_notification_permission", "key": []},
    ],
)
def test_conditions_that_lack_a_parameter_hold_for_no_event(condition: dict[str, Any]) -> None:
    assert not holds(condition, text("x"), RoomFacts(2, 100))


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("content.body", ("content", "body")),
        (r"content.m\.relates_to", ("content", "m.relates_to")),
        (r"content.m\\foo", ("content", "m\\foo")),
        (r"content.m\foo", ("content", "m\\foo")),
        (r"a\\.b", ("a\\", "b")),
        (r"a\\\.b", ("a\\.b",)),
        ("", ("",)),
        (".", ("", "")),
        ("a.", ("a", "")),
        ("a\\", ("a\\",)),
        ("two\nlines", ("two\nlines",)),
    ],
)
def test_property_paths(path: str, names: tuple[str, ...]) -> None:
    assert split_path(path) == names


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        ([], NOTHING),
        ([{"set_tweak": "highlight"}], NOTHING),
        (["dont_notify"], NOTHING),
        (["notify", {"set_tweak": "highlight", "value": False}], (False, None)),
        (["notify", {"set_tweak": "highlight", "value": True}], (True, None)),
        (["notify", {"set_tweak": "sound", "value": "ping"}], (False, "ping")),
        (["notify", {"set_tweak": "sound"}], (False, None)),
        (["notify", {"set_tweak": "sound", "value": 5}], (False, None)),
    ],
)
def test_outcomes_of_actions(actions: list[Any], expected: Any) -> None:
    outcome = build_outcome(actions)
    if expected is NOTHING:
        assert outcome is NOTHING
    else:
        assert outcome.is_notify
        assert (outcome.is_highlight, outcome.sound) == expected
