"""A user's push rules as they are stored, changed and shown (client-server-api/modules/push.md, pushrules.yaml)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hs.matrix.errors import BadJson, InvalidParam, MatrixError, MissingParam, NotFound, Unknown
from hs.matrix.push_rules import (
    KINDS,
    MAX_RULES,
    MAX_SEARCH_CHARACTERS,
    NO_RULES,
    PushRules,
    Rule,
    RuleBody,
    decode_rules,
    delete_rule,
    encode_rules,
    follow_room,
    put_rule,
    render,
    render_kind,
    render_rule,
    set_actions,
    set_enabled,
)

ALICE = "@alice:hs"
NOTIFY = RuleBody(["notify"])


def own_ids(rules: PushRules, kind: str) -> list[str]:
    return [rule.rule_id for rule in rules.of(kind)]


def with_rules(kind: str, *rule_ids: str) -> PushRules:
    rules = NO_RULES
    for rule_id in reversed(rule_ids):
        rules = put_rule(rules, kind, rule_id, NOTIFY)
    assert own_ids(rules, kind) == list(rule_ids)
    return rules


def test_a_new_user_has_the_default_rules_in_the_order_of_the_spec() -> None:
    shown = render(NO_RULES, ALICE)["global"]
    assert list(shown) == list(KINDS)
    assert [rule["rule_id"] for rule in shown["override"]] == [
        ".m.rule.master",
        ".m.rule.suppress_notices",
        ".m.rule.invite_for_me",
        ".m.rule.member_event",
        ".m.rule.is_user_mention",
        ".m.rule.is_room_mention",
        ".m.rule.tombstone",
        ".m.rule.reaction",
        ".m.rule.room.server_acl",
        ".m.rule.suppress_edits",
    ]
    assert [rule["rule_id"] for rule in shown["underride"]] == [
        ".m.rule.call",
        ".m.rule.encrypted_room_one_to_one",
        ".m.rule.room_one_to_one",
        ".m.rule.message",
        ".m.rule.encrypted",
    ]
    assert shown["content"] == shown["room"] == shown["sender"] == []
    assert [rule["rule_id"] for rule in shown["override"] if not rule["enabled"]] == [".m.rule.master"]
    assert all(rule["default"] for rules in shown.values() for rule in rules)


def test_default_rules_name_the_user() -> None:
    assert render_rule(NO_RULES, ALICE, "override", ".m.rule.invite_for_me")["conditions"][2] == {
        "kind": "event_match",
        "key": "state_key",
        "pattern": ALICE,
    }
    assert render_rule(NO_RULES, ALICE, "override", ".m.rule.is_user_mention") == {
        "rule_id": ".m.rule.is_user_mention",
        "default": True,
        "enabled": True,
        "conditions": [
            {"kind": "event_property_contains", "key": r"content.m\.mentions.user_ids", "value": ALICE}
        ],
        "actions": ["notify", {"set_tweak": "sound", "value": "default"}, {"set_tweak": "highlight"}],
    }


def test_own_rules_stand_between_the_master_switch_and_the_defaults() -> None:
    rules = put_rule(NO_RULES, "override", "mine", RuleBody(["notify"], conditions=[{"kind": "x"}]))
    shown = render_kind(rules, ALICE, "override")
    assert [rule["rule_id"] for rule in shown][:3] == [".m.rule.master", "mine", ".m.rule.suppress_notices"]
    assert shown[1] == {
        "rule_id": "mine",
        "default": False,
        "enabled": True,
        "actions": ["notify"],
        "conditions": [{"kind": "x"}],
    }
    rules = put_rule(rules, "underride", "low", NOTIFY)
    assert render_kind(rules, ALICE, "underride")[0]["rule_id"] == "low"


def test_each_kind_shows_its_own_keys() -> None:
    rules = put_rule(NO_RULES, "content", "nocake", RuleBody([], pattern="cake*lie"))
    rules = put_rule(rules, "room", "!r:hs", NOTIFY)
    rules = put_rule(rules, "sender", "@bob:hs", NOTIFY)
    assert render_rule(rules, ALICE, "content", "nocake") == {
        "actions": [],
        "pattern": "cake*lie",
        "rule_id": "nocake",
        "enabled": True,
        "default": False,
    }
    assert set(render_rule(rules, ALICE, "room", "!r:hs")) == {"rule_id", "default", "enabled", "actions"}
    assert set(render_rule(rules, ALICE, "sender", "@bob:hs")) == {"rule_id", "default", "enabled", "actions"}


def test_a_new_rule_is_the_most_important_of_the_users() -> None:
    rules = with_rules("override", "a", "b")
    assert own_ids(put_rule(rules, "override", "c", NOTIFY), "override") == ["c", "a", "b"]


def test_a_changed_rule_keeps_its_place_and_switch() -> None:
    rules = set_enabled(with_rules("override", "a", "b"), "override", "b", False)
    rules = put_rule(rules, "override", "b", RuleBody([]))
    assert rules.override == (Rule("a", ["notify"]), Rule("b", [], enabled=False))


@pytest.mark.parametrize(
    ("rule_id", "before", "after", "expected"),
    [
        ("x", "a", None, ["x", "a", "b", "c"]),
        ("x", "c", None, ["a", "b", "x", "c"]),
        ("x", None, "a", ["a", "x", "b", "c"]),
        ("x", None, "c", ["a", "b", "c", "x"]),
        # Where both are given, `before` counts.
        ("x", "b", "c", ["a", "x", "b", "c"]),
        ("a", None, "c", ["b", "c", "a"]),
        ("c", "a", None, ["c", "a", "b"]),
        ("b", None, None, ["a", "b", "c"]),
    ],
)
def test_rules_are_placed_before_and_after_others(
    rule_id: str, before: str | None, after: str | None, expected: list[str]
) -> None:
    rules = put_rule(with_rules("override", "a", "b", "c"), "override", rule_id, NOTIFY, before, after)
    assert own_ids(rules, "override") == expected


@pytest.mark.parametrize("anchor", ["nobody", ".m.rule.message", "x"])
def test_rules_are_placed_beside_the_users_own_only(anchor: str) -> None:
    for before, after in ((anchor, None), (None, anchor)):
        with pytest.raises(Unknown, match="before/after rule not found"):
            put_rule(with_rules("underride", "x"), "underride", "x", NOTIFY, before, after)


@pytest.mark.parametrize(
    ("kind", "rule_id", "body", "error"),
    [
        ("override", ".mine", NOTIFY, InvalidParam),
        ("override", "a/b", NOTIFY, InvalidParam),
        ("override", "a\\b", NOTIFY, InvalidParam),
        ("override", "", NOTIFY, InvalidParam),
        ("override", "a" * 256, NOTIFY, InvalidParam),
        ("nonsense", "a", NOTIFY, InvalidParam),
        ("room", "a", NOTIFY, InvalidParam),
        ("sender", "a", NOTIFY, InvalidParam),
        ("content", "a", NOTIFY, MissingParam),
        ("override", "a", RuleBody(["explode"]), InvalidParam),
        ("override", "a", RuleBody([{"value": 1}]), InvalidParam),
        ("override", "a", RuleBody([{"set_tweak": 1}]), InvalidParam),
        ("override", "a", RuleBody([], conditions=[{}]), BadJson),
        ("override", "a", RuleBody([], conditions=[{"kind": 5}]), BadJson),
        ("override", "a", RuleBody([], conditions=[{"kind": "x"}] * 51), InvalidParam),
    ],
)
def test_wrong_rules_are_refused(kind: str, rule_id: str, body: RuleBody, error: type[MatrixError]) -> None:
    with pytest.raises(error):
        put_rule(NO_RULES, kind, rule_id, body)


def test_historical_actions_are_dropped() -> None:
    rules = put_rule(NO_RULES, "override", "a", RuleBody(["dont_notify", "notify", "coalesce"]))
    assert rules.override[0].actions == ["notify"]
    rules = set_actions(rules, "underride", ".m.rule.message", ["dont_notify"])
    assert render_rule(rules, ALICE, "underride", ".m.rule.message")["actions"] == []


def test_default_rules_are_switched_and_given_actions_but_not_deleted() -> None:
    rules = set_enabled(NO_RULES, "override", ".m.rule.master", True)
    assert render_rule(rules, ALICE, "override", ".m.rule.master")["enabled"] is True
    rules = set_actions(rules, "override", ".m.rule.master", ["notify"])
    shown = render_rule(rules, ALICE, "override", ".m.rule.master")
    assert (shown["enabled"], shown["actions"]) == (True, ["notify"])
    with pytest.raises(NotFound):
        delete_rule(rules, "override", ".m.rule.master")


def test_own_rules_are_deleted_and_then_unknown() -> None:
    rules = delete_rule(with_rules("override", "a", "b"), "override", "a")
    assert own_ids(rules, "override") == ["b"]
    for call in (
        lambda: delete_rule(rules, "override", "a"),
        lambda: render_rule(rules, ALICE, "override", "a"),
        lambda: set_enabled(rules, "override", "a", True),
        lambda: set_actions(rules, "override", "a", []),
        # A default rule is one of its own kind only.
        lambda: set_enabled(rules, "content", ".m.rule.message", True),
        lambda: render_rule(rules, ALICE, "content", ".m.rule.message"),
    ):
        with pytest.raises(NotFound):
            call()


def test_what_a_user_may_store_is_bounded() -> None:
    half = "x" * (MAX_SEARCH_CHARACTERS // 2 + 1)
    rules = put_rule(NO_RULES, "content", "a", RuleBody([], pattern=half))
    body = {"kind": "event_match", "key": "content.body", "pattern": half}
    with pytest.raises(InvalidParam):
        put_rule(rules, "override", "b", RuleBody([], conditions=[body]))
    # Plain text that is compared as a whole costs nothing.
    put_rule(rules, "override", "b", RuleBody([], conditions=[body | {"key": "type"}]))

    full = PushRules(sender=tuple(Rule(f"@{i}:hs", []) for i in range(MAX_RULES)))
    with pytest.raises(InvalidParam):
        put_rule(full, "room", "!r:hs", NOTIFY)
    with pytest.raises(InvalidParam):
        set_actions(NO_RULES, "override", ".m.rule.master", [{"set_tweak": "x", "value": "x" * 1_000_001}])


ACTIONS = st.lists(
    st.just("notify")
    | st.fixed_dictionaries({"set_tweak": st.text(max_size=5), "value": st.text(max_size=5)}),
    max_size=3,
)
RULES = st.builds(
    Rule,
    st.text(max_size=5),
    ACTIONS,
    st.booleans(),
    st.lists(st.just({"kind": "x", "n": 1})),
    st.text(max_size=5),
)


@given(st.lists(RULES, max_size=3), st.lists(RULES, max_size=3))
def test_rules_survive_storage(override: list[Rule], content: list[Rule]) -> None:
    rules = PushRules(override=tuple(override), content=tuple(content))
    rules = set_enabled(rules, "override", ".m.rule.master", True)
    assert decode_rules(encode_rules(rules)) == rules
    assert decode_rules(b"{}") == NO_RULES


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcd"), st.none() | st.sampled_from("abcd"), st.none() | st.sampled_from("abcd")
        )
    )
)
def test_any_sequence_of_changes_leaves_each_rule_once(changes: list[tuple[Any, Any, Any]]) -> None:
    rules = NO_RULES
    for rule_id, before, after in changes:
        try:
            rules = put_rule(rules, "underride", rule_id, NOTIFY, before, after)
        except Unknown:
            continue
        ids = own_ids(rules, "underride")
        assert len(set(ids)) == len(ids)
        if before is not None:
            assert ids.index(before) == ids.index(rule_id) + 1
        elif after is not None:
            assert ids.index(rule_id) == ids.index(after) + 1


def test_rules_follow_a_room_to_the_one_that_replaces_it() -> None:
    rules = NO_RULES
    condition = {"kind": "event_match", "key": "room_id", "pattern": "!old:example.org"}
    for kind, rule_id, conditions in (
        ("override", "!old:example.org", [condition]),
        ("override", "mine", [condition]),
        ("room", "!old:example.org", None),
    ):
        rules = put_rule(rules, kind, rule_id, RuleBody([], conditions))
    followed = follow_room(rules, "!old:example.org", "!new:example.org")
    assert [rule.rule_id for rule in followed.room] == ["!new:example.org", "!old:example.org"]
    copied = followed.override[0]
    assert (copied.rule_id, copied.conditions[0]["pattern"]) == ("!new:example.org", "!new:example.org")
    assert len(followed.override) == 3
    assert follow_room(followed, "!old:example.org", "!new:example.org") == followed
    assert follow_room(rules, "!another:example.org", "!new:example.org") == rules
