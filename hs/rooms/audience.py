"""Our users in a room, grouped by what their push rules say there: an event is judged once for each group.

Most users have changed nothing, and most who have did so for other rooms: a room has few groups.
"""

import asyncio
import secrets
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hs.matrix.power_levels import PowerLevels
from hs.matrix.push_evaluation import (
    CompiledRuleset,
    EventView,
    Outcome,
    PushEvent,
    RoomFacts,
    compile_rules,
)
from hs.matrix.push_rules import NO_RULES, PushRules, Rule, encode_rules
from hs.storage.notifications import UserRules

NOTHING, NOTIFY, HIGHLIGHT = 0, 1, 2

# Thousands of keywords in a long text take a while: then others get their turn.
_TURN_S = 0.005

# Whose rules a group's rules are. Where an event names one of its users, it is judged with this name put
# into it; nobody can know the name and do so himself.
_SOMEBODY: Final = "@" + secrets.token_hex(16)
_MENTIONS = "m.mentions"
# Default rules whose outcome hangs on the number of members, once a user has changed it.
_ONE_TO_ONE = frozenset({".m.rule.room_one_to_one", ".m.rule.encrypted_room_one_to_one"})


def level_of(outcome: Outcome) -> int:
    """NOTHING, NOTIFY or HIGHLIGHT."""
    return HIGHLIGHT if outcome.is_highlight else NOTIFY if outcome.is_notify else NOTHING


def list_mentioned(content: Mapping[str, Any]) -> set[str]:
    """The users that the event says it mentions."""
    mentions = content.get(_MENTIONS)
    user_ids = mentions.get("user_ids") if isinstance(mentions, dict) else None
    return {item for item in user_ids if isinstance(item, str)} if isinstance(user_ids, list) else set()


def is_room_mention(content: Mapping[str, Any]) -> bool:
    """Whether the event asks for everybody's attention."""
    mentions = content.get(_MENTIONS)
    return isinstance(mentions, dict) and mentions.get("room") is True


@dataclass(frozen=True, slots=True)
class _View:
    """An event with other content than it has."""

    event_id: str
    room_id: str
    type: str
    sender: str
    state_key: str | None
    redacts: str | None
    origin_server_ts: int
    content: dict[str, Any]


class JudgedEvent:
    """An event as those see it whom it does not name, and as those whom it does."""

    def __init__(self, event: EventView) -> None:
        self.plain = PushEvent(event)
        self.sender = event.sender
        self.is_state = event.state_key is not None
        self.mentioned = list_mentioned(event.content)
        self._event = event
        self._naming: PushEvent | None = None

    @property
    def naming(self) -> PushEvent:
        """The event that mentions somebody of the group it is judged for."""
        if self._naming is None:
            event = self._event
            mentions = event.content[_MENTIONS]
            named = {**mentions, "user_ids": [*mentions["user_ids"], _SOMEBODY]}
            content = {**event.content, _MENTIONS: named}
            self._naming = PushEvent(
                _View(
                    event.event_id,
                    event.room_id,
                    event.type,
                    event.sender,
                    event.state_key,
                    event.redacts,
                    event.origin_server_ts,
                    content,
                )
            )
        return self._naming


@dataclass(eq=False, slots=True)
class Group:
    """Users with the same rules in the room."""

    key: bytes
    rules: CompiledRuleset
    # Ordinary messages are nothing to them: their exceptions are relative to that.
    is_quiet: bool
    # What the rules look at: the user's name, the room's power levels, how many are in it.
    needs: frozenset[str]
    members: set[str] = field(default_factory=set)


PLAIN_RULES: Final = compile_rules(NO_RULES, _SOMEBODY)
_PLAIN_KEY: Final = encode_rules(NO_RULES)


class Audience:
    """Our joined users in one room."""

    def __init__(self, room_id: str) -> None:
        self.room_id = room_id
        self.is_loaded = False
        self.names: dict[str, str | None] = {}
        # Users whose rules may have changed and are to be read before the next event.
        self.changed: set[str] = set()
        # Power levels as last looked up, by the numbers of the events that say them.
        self.levels: tuple[tuple[int, int], PowerLevels] | None = None
        self.joined: int | None = None
        self._groups: dict[bytes, Group] = {}
        self._group_of: dict[str, Group] = {}
        self._quiet: set[str] = set()
        self._flips: dict[str, bool] = {}
        self._needs: frozenset[str] = frozenset()
        # Who ignores whom, by either.
        self._ignored: dict[str, frozenset[str]] = {}
        self._ignored_by: dict[str, set[str]] = {}

    def __len__(self) -> int:
        """How many users."""
        return len(self._group_of)

    def __contains__(self, user_id: str) -> bool:
        return user_id in self._group_of

    @property
    def needs(self) -> frozenset[str]:
        """What the rules of some user look at."""
        return self._needs

    def add(self, user_id: str, display_name: str | None, rules: UserRules) -> None:
        """A user who is in the room from here on."""
        self.names[user_id] = display_name
        (self._quiet.add if rules.is_quiet else self._quiet.discard)(user_id)
        self.set_rules(user_id, rules.rules, rules.ignored)

    def set_rules(self, user_id: str, rules: PushRules, ignored: frozenset[str]) -> None:
        """Put the user into the group of these rules."""
        self._set_ignored(user_id, ignored)
        self._leave_group(user_id)
        reduced = rules if rules is NO_RULES else reduce_rules(rules, self.room_id)
        key = _PLAIN_KEY if reduced is NO_RULES else encode_rules(reduced)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _build_group(key, reduced, self.room_id)
            self._needs |= group.needs
        group.members.add(user_id)
        self._group_of[user_id] = group
        if group.is_quiet != (user_id in self._quiet):
            self._flips[user_id] = group.is_quiet
        else:
            self._flips.pop(user_id, None)

    def remove(self, user_id: str) -> None:
        """A user who is not in the room any more."""
        self._leave_group(user_id)
        self._set_ignored(user_id, frozenset())
        self.names.pop(user_id, None)
        self.changed.discard(user_id)
        self._flips.pop(user_id, None)

    def take_flips(self) -> dict[str, bool]:
        """Users to whom the room has become quiet, or is quiet no longer, since this was last asked."""
        flips, self._flips = self._flips, {}
        for user_id, is_quiet in flips.items():
            (self._quiet.add if is_quiet else self._quiet.discard)(user_id)
        return flips

    async def judge(self, event: JudgedEvent, push: int, facts: RoomFacts) -> dict[str, tuple[int, int]]:
        """(base, outcome) of those for whom the two differ.

        The base is `push`, and NOTHING for those to whom the room is quiet.
        """
        exceptions: dict[str, tuple[int, int]] = {}
        mentioned: dict[Group, list[str]] = {}
        for user_id in event.mentioned:
            group = self._group_of.get(user_id)
            if group is not None:
                mentioned.setdefault(group, []).append(user_id)
        turn_ends = time.perf_counter() + _TURN_S
        for group in self._groups.values():
            if time.perf_counter() > turn_ends:
                await asyncio.sleep(0)  # the room waits, others do not
                turn_ends = time.perf_counter() + _TURN_S
            base = NOTHING if group.is_quiet else push
            if "name" in group.needs:
                self._judge_each(group, event, facts, base, exceptions)
                continue
            level = push if group.key == _PLAIN_KEY else level_of(group.rules.evaluate(event.plain, facts))
            if level != base:
                exceptions |= dict.fromkeys(group.members, (base, level))
            if group in mentioned:
                level = level_of(group.rules.evaluate(event.naming, facts))
                _set(exceptions, mentioned[group], level, base)
        if not event.is_state:
            # Those who ignore the sender are not even sent it.
            for user_id in self._ignored_by.get(event.sender, ()):
                base = NOTHING if self._group_of[user_id].is_quiet else push
                _set(exceptions, [user_id], NOTHING, base)
        # Nobody is told of what they did themselves.
        exceptions.pop(event.sender, None)
        return exceptions

    def _judge_each(
        self,
        group: Group,
        event: JudgedEvent,
        facts: RoomFacts,
        base: int,
        exceptions: dict[str, tuple[int, int]],
    ) -> None:
        for user_id in group.members:
            view = event.naming if user_id in event.mentioned else event.plain
            level = level_of(group.rules.evaluate(view, facts, self.names.get(user_id)))
            if level != base:
                exceptions[user_id] = (base, level)

    def _set_ignored(self, user_id: str, ignored: frozenset[str]) -> None:
        for sender in self._ignored.pop(user_id, ()):
            ignoring = self._ignored_by[sender]
            ignoring.discard(user_id)
            if not ignoring:
                del self._ignored_by[sender]
        if ignored:
            self._ignored[user_id] = ignored
            for sender in ignored:
                self._ignored_by.setdefault(sender, set()).add(user_id)

    def _leave_group(self, user_id: str) -> None:
        group = self._group_of.pop(user_id, None)
        if group is not None:
            group.members.discard(user_id)
            if not group.members:
                del self._groups[group.key]


def _set(exceptions: dict[str, tuple[int, int]], user_ids: Collection[str], level: int, base: int) -> None:
    for user_id in user_ids:
        if level != base:
            exceptions[user_id] = (base, level)
        else:
            exceptions.pop(user_id, None)


def reduce_rules(rules: PushRules, room_id: str) -> PushRules:
    """Those of the rules that may match in the room; NO_RULES where there are none."""
    reduced = PushRules(
        override=_reduce(rules.override, room_id),
        content=tuple(rule for rule in rules.content if rule.enabled),
        room=tuple(rule for rule in rules.room if rule.enabled and rule.rule_id == room_id),
        sender=tuple(rule for rule in rules.sender if rule.enabled),
        underride=_reduce(rules.underride, room_id),
        changes=rules.changes,
    )
    return NO_RULES if reduced == NO_RULES else reduced


def _reduce(rules: tuple[Rule, ...], room_id: str) -> tuple[Rule, ...]:
    return tuple(rule for rule in rules if rule.enabled and not _is_elsewhere(rule, room_id))


def _is_elsewhere(rule: Rule, room_id: str) -> bool:
    """Whether the rule is about another room only; that is how clients mute rooms."""
    for condition in rule.conditions:
        if condition.get("kind") == "event_match" and condition.get("key") == "room_id":
            pattern = condition.get("pattern")
            if isinstance(pattern, str) and not {"*", "?"} & set(pattern) and pattern != room_id:
                return True
    return False


_NEEDS: Mapping[Any, str] = {
    "contains_display_name": "name",
    "sender_notification_permission": "levels",
    "room_member_count": "count",
}


def _build_group(key: bytes, rules: PushRules, room_id: str) -> Group:
    compiled = PLAIN_RULES if key == _PLAIN_KEY else compile_rules(rules, _SOMEBODY)
    conditions = (c for rule in (*rules.override, *rules.underride) for c in rule.conditions)
    needs = {need for c in conditions if (need := _NEEDS.get(c.get("kind"))) is not None}
    if _ONE_TO_ONE & rules.changes.keys():
        needs.add("count")
    sample = PushEvent(
        _View("", room_id, "m.room.message", "", None, None, 0, {"msgtype": "m.text", "body": ""})
    )
    # In a large room: what a user changed for conversations of two says little about others.
    is_quiet = not compiled.evaluate(sample, RoomFacts(member_count=3)).is_notify
    return Group(key, compiled, is_quiet, frozenset(needs))
