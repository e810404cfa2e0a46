"""Long lists of state are kept as JSON; what is read is the room of now all the same."""

from typing import Any

import pytest

from tests.people import Person, Town

# Longer lists than this are the same for everybody.
_SHORT = 100
_TYPE = "org.example.thing"


@pytest.fixture
async def alice(town: Town) -> Person:
    """Somebody with a room of much state."""
    return await town.person("alice")


@pytest.fixture
async def room_id(alice: Person) -> str:
    """A room whose state is a long list; with a percent sign, which templates must leave alone."""
    things = [
        {"type": _TYPE, "state_key": f"{number}", "content": {"share": f"{number}%d %"}}
        for number in range(_SHORT)
    ]
    return await alice.create_room(preset="public_chat", initial_state=things)


async def state_of(person: Person, room_id: str) -> dict[tuple[str, str], Any]:
    """The state, asked for twice, by type and key, without ages."""
    answers = [await person.get("rooms", room_id, "state") for _ in range(2)]
    found = []
    for answer in answers:
        assert answer.status == 200, answer
        assert all(event["unsigned"].pop("age") >= 0 for event in answer.body)
        found.append({(event["type"], event["state_key"]): event for event in answer.body})
    assert found[0] == found[1]
    assert len(found[0]) > _SHORT
    return found[0]


async def members_of(person: Person, room_id: str, **query: str) -> dict[str, Any]:
    """The same of GET /members."""
    found = []
    for _ in range(2):
        answer = await person.get("rooms", room_id, "members", **query)
        assert answer.status == 200, answer
        assert all(event["unsigned"].pop("age") >= 0 for event in answer.body["chunk"])
        found.append({event["state_key"]: event for event in answer.body["chunk"]})
    assert found[0] == found[1]
    return found[0]


async def test_they_are_what_single_events_are(alice: Person, room_id: str) -> None:
    for (type, state_key), event in (await state_of(alice, room_id)).items():
        single = (await alice.get("rooms", room_id, "event", event["event_id"])).body
        del single["unsigned"]
        assert {name: value for name, value in event.items() if name != "unsigned"} == single
        if type == _TYPE:
            assert event["content"] == {"share": f"{state_key}%d %"}


async def test_ages_grow(alice: Person, room_id: str) -> None:
    first = (await alice.get("rooms", room_id, "state")).body
    ages = {event["event_id"]: event["unsigned"]["age"] for event in first}
    last = ages
    # Answers take more than no time: after some of them the clock has gone on.
    while last == ages:
        again = (await alice.get("rooms", room_id, "state")).body
        last = {event["event_id"]: event["unsigned"]["age"] for event in again}
    assert {last[event_id] - age for event_id, age in ages.items()} == {
        last[first[0]["event_id"]] - ages[first[0]["event_id"]]
    }
    assert all(last[event_id] > age for event_id, age in ages.items())


async def test_new_state_is_in_them(alice: Person, room_id: str) -> None:
    await state_of(alice, room_id)
    await alice.set_state(room_id, _TYPE, {"share": "new"}, "7")
    await alice.set_state(room_id, "m.room.topic", {"topic": "things"})
    state = await state_of(alice, room_id)
    assert state[_TYPE, "7"]["content"] == {"share": "new"}
    assert state["m.room.topic", ""]["content"]["topic"] == "things"


async def test_redactions_are_in_them(alice: Person, room_id: str) -> None:
    event_id = (await state_of(alice, room_id))[_TYPE, "7"]["event_id"]
    redaction = await alice.put(
        "rooms", room_id, "redact", event_id, "first", body={"reason": "secret reason"}
    )
    event = (await state_of(alice, room_id))[_TYPE, "7"]
    assert event["content"] == {}
    because = event["unsigned"]["redacted_because"]
    assert because["event_id"] == redaction.body["event_id"]
    assert because["content"]["reason"] == "secret reason"
    await alice.put("rooms", room_id, "redact", redaction.body["event_id"], "second", body={})
    event = (await state_of(alice, room_id))[_TYPE, "7"]
    assert event["content"] == {}
    assert "reason" not in event["unsigned"]["redacted_because"]["content"]


async def test_who_has_left_is_shown_the_state_of_then(town: Town, alice: Person, room_id: str) -> None:
    bob = await town.person("bob")
    await bob.join(room_id)
    await state_of(bob, room_id)
    await bob.post("rooms", room_id, "leave")
    await alice.set_state(room_id, _TYPE, {"share": "later"}, "7")
    assert (await state_of(alice, room_id))[_TYPE, "7"]["content"] == {"share": "later"}
    assert (await state_of(bob, room_id))[_TYPE, "7"]["content"] == {"share": "7%d %"}
    assert (await state_of(alice, room_id))[_TYPE, "7"]["content"] == {"share": "later"}
    await bob.join(room_id)
    assert (await state_of(bob, room_id))[_TYPE, "7"]["content"] == {"share": "later"}


async def test_strangers_get_nothing_of_them(town: Town, alice: Person, room_id: str) -> None:
    await state_of(alice, room_id)
    stranger = await town.person("stranger")
    assert (await stranger.get("rooms", room_id, "state")).error == (403, "M_FORBIDDEN")
    assert (await stranger.get("rooms", room_id, "members")).error == (403, "M_FORBIDDEN")


async def test_long_lists_of_members_follow_who_comes_and_goes(town: Town, alice: Person) -> None:
    room_id = await alice.create_room(preset="private_chat")
    guests = [f"@guest{number}:{town.server_name}" for number in range(_SHORT)]
    for guest in guests:
        await alice.set_state(room_id, "m.room.member", {"membership": "ban"}, guest)
    everybody = await members_of(alice, room_id)
    assert set(everybody) == {alice.user_id, *guests}
    assert len(await members_of(alice, room_id, not_membership="ban")) == 1
    await alice.put("profile", alice.user_id, "displayname", body={"displayname": "100% Alice"})
    assert (await members_of(alice, room_id))[alice.user_id]["content"]["displayname"] == "100% Alice"
    bob = await town.person("bob")
    await alice.invite(room_id, bob.user_id)
    await bob.join(room_id)
    assert (await members_of(alice, room_id))[bob.user_id]["content"]["membership"] == "join"
    assert await members_of(bob, room_id) == await members_of(alice, room_id)
    await bob.post("rooms", room_id, "leave")
    assert (await members_of(alice, room_id))[bob.user_id]["content"]["membership"] == "leave"
    assert bob.user_id not in await members_of(alice, room_id, not_membership="leave")
    await alice.post("rooms", room_id, "unban", body={"user_id": guests[0]})
    assert guests[0] not in await members_of(alice, room_id, membership="ban")
