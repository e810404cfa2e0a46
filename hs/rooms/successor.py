"""What a room's successor takes over, adapted to its room version; and how the old room is closed.

Spec: client-server-api module "Room upgrades"; rooms/v12 on creators. Pure: contents in, contents out.
"""

from collections.abc import Collection, Mapping
from typing import Any

from hs._fast.auth_payload import level_of
from hs.matrix.canonical_json import CanonicalJsonError, encode_for_room
from hs.matrix.ids import is_user_id
from hs.matrix.power_levels import PowerLevels
from hs.matrix.room_versions import RoomVersion

# The spec's recommendation and the avatar; power levels, aliases and the children of spaces go ways of their own.
COPIED_TYPES = (
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.join_rules",
    "m.room.history_visibility",
    "m.room.guest_access",
    "m.room.encryption",
    "m.room.server_acl",
)

# Below the limit of an event by what else is in one.
_MAX_CONTENT_BYTES = 60_000
_LEVELS = (
    "ban",
    "events_default",
    "invite",
    "kick",
    "redact",
    "state_default",
    "users_default",
)
_LEVEL_MAPS = ("users", "events", "notifications")
_GREATEST_LEVEL = 2**53 - 1
_TOMBSTONE = "m.room.tombstone"
# What new rooms of version 12 ask for: only creators replace a room.
_TOMBSTONE_LEVEL = 150
_CLOSED_LEVEL = 50
# Whoever wants to take back what they said still may, where the room lets them.
_NEVER_CLOSED = "m.room.redaction"


def fits(content: Mapping[str, Any], version: RoomVersion) -> bool:
    """Whether an event of the room version can hold the content: early versions took what later ones refuse."""
    try:
        return len(encode_for_room(content, version)) <= _MAX_CONTENT_BYTES
    except CanonicalJsonError:
        return False


def adapt_join_rules(content: Mapping[str, Any], version: RoomVersion) -> dict[str, Any]:
    """The join rules with one that the room version knows; the nearest that lets nobody else in."""
    rule = content.get("join_rule")
    if rule == "knock_restricted" and not version.knock_restricted_joins:
        rule = "restricted"
    if (rule == "restricted" and not version.restricted_joins) or (rule == "knock" and not version.knocking):
        rule = "invite"
    return {**content, "join_rule": rule} if rule != content.get("join_rule") else dict(content)


def adapt_power_levels(
    content: Mapping[str, Any],
    old: RoomVersion,
    new: RoomVersion,
    old_creators: Collection[str],
    creators: Collection[str],
) -> dict[str, Any]:
    """Power levels of the old room as the new one's; `creators` are the new room's, which since v12 are in no list."""
    is_plain = not new.integer_power_levels and fits(content, new)
    levels = dict(content) if is_plain else _as_integers(content, old, new)
    users, events = _mapping(levels, "users"), _mapping(levels, "events")
    if new.privileged_creators:
        for creator in creators:
            users.pop(creator, None)
        wanted = max(_TOMBSTONE_LEVEL, _level(new, levels.get("state_default"), 50) + 1)
        events[_TOMBSTONE] = min(max(_level(new, events.get(_TOMBSTONE), 0), wanted), _GREATEST_LEVEL)
    elif old.privileged_creators:
        # They stood above all others, and there is no such place here: as high as the highest.
        highest = max((_level(new, value, 0) for value in (*users.values(), *events.values())), default=0)
        users |= dict.fromkeys((*old_creators, *creators), max(100, highest))
    return {**levels, "users": users, "events": events}


def close_power_levels(
    content: Mapping[str, Any], power: PowerLevels, version: RoomVersion
) -> dict[str, Any]:
    """The old room's power levels with which only moderators talk and invite.

    Spec: "setting `events_default` and `invite` to the greater of 50 and `users_default + 1`"; what single
    types of events need is raised with them.
    """
    least = max(_CLOSED_LEVEL, power.users_default + 1)
    closed = dict(content)
    if not power.is_set and not power.has_privileged_creators:
        # Without this event the creator has 100; with it, what it says.
        closed["users"] = dict.fromkeys(power.creators, 100)
    for key, present in (("events_default", power.of_message("")), ("invite", power.invite)):
        if present < least:
            closed[key] = least
    events = _mapping(closed, "events")
    raised = {
        type: least
        for type, value in events.items()
        if type != _NEVER_CLOSED and _level(version, value, least) < least
    }
    return {**closed, "events": {**events, **raised}} if raised else closed


def keep_aliases(content: Mapping[str, Any], kept: Collection[str]) -> dict[str, Any]:
    """An m.room.canonical_alias content with only those of its aliases."""
    found = dict(content)
    if found.get("alias") not in kept:
        found.pop("alias", None)
    others = found.pop("alt_aliases", None)
    left = [alias for alias in others if alias in kept] if isinstance(others, list) else []
    return {**found, "alt_aliases": left} if left else found


def list_aliases(content: Mapping[str, Any]) -> list[str]:
    """All aliases of an m.room.canonical_alias content."""
    others = content.get("alt_aliases")
    named = [content.get("alias"), *(others if isinstance(others, list) else ())]
    return [alias for alias in named if isinstance(alias, str)]


def _as_integers(content: Mapping[str, Any], version: RoomVersion, new: RoomVersion) -> dict[str, Any]:
    """The content with integers for levels of any form; what is no level, or not for the new version, is left out."""
    others = content.keys() - {*_LEVELS, *_LEVEL_MAPS}
    levels = {key: content[key] for key in content if key in others and fits({key: content[key]}, new)}
    for key in _LEVELS:
        number = _find_level(version, content.get(key))
        if number is not None:
            levels[key] = number
    for key in _LEVEL_MAPS:
        values = _mapping(content, key)
        if values:
            numbers = {name: _find_level(version, value) for name, value in values.items()}
            levels[key] = {name: number for name, number in numbers.items() if number is not None}
    users = levels.get("users", {})
    return levels | ({"users": {name: users[name] for name in users if is_user_id(name)}} if users else {})


def _mapping(content: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = content.get(key)
    return dict(value) if isinstance(value, dict) else {}


def _find_level(version: RoomVersion, value: object) -> int | None:
    level = level_of(version.number, value)
    return None if level is None else max(-_GREATEST_LEVEL, min(level, _GREATEST_LEVEL))


def _level(version: RoomVersion, value: object, default: int) -> int:
    level = _find_level(version, value)
    return default if level is None else level
