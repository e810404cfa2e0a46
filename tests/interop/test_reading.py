"""What the other homeserver's users can read: history from before they came, people, rooms, receipts."""

import time

import pytest

from tests.eyes import Eyes
from tests.interop.pairs import Pair, history, join_by, state_ids, texts

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]


# --- history


async def test_history_from_before_the_join_is_fetched(pair: Pair) -> None:
    alice, bob = await pair.people()
    room_id = await alice.create_room(preset="public_chat")
    said = [f"number {number}" for number in range(150)]
    for text in said:
        await alice.say(room_id, text)
    await join_by(bob, room_id, pair.here.server_name)
    events = await history(bob, room_id)
    assert texts(events) == said[::-1]
    assert events[-1]["type"] == "m.room.create"


async def test_history_is_hidden_from_who_came_later(pair: Pair) -> None:
    alice, bob = await pair.people()
    visibility = {"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}
    room_id = await alice.create_room(preset="public_chat", initial_state=[visibility])
    for number in range(30):
        await alice.say(room_id, f"number {number}")
    await join_by(bob, room_id, pair.here.server_name)
    bob_sees = Eyes(bob)
    said = await alice.say(room_id, "for all")
    await bob_sees.event(room_id, said)
    assert texts(await history(bob, room_id)) == ["for all"]


async def test_what_was_said_while_away_is_fetched(pair: Pair) -> None:
    room = await pair.shared_room()
    await room.bob.post("rooms", room.room_id, "leave")
    await room.alice_sees.sees_member(room.room_id, room.bob.user_id, "leave")
    said = [f"number {number}" for number in range(60)]
    for text in said:
        await room.alice.say(room.room_id, text)
    answer = await room.alice.set_state(room.room_id, "m.room.topic", {"topic": "while away"})
    assert answer.status == 200
    await room.join(room.bob)
    assert texts(await history(room.bob, room.room_id)) == said[::-1]
    assert await room.bob.state(room.room_id, "m.room.topic") == {"topic": "while away"}
    await room.check_same_state()


async def test_events_are_found_by_time_on_the_other_server(pair: Pair) -> None:
    alice, bob = await pair.people()
    room_id = await alice.create_room(preset="public_chat")
    first = await alice.say(room_id, "first")
    event = (await alice.get("rooms", room_id, "event", first)).body
    await alice.say(room_id, "second")
    await join_by(bob, room_id, pair.here.server_name)
    path = f"/_matrix/client/v1/rooms/{room_id}/timestamp_to_event?dir=f&ts={event['origin_server_ts']}"
    found = await bob.raw("GET", path)
    assert found.body["event_id"] == first, found


# --- what passes


async def test_typing_is_seen(pair: Pair) -> None:
    room = await pair.shared_room()
    for person, eyes in ((room.alice, room.bob_sees), (room.bob, room.alice_sees)):
        path = ("rooms", room.room_id, "typing", person.user_id)
        assert (await person.put(*path, body={"typing": True, "timeout": 30_000})).status == 200
        await eyes.sees_typing(room.room_id, person.user_id)
        assert (await person.put(*path, body={"typing": False})).status == 200
        await eyes.sees_typing(room.room_id)


async def test_receipts_are_seen(pair: Pair) -> None:
    room = await pair.shared_room()
    for writer, reader, eyes in (
        (room.alice, room.bob, room.alice_sees),
        (room.bob, room.alice, room.bob_sees),
    ):
        said = await room.say(writer, "read this")
        path = ("rooms", room.room_id, "receipt", "m.read", said)
        assert (await reader.post(*path, body={"thread_id": "main"})).status == 200
        await eyes.sees_receipt(room.room_id, said, reader.user_id)


async def test_private_receipts_stay_here(pair: Pair) -> None:
    room = await pair.shared_room()
    first, second = await room.say(room.bob, "one"), await room.say(room.bob, "two")
    for kind, event_id in (("m.read.private", second), ("m.read", first)):
        answer = await room.alice.post("rooms", room.room_id, "receipt", kind, event_id)
        assert answer.status == 200
    content = await room.bob_sees.ephemeral(room.room_id, "m.receipt", lambda c: first in c)
    assert second not in content


async def test_presence_is_seen(pair: Pair) -> None:
    room = await pair.shared_room()
    for person, eyes in ((room.alice, room.bob_sees), (room.bob, room.alice_sees)):
        body = {"presence": "online", "status_msg": f"status of {person.user_id}"}
        assert (await person.put("presence", person.user_id, "status", body=body)).status == 200
        await eyes.sees_status(person.user_id, body["status_msg"])


# --- questions


async def test_profiles_are_asked_for(pair: Pair) -> None:
    alice, bob = await pair.people()
    await alice.put("profile", alice.user_id, "displayname", body={"displayname": "Alice Here"})
    found = await bob.get("profile", alice.user_id)
    assert found.body["displayname"] == "Alice Here"
    found = await bob.get("profile", alice.user_id, "displayname")
    assert found.body == {"displayname": "Alice Here"}
    unknown = await bob.get("profile", f"@nobody-at-all:{pair.here.server_name}")
    assert unknown.error == (404, "M_NOT_FOUND")


async def test_public_rooms_are_listed(pair: Pair) -> None:
    alice, bob = await pair.people()
    name = f"Listed {time.time_ns()}"
    room_id = await alice.create_room(preset="public_chat", visibility="public", name=name, topic="for all")
    query = {"server": pair.here.server_name}
    listed = await bob.get("publicRooms", **query)
    assert listed.status == 200, listed
    [room] = [room for room in listed.body["chunk"] if room["room_id"] == room_id]
    assert (room["name"], room["topic"], room["num_joined_members"]) == (name, "for all", 1)
    body = {"filter": {"generic_search_term": name}}
    searched = await bob.ask("POST", "publicRooms", body=body, query=query)
    assert [room["room_id"] for room in searched.body["chunk"]] == [room_id]


# --- rooms that move


async def test_a_room_moves_on(pair: Pair) -> None:
    room = await pair.shared_room(room_version="11")
    answer = await room.alice.post("rooms", room.room_id, "upgrade", body={"new_version": "12"})
    assert answer.status == 200, answer
    new_room_id = answer.body["replacement_room"]
    tombstone = await room.bob_sees.until(lambda: room.bob_sees.state(room.room_id, "m.room.tombstone"))
    assert tombstone["replacement_room"] == new_room_id
    await join_by(room.bob, new_room_id, pair.here.server_name)
    assert ("m.room.create", "") in await state_ids(room.bob, new_room_id)


async def test_spaces_of_the_other_server_are_walked(pair: Pair) -> None:
    alice, bob = await pair.people()
    space = await alice.create_room(preset="public_chat", creation_content={"type": "m.space"}, name="Space")
    inner = await alice.create_room(preset="public_chat", creation_content={"type": "m.space"}, name="Inner")
    child = await alice.create_room(preset="public_chat", name="Child")
    hidden = await alice.create_room(preset="private_chat", name="Hidden")
    content = {"via": [pair.here.server_name]}
    for parent, room_id, order in ((space, inner, "a"), (space, hidden, "b"), (inner, child, "c")):
        answer = await alice.set_state(parent, "m.space.child", content | {"order": order}, room_id)
        assert answer.status == 200, answer
    await join_by(bob, space, pair.here.server_name)
    found = await bob.raw("GET", f"/_matrix/client/v1/rooms/{space}/hierarchy")
    assert [room["room_id"] for room in found.body["rooms"]] == [space, inner, child], found
    assert [room["name"] for room in found.body["rooms"]] == ["Space", "Inner", "Child"]
