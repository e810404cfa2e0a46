"""What an event's content means to the auth rules, as plain JSON values: the payload of an auth record.

Shared by `event_auth` and its twin: contents are read once per event and only few types have anything
to say, so this needs no kernel. A content that breaks a rule by itself never fails here: the payload
carries the broken rule as `fault`, and the rules reject the event when they come to it.
"""

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["LEVELS", "is_user_id", "level_of", "payload_of", "power_payload"]

LEVELS = ("users_default", "events_default", "state_default", "ban", "redact", "kick", "invite")
"""The properties of a power levels event that are one level each."""

_ROOM_VERSIONS = tuple(str(number) for number in range(1, 13))
_MAX_SAFE_INT = 2**53 - 1
_MAX_DOUBLE = int(1.7976931348623157e308)


def payload_of(
    version: int, type: str, sender: str, membership: str | None, content: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The payload for an event of this type, None where the rules need nothing of the content.

    m.room.create             creators: [user id], federate: bool
    m.room.power_levels       levels, users, events, notifications: {name: int}
    m.room.join_rules         rule: str
    m.room.third_party_invite keys: [public key]
    m.room.member             third_party: {} or {signed: {...}}, for an invite that has it
    """
    if type == "m.room.member":
        if membership != "invite" or "third_party_invite" not in content:
            return None
        invite = content["third_party_invite"]
        signed = invite.get("signed") if isinstance(invite, dict) else None
        return {"third_party": {"signed": signed} if isinstance(signed, dict) else {}}
    if type == "m.room.create":
        return _create_payload(version, sender, content)
    if type == "m.room.power_levels":
        return power_payload(version, content)
    if type == "m.room.join_rules":
        rule = content.get("join_rule", "invite")
        return {"rule": rule if isinstance(rule, str) else ""}
    if type == "m.room.third_party_invite":
        return {"keys": _public_keys(content)}
    return None


def _create_payload(version: int, sender: str, content: Mapping[str, Any]) -> dict[str, Any]:
    creators = [sender]
    payload: dict[str, Any] = {"creators": creators, "federate": content.get("m.federate") is not False}
    if "room_version" in content and content["room_version"] not in _ROOM_VERSIONS:
        payload["fault"] = ["auth.create.3", "the room version is not recognised"]
    if version <= 10:
        # Before v11 the creator is who content says.
        creator = content.get("creator")
        payload["creators"] = [creator] if isinstance(creator, str) else []
        if "creator" not in content:
            payload.setdefault("fault", ["auth.create.4", "there is no creator"])
    elif version >= 12 and "additional_creators" in content:
        more = content["additional_creators"]
        if isinstance(more, list) and all(map(is_user_id, more)):
            creators += [user for user in more if user != sender]
        else:
            payload.setdefault("fault", ["auth.create.4", "additional_creators is not a list of user ids"])
    return payload


def power_payload(version: int, content: Mapping[str, Any]) -> dict[str, Any]:
    """The levels as integers. Entries that are no level are left out, and are the `fault`.

    Only `users` has a rule of its own before v10; for the rest "format" stands for the room versions'
    "Values in m.room.power_levels events", which say what a level may look like.
    """
    faults: dict[str, list[str]] = {}
    levels = {}
    for name in LEVELS:
        if name in content:
            level = level_of(version, content[name])
            if level is None:
                rule = "auth.power_levels.1" if version >= 10 else "auth.power_levels.format"
                faults["levels"] = [rule, f"{name} is not a level"]
            else:
                levels[name] = level
    payload: dict[str, Any] = {"levels": levels, "notifications": {}}
    # Before v6 the rules do not look at notifications.
    for name in ("events", "notifications") if version >= 6 else ("events",):
        payload[name], is_sound = _level_map(version, content.get(name, {}))
        if not is_sound:
            rule = "auth.power_levels.2" if version >= 10 else "auth.power_levels.format"
            faults.setdefault("maps", [rule, f"{name} is not an object of levels"])
    payload["users"], is_sound = _level_map(version, content.get("users", {}))
    if not is_sound or not all(map(is_user_id, payload["users"])):
        rule = "auth.power_levels.3" if version >= 10 else "auth.power_levels.1"
        faults["users"] = [rule, "users is not an object of user ids and levels"]
    for kind in ("levels", "maps", "users") if version >= 10 else ("users", "levels", "maps"):
        if kind in faults:
            payload["fault"] = faults[kind]
            break
    return payload


def _level_map(version: int, value: Any) -> tuple[dict[str, int], bool]:
    if not isinstance(value, dict):
        return {}, False
    levels = {name: level_of(version, level) for name, level in value.items()}
    sound = {name: level for name, level in levels.items() if level is not None}
    return sound, len(sound) == len(levels)


_STRING_LEVEL = re.compile(r"\s*([+-]?)([0-9]+)\s*")


def level_of(version: int, value: Any) -> int | None:
    """The power level that a JSON value stands for, None where it stands for none.

    Since v10 integers only. Before v10 also strings: optional whitespace, one optional sign, decimal
    digits. Before v6, where canonical JSON was not enforced, also floats, cut at the point.
    """
    limit = _MAX_SAFE_INT if version >= 6 else _MAX_DOUBLE
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        level = value
    elif isinstance(value, float) and version < 6:
        if not abs(value) <= _MAX_DOUBLE:  # infinite, or not a number
            return None
        level = int(value)
    elif isinstance(value, str) and version < 10:
        match = _STRING_LEVEL.fullmatch(value)
        digits = match[2].lstrip("0") if match is not None else ""
        if match is None or len(digits) > 309:
            return None
        level = int(match[1] + (digits or "0"))
        limit = _MAX_DOUBLE
    else:
        return None
    return level if -limit <= level <= limit else None


_USER_ID = re.compile(r"@[^:\0\ud800-\udfff]*:(?:[0-9A-Za-z.\-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


def is_user_id(value: Any) -> bool:
    """Whether it is a user id, historical localparts included. Spec: appendices "User Identifiers"."""
    return (
        isinstance(value, str)
        and len(value) <= 255
        and _USER_ID.fullmatch(value) is not None
        and len(value.encode()) <= 255
    )


def _public_keys(content: Mapping[str, Any]) -> list[str]:
    keys = [content.get("public_key")]
    more = content.get("public_keys")
    if isinstance(more, list):
        keys += [entry.get("public_key") for entry in more if isinstance(entry, dict)]
    return [key for key in keys if isinstance(key, str)]
