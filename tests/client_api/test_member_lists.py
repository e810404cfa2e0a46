"""Lists of members are those of now, however often they were asked for before."""

from typing import Any

from tests.people import Person, Town


async def joined(person: Person, room_id: str) -> dict[str, Any]:
    """Everybody in the room, asked for twice."""
    answers = [await person.get("rooms", room_id, "joined_members") for _ in range(2)]
    assert answers[0].body == answers[1].body
    found: dict[str, Any] = answers[0].body["joined"]
    return found


async def listed(person: Person, room_id: str, **query: str) -> set[str]:
    """The users of GET /members, asked for twice."""
    answers = [await person.get("rooms", room_id, "members", **query) for _ in range(2)]
    users = [{event["state_key"] for event in answer.body["chunk"]} for answer in answers]
    assert users[0] == users[1]
    return users[0]


async def test_they_follow_who_comes_and_goes(town: Town) -> None:
    alice, bob = await town.person("alice"), await town.person("bob")
    room_id = await alice.create_room(preset="public_chat")
    assert set(await joined(alice, room_id)) == {alice.user_id}
    assert await listed(alice, room_id) == {alice.user_id}
    await bob.join(room_id)
    assert set(await joined(alice, room_id)) == {alice.user_id, bob.user_id}
    assert await listed(alice, room_id, membership="join") == {alice.user_id, bob.user_id}
    await bob.post("rooms", room_id, "leave")
    assert set(await joined(alice, room_id)) == {alice.user_id}
    assert await listed(alice, room_id, membership="join") == {alice.user_id}
    assert await listed(alice, room_id, not_membership="join") == {bob.user_id}


async def test_names_change_and_are_redacted(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    await alice.put("profile", alice.user_id, "displayname", body={"displayname": "Al"})
    assert await joined(alice, room_id) == {alice.user_id: {"display_name": "Al"}}
    [event] = (await alice.get("rooms", room_id, "members")).body["chunk"]
    await alice.put("rooms", room_id, "redact", event["event_id"], "txn", body={})
    assert await joined(alice, room_id) == {alice.user_id: {}}
