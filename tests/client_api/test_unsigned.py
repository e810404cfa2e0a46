"""What is personal in an event, wherever it is read: `unsigned`."""

from typing import Any

from tests.client_api.sync_client import joined, sync
from tests.people import Person, Town

BUSY = {"room": {"timeline": {"limit": 1}}}


async def login_again(person: Person) -> Person:
    """The same user's other device."""
    body = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": person.user_id},
        "password": f"{person.user_id[1:].split(':')[0]} has a secret",
    }
    answer = await person.post("login", body=body)
    assert answer.status == 200, answer
    return Person(person.session, person.base_url, answer.body)


async def readings(person: Person, room_id: str, event_id: str) -> list[Any]:
    """`unsigned` of the event in /event, /messages, /context and /sync."""
    section = joined(await sync(person), room_id)
    context = (await person.get("rooms", room_id, "context", event_id)).body
    lists = [
        [(await person.get("rooms", room_id, "event", event_id)).body],
        (await person.get("rooms", room_id, "messages", dir="b")).body["chunk"],
        [context["event"]],
        section["timeline"]["events"] + section["state"]["events"],
    ]
    return [event["unsigned"] for events in lists for event in events if event["event_id"] == event_id]


async def test_state_of_a_gap_tells_the_membership_at_each_event(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room(preset="public_chat", topic="old")
    await bob.join(room_id)
    since = (await sync(bob))["next_batch"]
    await alice.set_state(room_id, "m.room.topic", {"topic": "new"})
    await alice.say(room_id, "one")
    await alice.say(room_id, "two")
    [event] = joined(await sync(bob, since, filter=BUSY), room_id)["state"]["events"]
    assert event["unsigned"]["membership"] == "join"
    assert event["unsigned"]["prev_content"]["topic"] == "old"
    assert event["unsigned"]["replaces_state"]
    await bob.post("rooms", room_id, "leave")
    await alice.set_state(room_id, "m.room.topic", {"topic": "hidden"})
    await bob.join(room_id)
    shown = await readings(bob, room_id, event["event_id"])
    assert [unsigned.get("membership") for unsigned in shown[:3]] == ["join"] * 3
    listed = (await bob.get("rooms", room_id, "messages", dir="b", limit="50")).body["chunk"]
    memberships = [event["unsigned"]["membership"] for event in listed]
    assert memberships[:4] == ["join", "leave", "leave", "join"]


async def test_lazy_members_that_did_not_change_tell_nothing_of_before(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    await bob.put("profile", bob.user_id, "displayname", body={"displayname": "Bob"})
    filter = {"room": {"state": {"lazy_load_members": True}, "timeline": {"limit": 1}}}
    since = (await sync(alice, filter=filter))["next_batch"]
    await alice.say(room_id, "one")
    since = (await sync(alice, since, filter=filter))["next_batch"]
    await bob.say(room_id, "two")
    for event in joined(await sync(alice, since, filter=filter), room_id)["state"]["events"]:
        assert event["state_key"] == bob.user_id
        assert "prev_content" not in event["unsigned"]


async def test_only_the_sending_device_learns_its_transaction(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    event_id = await alice.say(room_id, "hello", "mytxn")
    other = await login_again(alice)
    for person, expected in ((alice, "mytxn"), (other, None), (bob, None)):
        shown = await readings(person, room_id, event_id)
        assert len(shown) == 4
        assert [unsigned.get("transaction_id") for unsigned in shown] == [expected] * 4
        assert all(unsigned["age"] >= 0 for unsigned in shown)


async def test_what_is_redacted_says_by_which_event(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    event_id = await alice.say(room_id, "secret")
    answer = await alice.put("rooms", room_id, "redact", event_id, "r1", body={"reason": "spam"})
    shown = await readings(alice, room_id, event_id)
    assert len(shown) == 4
    for unsigned in shown:
        because = unsigned["redacted_because"]
        assert because["event_id"] == answer.body["event_id"]
        assert because["content"]["reason"] == "spam"
        assert "prev_content" not in unsigned
