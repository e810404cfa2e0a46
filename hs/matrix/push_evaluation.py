"""What a user's push rules say of an event (client-server-api/modules/push.md).

One event is judged for each member of its room, therefore rules are compiled once per user, an event's
properties are looked up once per event, and rules that are the same for all users are judged once per
event. Usage:

    compiled = compile_rules(rules, user_id)            # keep it until the rules change
    event = PushEvent(...); room = RoomFacts(...)       # once per event
    compiled.evaluate(event, room, display_name)        # for each member
"""

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from hs.matrix.globs import (
    Matcher,
    contains_word,
    has_wildcard,
    is_word,
    split_words,
    whole_matcher,
    word_matcher,
)
from hs.matrix.property_paths import split_path
from hs.matrix.push_defaults import DEFAULTS, MASTER, Action, DefaultRule, conditions_for, is_personal
from hs.matrix.push_rules import PushRules, Rule

Path = tuple[str, ...]
_ABSENT = object()
_BODY: Path = ("content", "body")
# Patterns are looked for in so many characters of a text: a message may have 60,000, and a user 5,000 patterns.
MAX_SEARCHED = 16_384


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is to happen: nothing (no actions), or a notification with tweaks."""

    actions: tuple[Action, ...] = ()
    is_notify: bool = False
    is_highlight: bool = False
    sound: str | None = None


NOTHING = Outcome()


class EventView(Protocol):
    """What is needed of an event; cache records and events have it."""

    @property
    def event_id(self) -> str: ...
    @property
    def room_id(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def sender(self) -> str: ...
    @property
    def state_key(self) -> str | None: ...
    @property
    def redacts(self) -> str | None: ...
    @property
    def origin_server_ts(self) -> int: ...
    @property
    def content(self) -> dict[str, Any]: ...


class PushEvent:
    """An event as conditions see it; remembers what was looked up, so make one for all members of a room."""

    __slots__ = ("_found", "_lowered", "_matches", "_properties", "_words", "room_id", "sender", "shared")

    def __init__(self, event: EventView) -> None:
        self.room_id = event.room_id
        self.sender = event.sender
        self._properties: dict[str, Any] = {
            "event_id": event.event_id,
            "room_id": self.room_id,
            "type": event.type,
            "sender": self.sender,
            "origin_server_ts": event.origin_server_ts,
            "content": event.content,
        }
        # Absent is not the same as null: a condition on it must not match.
        if event.state_key is not None:
            self._properties["state_key"] = event.state_key
        if event.redacts is not None:
            self._properties["redacts"] = event.redacts
        self._found: dict[Path, Any] = {}
        self._lowered: dict[Path, str | None] = {}
        self._words: frozenset[str] | None = None
        self._matches: dict[tuple[Path, str], bool] = {}
        # Outcomes of the rules that are the same for all users.
        self.shared: dict[CompiledRule, bool] = {}

    def get(self, path: Path) -> Any:
        """The property at this path, or a value that is equal to nothing."""
        try:
            return self._found[path]
        except KeyError:
            value: Any = self._properties
            for name in path:
                value = value.get(name, _ABSENT) if isinstance(value, dict) else _ABSENT
            self._found[path] = value
            return value

    def get_lowered(self, path: Path) -> str | None:
        """The property at this path in lower case; None where it is not a string."""
        try:
            return self._lowered[path]
        except KeyError:
            value = self.get(path)
            lowered = value[:MAX_SEARCHED].lower() if isinstance(value, str) else None
            self._lowered[path] = lowered
            return lowered

    def matches(self, path: Path, pattern: str, matcher: Matcher) -> bool:
        """Whether the property is a string that the pattern matches; users with the same pattern share the answer."""
        text = self.get_lowered(path)
        if text is None:
            return False
        key = (path, pattern)
        matches = self._matches.get(key)
        if matches is None:
            matches = self._matches[key] = matcher(text)
        return matches

    def has_word(self, word: str) -> bool:
        """Whether the body has the word, which is in lower case, between word boundaries."""
        body = self.get_lowered(_BODY)
        if not body or word not in body:
            return False
        if is_word(word):
            if self._words is None:
                self._words = split_words(body)
            return word in self._words
        return self.matches(_BODY, word, lambda text: contains_word(text, word))


@dataclass(frozen=True, slots=True)
class RoomFacts:
    """What conditions need to know of the event's room.

    `sender_power` and `notification_levels` are of_user(event.sender) and notifications of
    `hs.matrix.power_levels`.
    """

    member_count: int
    sender_power: int = 0
    notification_levels: Mapping[str, int] = field(default_factory=dict)


Check = Callable[[PushEvent, RoomFacts, str | None], bool]


class CompiledRule:
    """A rule that is enabled, ready to be judged."""

    __slots__ = ("checks", "is_shared", "outcome", "rule_id")

    def __init__(self, rule_id: str, checks: Sequence[Check], outcome: Outcome, is_shared: bool) -> None:
        self.rule_id = rule_id
        self.checks = tuple(checks)
        self.outcome = outcome
        self.is_shared = is_shared

    def matches(self, event: PushEvent, room: RoomFacts, display_name: str | None) -> bool:
        """Whether all conditions hold."""
        # A loop: the generator of all() would cost more than the checks.
        for check in self.checks:  # noqa: SIM110
            if not check(event, room, display_name):
                return False
        return True


class CompiledRuleset:
    """A user's enabled rules in order of importance; made by `compile_rules`."""

    __slots__ = ("_by_room", "_by_sender", "_general", "user_id")

    def __init__(self, user_id: str, rules: Iterable[tuple[CompiledRule, str | None, str | None]]) -> None:
        """`rules` are (rule, the only room it can match in, the only sender it can match) by importance."""
        self.user_id = user_id
        general: list[tuple[int, CompiledRule]] = []
        # Most users with many rules have them to mute rooms: only those of the event's room are looked at.
        self._by_room: dict[str, list[tuple[int, CompiledRule]]] = {}
        self._by_sender: dict[str, list[tuple[int, CompiledRule]]] = {}
        for index, (rule, room_id, sender) in enumerate(rules):
            if room_id is not None:
                self._by_room.setdefault(room_id, []).append((index, rule))
            elif sender is not None:
                self._by_sender.setdefault(sender, []).append((index, rule))
            else:
                general.append((index, rule))
        self._general = tuple(general)

    def evaluate(self, event: PushEvent, room: RoomFacts, display_name: str | None = None) -> Outcome:
        """The outcome of the most important rule that matches; NOTHING where none does.

        `display_name` is the user's in that room. The user's own events never notify.
        """
        if event.sender == self.user_id:
            return NOTHING
        candidates: Sequence[tuple[int, CompiledRule]] = self._general
        of_room = self._by_room.get(event.room_id)
        of_sender = self._by_sender.get(event.sender)
        if of_room or of_sender:
            # Indexes are unique, so rules themselves are never compared.
            candidates = sorted([*candidates, *(of_room or ()), *(of_sender or ())])
        shared = event.shared
        for _, rule in candidates:
            if rule.is_shared:
                matches = shared.get(rule)
                if matches is None:
                    matches = shared[rule] = rule.matches(event, room, None)
                if matches:
                    return rule.outcome
            elif rule.matches(event, room, display_name):
                return rule.outcome
        return NOTHING


# --- compiling ------------------------------------------------------------------------------------


def compile_rules(rules: PushRules, user_id: str) -> CompiledRuleset:
    """The user's own and the default rules, ready to be evaluated; disabled ones are left out."""
    return CompiledRuleset(user_id, _compile_all(rules, user_id))


def _compile_all(rules: PushRules, user_id: str) -> Iterable[tuple[CompiledRule, str | None, str | None]]:
    master, *override_defaults = DEFAULTS["override"]
    assert master.rule_id == MASTER
    yield from _compile_defaults(rules, user_id, [master])
    yield from _compile_conditional(rules.override)
    yield from _compile_defaults(rules, user_id, override_defaults)
    for rule in rules.content:
        if rule.enabled:
            check = _event_match({"key": "content.body", "pattern": rule.pattern})
            yield CompiledRule(rule.rule_id, [check], build_outcome(rule.actions), False), None, None
    for rule in rules.room:
        if rule.enabled:
            yield CompiledRule(rule.rule_id, [], build_outcome(rule.actions), False), rule.rule_id, None
    for rule in rules.sender:
        if rule.enabled:
            yield CompiledRule(rule.rule_id, [], build_outcome(rule.actions), False), None, rule.rule_id
    yield from _compile_conditional(rules.underride)
    yield from _compile_defaults(rules, user_id, DEFAULTS["underride"])


def _compile_conditional(rules: Iterable[Rule]) -> Iterable[tuple[CompiledRule, str | None, None]]:
    for rule in rules:
        if rule.enabled:
            checks = [_compile_condition(condition) for condition in rule.conditions]
            room_id = next(filter(None, map(_only_room, rule.conditions)), None)
            yield CompiledRule(rule.rule_id, checks, build_outcome(rule.actions), False), room_id, None


def _only_room(condition: Mapping[str, Any]) -> str | None:
    """The room without which the condition cannot hold, where that is one."""
    if condition.get("kind") != "event_match" or condition.get("key") != "room_id":
        return None
    pattern = condition.get("pattern")
    # The match ignores case where it is looked for; room ids are told apart by case, and rules must be too.
    return pattern if isinstance(pattern, str) and _PLAIN_ROOM_ID.fullmatch(pattern) else None


_PLAIN_ROOM_ID = re.compile(r"![^*?]+")


def _compile_defaults(
    rules: PushRules, user_id: str, defaults: Iterable[DefaultRule]
) -> Iterable[tuple[CompiledRule, None, None]]:
    for rule in defaults:
        change = rules.changes.get(rule.rule_id)
        if not (rule.is_enabled if change is None or change.enabled is None else change.enabled):
            continue
        if rule.rule_id in _SHARED and (change is None or change.actions is None):
            yield _SHARED[rule.rule_id], None, None
            continue
        actions = rule.actions if change is None or change.actions is None else change.actions
        checks = [_compile_condition(condition) for condition in conditions_for(rule, user_id)]
        yield CompiledRule(rule.rule_id, checks, build_outcome(actions), False), None, None


def build_outcome(actions: Sequence[Action]) -> Outcome:
    """What the actions of a rule amount to; tweaks only count together with `notify`."""
    if "notify" not in actions:
        return NOTHING
    tweaks = {action["set_tweak"]: action for action in actions if not isinstance(action, str)}
    highlight = tweaks.get("highlight")
    sound = tweaks.get("sound", {}).get("value")
    return Outcome(
        actions=tuple(actions),
        is_notify=True,
        # push.md, "Actions": given without a value it is true, not given at all it is false.
        is_highlight=highlight is not None and highlight.get("value", True) is True,
        sound=sound if isinstance(sound, str) else None,
    )


# --- conditions -----------------------------------------------------------------------------------


def _compile_condition(condition: Mapping[str, Any]) -> Check:
    compile_kind = _CONDITION_KINDS.get(condition["kind"])
    try:
        # Unknown conditions and those that lack a parameter match no event.
        return compile_kind(condition) if compile_kind is not None else _never
    except (KeyError, TypeError, ValueError):
        return _never


def _never(event: PushEvent, room: RoomFacts, display_name: str | None) -> bool:
    return False


def _text(condition: Mapping[str, Any], name: str) -> str:
    value = condition[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is not a string")
    return value


def _event_match(condition: Mapping[str, Any]) -> Check:
    key, pattern = _text(condition, "key"), _text(condition, "pattern").lower()
    path = split_path(key)
    if path == _BODY and pattern and not has_wildcard(pattern):
        return lambda event, room, display_name: event.has_word(pattern)
    matcher = word_matcher(pattern) if path == _BODY else whole_matcher(pattern)
    if path != _BODY and not has_wildcard(pattern):

        def check(event: PushEvent, room: RoomFacts, display_name: str | None) -> bool:
            return event.get_lowered(path) == pattern

        return check
    return lambda event, room, display_name: event.matches(path, pattern, matcher)


def _scalar(condition: Mapping[str, Any]) -> Any:
    value = condition["value"]
    if value is not None and not isinstance(value, str | int):
        raise TypeError("not a string, integer, boolean or null")
    return value


def _event_property_is(condition: Mapping[str, Any]) -> Check:
    path, value = split_path(_text(condition, "key")), _scalar(condition)
    kind = type(value)

    def check(event: PushEvent, room: RoomFacts, display_name: str | None) -> bool:
        found = event.get(path)
        # In Python true == 1; in JSON they are different values.
        return type(found) is kind and bool(found == value)

    return check


def _event_property_contains(condition: Mapping[str, Any]) -> Check:
    path, value = split_path(_text(condition, "key")), _scalar(condition)
    kind = type(value)

    def check(event: PushEvent, room: RoomFacts, display_name: str | None) -> bool:
        found = event.get(path)
        return isinstance(found, list) and any(type(item) is kind and item == value for item in found)

    return check


def _contains_display_name(condition: Mapping[str, Any]) -> Check:
    return lambda event, room, display_name: (
        bool(display_name) and event.has_word((display_name or "").lower())
    )


_COMPARISONS: Mapping[str, Callable[[int, int], bool]] = {
    "": operator.eq,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}
_COUNT = re.compile(r"(==|<=|>=|<|>|)([0-9]{1,18})")


def _room_member_count(condition: Mapping[str, Any]) -> Check:
    parsed = _COUNT.fullmatch(_text(condition, "is"))
    if parsed is None:
        return _never
    compare, count = _COMPARISONS[parsed[1]], int(parsed[2])
    return lambda event, room, display_name: compare(room.member_count, count)


# m.room.power_levels gives a default for "room" only; others get the same.
_DEFAULT_NOTIFICATION_LEVEL = 50


def _sender_notification_permission(condition: Mapping[str, Any]) -> Check:
    key = _text(condition, "key")
    return lambda event, room, display_name: (
        room.sender_power >= room.notification_levels.get(key, _DEFAULT_NOTIFICATION_LEVEL)
    )


_CONDITION_KINDS: Mapping[str, Callable[[Mapping[str, Any]], Check]] = {
    "event_match": _event_match,
    "event_property_is": _event_property_is,
    "event_property_contains": _event_property_contains,
    "contains_display_name": _contains_display_name,
    "room_member_count": _room_member_count,
    "sender_notification_permission": _sender_notification_permission,
}

# The default rules that are the same for everybody, compiled once.
_SHARED: Mapping[str, CompiledRule] = {
    rule.rule_id: CompiledRule(
        rule.rule_id, [_compile_condition(c) for c in rule.conditions], build_outcome(rule.actions), True
    )
    for defaults in DEFAULTS.values()
    for rule in defaults
    if not is_personal(rule)
}
