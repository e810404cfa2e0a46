"""The server-default push rules (client-server-api/modules/push.md, "Predefined Rules"), in their order.

The first override rule, `.m.rule.master`, stands above all of a user's own rules; the others below the
user's own of their kind.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

# Stands in patterns and values for the id of the user whose rules they become.
USER_ID = "[user_id]"

MASTER = ".m.rule.master"

Condition = Mapping[str, Any]
Action = str | Mapping[str, Any]


class DefaultRule(NamedTuple):
    """A rule that every user has; users may switch it and change its actions."""

    rule_id: str
    conditions: tuple[Condition, ...]
    actions: tuple[Action, ...]
    is_enabled: bool = True


def _match(key: str, pattern: str) -> Condition:
    return {"kind": "event_match", "key": key, "pattern": pattern}


def _member_count(count: int) -> Condition:
    return {"kind": "room_member_count", "is": str(count)}


_NOTIFY = "notify"
_SOUND = {"set_tweak": "sound", "value": "default"}
_RING = {"set_tweak": "sound", "value": "ring"}
_HIGHLIGHT = {"set_tweak": "highlight"}

DEFAULT_OVERRIDE = (
    DefaultRule(MASTER, (), (), is_enabled=False),
    DefaultRule(".m.rule.suppress_notices", (_match("content.msgtype", "m.notice"),), ()),
    DefaultRule(
        ".m.rule.invite_for_me",
        (
            _match("type", "m.room.member"),
            _match("content.membership", "invite"),
            _match("state_key", USER_ID),
        ),
        (_NOTIFY, _SOUND),
    ),
    DefaultRule(".m.rule.member_event", (_match("type", "m.room.member"),), ()),
    DefaultRule(
        ".m.rule.is_user_mention",
        ({"kind": "event_property_contains", "key": r"content.m\.mentions.user_ids", "value": USER_ID},),
        (_NOTIFY, _SOUND, _HIGHLIGHT),
    ),
    DefaultRule(
        ".m.rule.is_room_mention",
        (
            {"kind": "event_property_is", "key": r"content.m\.mentions.room", "value": True},
            {"kind": "sender_notification_permission", "key": "room"},
        ),
        (_NOTIFY, _HIGHLIGHT),
    ),
    DefaultRule(
        ".m.rule.tombstone",
        (_match("type", "m.room.tombstone"), _match("state_key", "")),
        (_NOTIFY, _HIGHLIGHT),
    ),
    DefaultRule(".m.rule.reaction", (_match("type", "m.reaction"),), ()),
    DefaultRule(
        ".m.rule.room.server_acl", (_match("type", "m.room.server_acl"), _match("state_key", "")), ()
    ),
    DefaultRule(
        ".m.rule.suppress_edits",
        ({"kind": "event_property_is", "key": r"content.m\.relates_to.rel_type", "value": "m.replace"},),
        (),
    ),
)

DEFAULT_UNDERRIDE = (
    DefaultRule(".m.rule.call", (_match("type", "m.call.invite"),), (_NOTIFY, _RING)),
    DefaultRule(
        ".m.rule.encrypted_room_one_to_one",
        (_member_count(2), _match("type", "m.room.encrypted")),
        (_NOTIFY, _SOUND),
    ),
    DefaultRule(
        ".m.rule.room_one_to_one", (_member_count(2), _match("type", "m.room.message")), (_NOTIFY, _SOUND)
    ),
    DefaultRule(".m.rule.message", (_match("type", "m.room.message"),), (_NOTIFY,)),
    DefaultRule(".m.rule.encrypted", (_match("type", "m.room.encrypted"),), (_NOTIFY,)),
)

DEFAULTS: Mapping[str, tuple[DefaultRule, ...]] = {
    "override": DEFAULT_OVERRIDE,
    "content": (),
    "room": (),
    "sender": (),
    "underride": DEFAULT_UNDERRIDE,
}


def conditions_for(rule: DefaultRule, user_id: str) -> list[dict[str, Any]]:
    """The rule's conditions as this user's rule has them."""
    return [
        {name: user_id if value == USER_ID else value for name, value in condition.items()}
        for condition in rule.conditions
    ]


def is_personal(rule: DefaultRule) -> bool:
    """Whether the rule's conditions differ from user to user."""
    return any(USER_ID in condition.values() for condition in rule.conditions)
