"""Rooms whose state says what no client should can be replaced all the same, or the refusal says why."""

from itertools import cycle
from typing import Any

import pytest

from tests.fuzz.hostile import VALUES
from tests.fuzz.test_strange_rooms import FIELDS, check
from tests.people import Town

pytestmark = [pytest.mark.fuzz, pytest.mark.slow]

# Never the same twice in a row, which would be an upgrade that is done already.
VERSIONS = ("12", "6", "11", "9")
NESTED = ({"a": {"b": "x" * 59_000}}, {"@a:b": 5, "x": "y"}, {"@a:b": 2**53 - 1}, {"m.room.tombstone": -1})


@pytest.mark.parametrize("version", ["1", "5", "12"])
@pytest.mark.parametrize("type", sorted(FIELDS.keys() - {"m.room.create"}))
async def test_strange_state_does_not_keep_a_room_from_its_upgrade(
    town: Town, type: str, version: str
) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room(room_version=version, creation_content={"type": "m.space"})
    versions = cycle(VERSIONS)
    for field in FIELDS[type]:
        for value in (*VALUES, *NESTED):
            key = "!a:b" if type == "m.space.child" else ""
            answer = await alice.set_state(room_id, type, {field: value}, key)
            check(answer, (type, field, value))
            if answer.status != 200:
                continue
            new_version = next(versions)
            answer = await alice.post("rooms", room_id, "upgrade", body={"new_version": new_version})
            assert answer.status in (200, 403), (type, field, value, new_version, answer)
            if answer.status == 403:
                # The levels that were just set lock alice out of her room, and nothing else may refuse her.
                assert (type, field) in (("m.room.power_levels", "users"), ("m.room.power_levels", "events"))
                room_id = await alice.create_room(room_version=version, creation_content={"type": "m.space"})
            else:
                new_id = answer.body["replacement_room"]
                await alice.say(new_id, "still here")


@pytest.mark.parametrize("field", FIELDS["m.room.create"])
async def test_strange_rooms_are_replaced(town: Town, field: str) -> None:
    alice = await town.person("alice")
    for value in (*VALUES, *NESTED):
        content: dict[str, Any] = {field: value}
        made = await alice.post("createRoom", body={"room_version": "9", "creation_content": content})
        check(made, (field, value))
        if made.status == 200:
            body = {"new_version": "12"}
            answer = await alice.post("rooms", made.body["room_id"], "upgrade", body=body)
            assert answer.status == 200, (field, value, answer)
