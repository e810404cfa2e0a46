from dataclasses import FrozenInstanceError, fields

import pytest

from hs.matrix.errors import UnsupportedRoomVersion
from hs.matrix.room_versions import (
    DEFAULT_ROOM_VERSION,
    ROOM_VERSIONS,
    EventIds,
    RedactionRules,
    RoomVersion,
    StateResolution,
    get_room_version,
)

# Flag -> the versions that have it, read from the "This room version..." introductions of rooms/v1 to v12.
SINCE = {
    "enforces_key_validity": range(5, 13),
    "strict_json": range(6, 13),
    "guards_notification_levels": range(6, 13),
    "knocking": range(7, 13),
    "restricted_joins": range(8, 13),
    "knock_restricted_joins": range(10, 13),
    "integer_power_levels": range(10, 13),
    "implicit_creator": range(11, 13),
    "redacts_in_content": range(11, 13),
    "privileged_creators": range(12, 13),
    "room_id_is_create_hash": range(12, 13),
    # Gone since:
    "has_reference_pairs": range(1, 3),
    "redactions_in_auth_rules": range(1, 3),
    "aliases_in_auth_rules": range(1, 6),
}


def test_there_are_twelve_and_new_rooms_get_the_last() -> None:
    assert [v.id for v in ROOM_VERSIONS.values()] == [str(n) for n in range(1, 13)]
    assert all(v.id == str(v.number) == key for key, v in ROOM_VERSIONS.items())
    assert DEFAULT_ROOM_VERSION == "12"


@pytest.mark.parametrize("flag", [f.name for f in fields(RoomVersion) if f.type is bool or f.type == "bool"])
def test_each_flag_holds_for_the_versions_that_the_spec_names(flag: str) -> None:
    assert [v.number for v in ROOM_VERSIONS.values() if getattr(v, flag)] == list(SINCE[flag])


def test_algorithms_by_version() -> None:
    versions = list(ROOM_VERSIONS.values())
    assert [v.state_resolution for v in versions] == [
        StateResolution.V1,
        *[StateResolution.V2] * 10,
        StateResolution.V2_1,
    ]
    assert [v.event_ids for v in versions] == [
        *[EventIds.GIVEN] * 2,
        EventIds.HASH_BASE64,
        *[EventIds.HASH_URLSAFE] * 9,
    ]
    assert [v.redaction_rules for v in versions] == [
        *[RedactionRules.V1] * 5,
        *[RedactionRules.V6] * 2,
        RedactionRules.V8,
        *[RedactionRules.V9] * 2,
        *[RedactionRules.V11] * 2,
    ]
    # "Through enforcement of Canonical JSON, the depth limit has been reduced" (v6).
    assert [v.max_depth for v in versions] == [2**63 - 1] * 5 + [2**53 - 1] * 7


@pytest.mark.parametrize("unknown", ["", "0", "13", "01", "1.0", "org.example", "１"])
def test_other_versions_are_not_supported(unknown: str) -> None:
    with pytest.raises(UnsupportedRoomVersion):
        get_room_version(unknown)


def test_rules_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        get_room_version("12").knocking = False  # type: ignore[misc]
    with pytest.raises(TypeError):
        ROOM_VERSIONS["13"] = get_room_version("12")  # type: ignore[index]
