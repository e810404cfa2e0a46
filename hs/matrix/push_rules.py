"""A user's push rules: what is kept of them, how they change, and the JSON that clients see.

client-server-api/modules/push.md and the endpoints in pushrules.yaml. Everything is pure: a change takes
a `PushRules` and returns another, the caller stores it. `hs.matrix.push_evaluation` runs them.

| text                 | who wrote it                      | kept in              |
|----------------------|-----------------------------------|----------------------|
| a user's own rule    | the user                          | PushRules.override.. |
| a server-default rule| us (`hs.matrix.push_defaults`)    | nowhere              |
| changes of such      | the user: enabled, actions        | PushRules.changes    |
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from hs.matrix.errors import BadJson, InvalidParam, MissingParam, NotFound, Unknown
from hs.matrix.globs import has_wildcard
from hs.matrix.push_defaults import DEFAULTS, MASTER, DefaultRule, conditions_for

# In the order in which they are tried.
KINDS = ("override", "content", "room", "sender", "underride")

# Bounds of what a user may store. Room and sender rules cost nothing until they apply.
MAX_RULES = 5_000
MAX_ID_LENGTH = 255
MAX_CONDITIONS = 50
# Patterns that need a search through the text of each message; an ordinary keyword has ten characters.
MAX_SEARCH_CHARACTERS = 5_000
# All of a user's rules as JSON: they travel whole in account data.
MAX_BYTES = 1_000_000

# push.md, "Historical Actions": to be ignored wherever they occur.
_IGNORED_ACTIONS = ("dont_notify", "coalesce")

Action = str | dict[str, Any]


class RuleBody(msgspec.Struct, frozen=True):
    """The body of PUT /pushrules/global/{kind}/{ruleId}."""

    actions: list[Action]
    conditions: list[dict[str, Any]] | None = None
    pattern: str | None = None


class Rule(msgspec.Struct, frozen=True, omit_defaults=True):
    """A user's own rule."""

    rule_id: str
    actions: list[Action]
    enabled: bool = True
    conditions: list[dict[str, Any]] = []
    pattern: str = ""


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a user changed of a server-default rule; None is as it was."""

    enabled: bool | None = None
    actions: list[Action] | None = None


class PushRules(msgspec.Struct, frozen=True, omit_defaults=True):
    """A user's own rules by kind, most important first, and changes of default rules by their id."""

    override: tuple[Rule, ...] = ()
    content: tuple[Rule, ...] = ()
    room: tuple[Rule, ...] = ()
    sender: tuple[Rule, ...] = ()
    underride: tuple[Rule, ...] = ()
    changes: dict[str, Change] = {}

    def of(self, kind: str) -> tuple[Rule, ...]:
        """The user's own rules of a kind; InvalidParam where there is no such kind."""
        if kind not in KINDS:
            raise InvalidParam(f"there are no push rules of kind {kind!r}")
        rules: tuple[Rule, ...] = getattr(self, kind)
        return rules


NO_RULES = PushRules()

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(PushRules)


def encode_rules(rules: PushRules) -> bytes:
    """The rules as JSON to store."""
    return _encoder.encode(rules)


def decode_rules(data: bytes) -> PushRules:
    """The rules that `encode_rules` wrote."""
    return _decoder.decode(data)


# --- what clients see -----------------------------------------------------------------------------


def render(rules: PushRules, user_id: str) -> dict[str, Any]:
    """The content of m.push_rules and the answer of GET /pushrules/: all rules in order of importance."""
    return {"global": {kind: render_kind(rules, user_id, kind) for kind in KINDS}}


def render_kind(rules: PushRules, user_id: str, kind: str) -> list[dict[str, Any]]:
    """The rules of one kind, most important first."""
    own = [_render_own(kind, rule) for rule in rules.of(kind)]
    defaults = [_render_default(rules, user_id, rule) for rule in DEFAULTS[kind]]
    # The master switch is above the user's own rules, all other defaults below.
    above = [rule for rule in defaults if rule["rule_id"] == MASTER]
    return above + own + defaults[len(above) :]


def render_rule(rules: PushRules, user_id: str, kind: str, rule_id: str) -> dict[str, Any]:
    """One rule; NotFound where the user has no such rule."""
    default = _find_default(kind, rule_id)
    if default is not None:
        return _render_default(rules, user_id, default)
    return _render_own(kind, _get_own(rules, kind, rule_id))


def _render_own(kind: str, rule: Rule) -> dict[str, Any]:
    rendered = {
        "rule_id": rule.rule_id,
        "default": False,
        "enabled": rule.enabled,
        "actions": _without_ignored(rule.actions),
    }
    if kind in ("override", "underride"):
        rendered["conditions"] = rule.conditions
    elif kind == "content":
        rendered["pattern"] = rule.pattern
    return rendered


def _render_default(rules: PushRules, user_id: str, rule: DefaultRule) -> dict[str, Any]:
    change = rules.changes.get(rule.rule_id, Change())
    return {
        "rule_id": rule.rule_id,
        "default": True,
        "enabled": rule.is_enabled if change.enabled is None else change.enabled,
        "actions": list(rule.actions) if change.actions is None else _without_ignored(change.actions),
        "conditions": conditions_for(rule, user_id),
    }


# --- changes --------------------------------------------------------------------------------------


def put_rule(
    rules: PushRules,
    kind: str,
    rule_id: str,
    body: RuleBody,
    before: str | None = None,
    after: str | None = None,
) -> PushRules:
    """The rules with this one added or changed.

    `before` makes it the next more important than that rule of the user, `after` the next less important;
    `before` counts where both are given. With neither, a new rule becomes the user's most important of its
    kind and a known one keeps its place. A changed rule stays enabled or disabled.

    Raises InvalidParam, MissingParam or BadJson for what is wrong with the rule, Unknown where `before` or
    `after` names no rule of the user.
    """
    others = [rule for rule in rules.of(kind) if rule.rule_id != rule_id]
    index = next((i for i, rule in enumerate(rules.of(kind)) if rule.rule_id == rule_id), None)
    rule = _build_rule(kind, rule_id, body)
    if index is not None:
        rule = msgspec.structs.replace(rule, enabled=rules.of(kind)[index].enabled)
    if before is not None:
        index = _index_of(others, before)
    elif after is not None:
        index = _index_of(others, after) + 1
    others.insert(index or 0, rule)
    changed = _replace(rules, kind, others)
    _check_bounds(changed)
    return changed


def delete_rule(rules: PushRules, kind: str, rule_id: str) -> PushRules:
    """The rules without this one; NotFound where the user has no such rule of their own."""
    _get_own(rules, kind, rule_id)
    return _replace(rules, kind, [rule for rule in rules.of(kind) if rule.rule_id != rule_id])


def set_enabled(rules: PushRules, kind: str, rule_id: str, enabled: bool) -> PushRules:
    """The rules with this one, the user's or a default, switched; NotFound where there is none."""
    if _find_default(kind, rule_id) is not None:
        return _change_default(rules, rule_id, enabled=enabled)
    return _change_own(rules, kind, rule_id, enabled=enabled)


def set_actions(rules: PushRules, kind: str, rule_id: str, actions: Sequence[Action]) -> PushRules:
    """The rules with this one's actions set, also a default's; NotFound where there is none."""
    checked = _check_actions(actions)
    if _find_default(kind, rule_id) is not None:
        changed = _change_default(rules, rule_id, actions=checked)
    else:
        changed = _change_own(rules, kind, rule_id, actions=checked)
    _check_bounds(changed)
    return changed


def follow_room(rules: PushRules, old: str, new: str) -> PushRules:
    """The rules with those about the room `old` repeated for `new`, which replaces it.

    Nothing changes where that was done before, or would be too much.
    """
    followed = rules
    for kind in ("override", "room", "underride"):
        own = rules.of(kind)
        known = {rule.rule_id for rule in own}
        copies = (_copy_for_room(rule, old, new) for rule in own)
        added = [copy for copy in copies if copy is not None and copy.rule_id not in known]
        if added:
            followed = _replace(followed, kind, [*added, *own])
    try:
        _check_bounds(followed)
    except InvalidParam:
        return rules
    return followed


def _copy_for_room(rule: Rule, old: str, new: str) -> Rule | None:
    """The rule about another room; None where it does not say by its id which room it is about."""
    if old not in rule.rule_id:
        return None
    conditions = [
        {**condition, "pattern": new}
        if condition.get("key") == "room_id" and condition.get("pattern") == old
        else condition
        for condition in rule.conditions
    ]
    return msgspec.structs.replace(rule, rule_id=rule.rule_id.replace(old, new), conditions=conditions)


def _replace(rules: PushRules, kind: str, of_kind: Sequence[Rule]) -> PushRules:
    return msgspec.structs.replace(rules, **{kind: tuple(of_kind)})


def _change_default(rules: PushRules, rule_id: str, **changes: Any) -> PushRules:
    change = msgspec.structs.replace(rules.changes.get(rule_id, Change()), **changes)
    return msgspec.structs.replace(rules, changes={**rules.changes, rule_id: change})


def _change_own(rules: PushRules, kind: str, rule_id: str, **changes: Any) -> PushRules:
    old = _get_own(rules, kind, rule_id)
    new = msgspec.structs.replace(old, **changes)
    return _replace(rules, kind, [new if rule is old else rule for rule in rules.of(kind)])


def _find_default(kind: str, rule_id: str) -> DefaultRule | None:
    return next((rule for rule in DEFAULTS.get(kind, ()) if rule.rule_id == rule_id), None)


def _get_own(rules: PushRules, kind: str, rule_id: str) -> Rule:
    for rule in rules.of(kind):
        if rule.rule_id == rule_id:
            return rule
    raise NotFound("the push rule was not found")


def _index_of(rules: Sequence[Rule], rule_id: str) -> int:
    for index, rule in enumerate(rules):
        if rule.rule_id == rule_id:
            return index
    # pushrules.yaml shows exactly this code for it.
    raise Unknown(f"before/after rule not found: {rule_id}")


# --- checks ---------------------------------------------------------------------------------------


def _build_rule(kind: str, rule_id: str, body: RuleBody) -> Rule:
    _check_id(kind, rule_id)
    actions = _check_actions(body.actions)
    if kind in ("override", "underride"):
        return Rule(rule_id, actions, conditions=_check_conditions(body.conditions or []))
    if kind == "content":
        if body.pattern is None:
            raise MissingParam("a content rule needs a pattern")
        return Rule(rule_id, actions, pattern=body.pattern)
    return Rule(rule_id, actions)


def _check_id(kind: str, rule_id: str) -> None:
    if rule_id.startswith("."):
        raise InvalidParam("rule ids that start with a dot are the server's own")
    if not 0 < len(rule_id) <= MAX_ID_LENGTH or "/" in rule_id or "\\" in rule_id:
        raise InvalidParam("invalid rule id")
    sigil = {"room": "!", "sender": "@"}.get(kind, "")
    if not rule_id.startswith(sigil):
        raise InvalidParam(f"the id of a {kind} rule is the id of the {kind} it applies to")


def _without_ignored(actions: Sequence[Action]) -> list[Action]:
    return [action for action in actions if action not in _IGNORED_ACTIONS]


def _check_actions(actions: Sequence[Action]) -> list[Action]:
    for action in actions:
        if isinstance(action, str):
            if action != "notify" and action not in _IGNORED_ACTIONS:
                raise InvalidParam(f"unknown action {action[:50]!r}")
        elif not isinstance(action.get("set_tweak"), str):
            raise InvalidParam("an action is a name or has set_tweak")
    return _without_ignored(actions)


def _check_conditions(conditions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    if len(conditions) > MAX_CONDITIONS:
        raise InvalidParam(f"a rule has at most {MAX_CONDITIONS} conditions")
    # Kinds we do not know are kept: they match nothing, and newer versions may know them.
    if not all(isinstance(condition.get("kind"), str) for condition in conditions):
        raise BadJson("a condition needs a kind")
    return list(conditions)


def _search_characters(rules: PushRules) -> int:
    patterns = [rule.pattern for rule in rules.content]
    for rule in (*rules.override, *rules.underride):
        for condition in rule.conditions:
            pattern = condition.get("pattern")
            if isinstance(pattern, str) and (has_wildcard(pattern) or condition.get("key") == "content.body"):
                patterns.append(pattern)
    return sum(map(len, patterns))


def _check_bounds(rules: PushRules) -> None:
    if sum(len(rules.of(kind)) for kind in KINDS) > MAX_RULES or len(encode_rules(rules)) > MAX_BYTES:
        raise InvalidParam("too many push rules")
    if _search_characters(rules) > MAX_SEARCH_CHARACTERS:
        raise InvalidParam("the patterns of your push rules are too long together")
