"""Power levels as everybody but the auth rules sees them."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hs._fast import event_auth
from hs.matrix.power_levels import CREATOR_POWER, PowerLevels
from hs.matrix.room_versions import ROOM_VERSIONS, RoomVersion, get_room_version

A, B, C = "@a:x", "@b:y", "@c:z"


@dataclass
class _Event:
    sender: str
    content: dict[str, Any] = field(default_factory=dict)


def _room(version_id: str, levels: dict[str, Any] | None, **create: Any) -> PowerLevels:
    version = get_room_version(version_id)
    if not version.implicit_creator:
        create = {"creator": A, **create}
    return PowerLevels.of_room(version, _Event(A, create), None if levels is None else _Event(A, levels))


every_version = pytest.mark.parametrize(
    "version", ROOM_VERSIONS.values(), ids=lambda version: f"v{version.id}"
)


@every_version
def test_defaults_with_an_empty_event(version: RoomVersion) -> None:
    power = _room(version.id, {})
    assert power.of_user(B) == power.users_default == 0
    assert power.of_user(A) == (CREATOR_POWER if version.privileged_creators else 0)
    assert (power.invite, power.kick, power.ban, power.redact) == (0, 50, 50, 50)
    assert power.of_state_event("m.room.topic") == 50
    assert power.of_message("m.room.message") == 0
    assert power.of_notification("room") == 50


@every_version
def test_defaults_without_an_event(version: RoomVersion) -> None:
    power = _room(version.id, None)
    assert power.of_user(A) == (CREATOR_POWER if version.privileged_creators else 100)
    assert power.of_user(B) == 0
    assert power.of_state_event("m.room.topic") == 50
    assert power.of_message("m.room.message") == 0


@every_version
def test_what_the_event_says(version: RoomVersion) -> None:
    levels = {
        "users": {B: 75}, "users_default": 1, "events": {"m.room.topic": 2, "m.room.message": 3}, "events_default": 4,
        "state_default": 5, "invite": 6, "kick": 7, "ban": 8, "redact": 9, "notifications": {"room": 10},
    }  # fmt: skip
    power = _room(version.id, levels)
    assert (power.of_user(B), power.of_user(C)) == (75, 1)
    assert (power.of_state_event("m.room.topic"), power.of_state_event("m.room.name")) == (2, 5)
    assert (power.of_message("m.room.message"), power.of_message("m.sticker")) == (3, 4)
    assert (power.invite, power.kick, power.ban, power.redact) == (6, 7, 8, 9)
    assert (power.of_notification("room"), power.of_notification("other")) == (10, 50)


def test_creators_of_room_version_12() -> None:
    power = _room("12", {"users": {C: 100}}, additional_creators=[B])
    assert power.of_user(A) == power.of_user(B) == CREATOR_POWER > 2**53
    assert power.of_user(C) == 100


def test_additional_creators_mean_nothing_before_12() -> None:
    assert _room("11", None, additional_creators=[B]).of_user(B) == 0


def test_the_creator_before_11_is_in_the_content() -> None:
    power = _room("10", None, creator=B)
    assert (power.of_user(A), power.of_user(B)) == (0, 100)


def test_strings_and_floats_of_old_rooms() -> None:
    levels = {"ban": " +60", "kick": 5.9, "users": {B: "007"}, "notifications": {"room": "20"}}
    power = _room("1", levels)
    assert (power.ban, power.kick, power.of_user(B), power.of_notification("room")) == (60, 5, 7, 20)


@pytest.mark.parametrize("odd", [None, True, [], {}, "x", "5", 1e300])
def test_what_is_no_level_counts_as_absent(odd: Any) -> None:
    power = _room("10", {"ban": odd, "users": {B: odd}, "events": {"x": odd}, "notifications": {"room": odd}})
    assert (power.ban, power.of_user(B), power.of_state_event("x"), power.of_notification("room")) == (
        50,
        0,
        50,
        50,
    )
    power = _room("10", {"users": odd, "events": odd, "notifications": odd})
    assert (power.of_user(B), power.of_message("x"), power.of_notification("room")) == (0, 0, 50)


levels = st.integers(-(2**53) + 1, 2**53 - 1)
contents = st.none() | st.fixed_dictionaries(
    {}, optional={"users": st.dictionaries(st.sampled_from([B, C]), levels), "users_default": levels}
)


@given(st.sampled_from(list(ROOM_VERSIONS.values())), st.sampled_from([A, B, C]), contents)
def test_the_auth_rules_see_the_same(version: RoomVersion, user: str, content: dict[str, Any] | None) -> None:
    def record(type: str, content: dict[str, Any]) -> event_auth.AuthRecord:
        return event_auth.make_record(version.number, 1, "$x", type, "", A, "!r:x", 1, 1, content, ())

    create = {} if version.implicit_creator else {"creator": A}
    rules = event_auth.power_of(
        version.number,
        user,
        record("m.room.create", create),
        None if content is None else record("m.room.power_levels", content),
    )
    assert PowerLevels.of_contents(version, A, create, content).of_user(user) == rules
