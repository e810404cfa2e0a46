"""History from before we came: fetched where readers come upon its end, and once for all of them."""

import asyncio
from random import Random

import pytest

from tests.eyes import Eyes
from tests.people import Person, Town
from tests.remote_room import RemoteRoom
from tests.remote_scripts import refuse
from tests.remote_server import RemoteServer

pytestmark = pytest.mark.timeout(120)


async def enter(town: Town, room: RemoteRoom, remote: RemoteServer, name: str = "bob") -> Person:
    """Somebody of ours, who has joined the room."""
    person = await town.person(name)
    answer = await person.ask("POST", "join", room.room_id, query={"via": remote.name})
    assert answer.status == 200, answer
    return person


async def read_back(person: Person, room_id: str, limit: int = 100) -> list[str]:
    """The texts of a room from the newest on, as far as there are any."""
    found: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = await person.get("rooms", room_id, "messages", dir="b", limit=str(limit), **token)
        assert page.status == 200, page
        found += [e["content"].get("body", "") for e in page.body["chunk"] if e["type"] == "m.room.message"]
        if "end" not in page.body:
            return found
        token = {"from": page.body["end"]}


async def check_states(town: Town, remote: RemoteServer, room: RemoteRoom) -> None:
    """What we say of the states in the room's past is what they were."""
    for event in room.events[1:]:
        answer = await remote.ask(
            town.server_name, "GET", "v1", "state_ids", room.room_id, query={"event_id": event.event_id}
        )
        assert answer.status == 200, (event, answer)
        expected = {other.event_id for other in room.state(event.before).values()}
        assert set(answer.body["pdu_ids"]) == expected, event


def answer_in_parts(remote: RemoteServer, count: int) -> None:
    """Let it give at most so many events at once."""
    remote.lie("GET", "/backfill/", lambda body: body | {"pdus": body["pdus"][:count]})


# --- the state before old events


async def test_a_long_history_of_messages_needs_no_states(federated_town: Town, remote: RemoteServer) -> None:
    """What follows from the state before our join need not be asked for; it was once for every hundred events."""
    room = remote.make_room()
    texts = [f"message {number}" for number in range(250)]
    for text in texts:
        room.say(remote.user("alice"), text)
    bob = await enter(federated_town, room, remote)
    assert await read_back(bob, room.room_id) == texts[::-1]
    assert len(remote.received("GET", "/backfill/")) >= 3
    assert remote.received("GET", "/state_ids/") == []


async def test_state_in_old_history_is_asked_for_once_an_answer(
    federated_town: Town, remote: RemoteServer
) -> None:
    room, alice = remote.make_room(), remote.user("alice")
    texts = [f"message {number}" for number in range(24)]
    for number, text in enumerate(texts):
        room.say(alice, text)
        if number % 3 == 0:
            room.send("m.room.topic", alice, {"topic": text}, state_key="")
    bob = await enter(federated_town, room, remote)
    answer_in_parts(remote, 9)
    assert await read_back(bob, room.room_id) == texts[::-1]
    answers = len(remote.received("GET", "/backfill/"))
    assert 4 <= answers <= 6
    assert len(remote.received("GET", "/state_ids/")) <= answers
    await check_states(federated_town, remote, room)


@pytest.mark.parametrize("seed", range(3))
async def test_states_of_a_history_with_branches_are_right(
    federated_town: Town, remote: RemoteServer, seed: int
) -> None:
    rng, room, alice = Random(seed), remote.make_room(), remote.user("alice")
    for number in range(40):
        recent = room.events[3:][-4:]
        prev = rng.sample(recent, rng.randint(1, min(2, len(recent))))
        if rng.random() < 0.25:
            room.send("m.room.topic", alice, {"topic": str(number)}, state_key="", prev=prev)
        else:
            room.say(alice, f"message {number}", prev=prev)
    bob = await enter(federated_town, room, remote)
    answer_in_parts(remote, 15)
    texts = [event.pdu["content"]["body"] for event in room.events if event.pdu["type"] == "m.room.message"]
    assert sorted(await read_back(bob, room.room_id, limit=20)) == sorted(texts)
    await check_states(federated_town, remote, room)


async def test_a_server_that_tells_no_states_still_gives_messages(
    federated_town: Town, remote: RemoteServer
) -> None:
    room, alice = remote.make_room(), remote.user("alice")
    texts = [f"message {number}" for number in range(5)]
    for text in texts:
        room.say(alice, text)
    bob = await enter(federated_town, room, remote)
    for part in ("/state_ids/", "/state/"):
        remote.script("GET", part, refuse(403, "M_FORBIDDEN"))
    answer_in_parts(remote, 3)
    assert await read_back(bob, room.room_id) == texts[::-1]


# --- readers


async def test_two_readers_wait_for_the_same_answer(federated_town: Town, remote: RemoteServer) -> None:
    room = remote.make_room()
    room.say(remote.user("alice"), "long ago")
    readers = [await enter(federated_town, room, remote, name) for name in ("bob", "carol")]
    stall = remote.stall("GET", "/backfill/")
    pages = [asyncio.create_task(read_back(reader, room.room_id)) for reader in readers]
    await stall.reached()
    # The second has reached the end as well once its own page of what we have is made.
    for reader in readers:
        page = await reader.get("rooms", room.room_id, "messages", dir="b", limit="1")
        assert len(page.body["chunk"]) == 1
    stall.release()
    assert [await page for page in pages] == [["long ago"]] * 2
    assert len(remote.received("GET", "/backfill/")) == 1


async def test_who_has_no_patience_starts_nothing_twice(federated_town: Town, remote: RemoteServer) -> None:
    room = remote.make_room()
    room.say(remote.user("alice"), "long ago")
    bob = await enter(federated_town, room, remote)
    stall = remote.stall("GET", "/backfill/")
    for _ in range(3):
        reading = asyncio.create_task(read_back(bob, room.room_id))
        await stall.reached()
        reading.cancel()
        await asyncio.wait([reading])
    stall.release()
    assert await read_back(bob, room.room_id) == ["long ago"]
    assert len(remote.received("GET", "/backfill/")) == 1


async def test_what_we_have_is_told_while_the_rest_is_fetched(
    federated_town: Town, remote: RemoteServer
) -> None:
    room, alice = remote.make_room(), remote.user("alice")
    room.say(alice, "long ago")
    bob, carol = [await enter(federated_town, room, remote, name) for name in ("bob", "carol")]
    said = [room.say(alice, f"message {number}") for number in range(3)]
    await remote.send(federated_town.server_name, *said)
    await Eyes(bob).event(room.room_id, said[-1].event_id)
    stall = remote.stall("GET", "/backfill/")
    waiting = asyncio.create_task(read_back(carol, room.room_id))
    await stall.reached()
    page = await bob.get("rooms", room.room_id, "messages", dir="b", limit="3")
    assert [event["event_id"] for event in page.body["chunk"]] == [e.event_id for e in reversed(said)]
    assert stall.waiting == 1
    stall.release()
    assert (await waiting)[-1] == "long ago"


async def test_old_messages_notify_nobody(federated_town: Town, remote: RemoteServer) -> None:
    room, alice = remote.make_room(), remote.user("alice")
    bob = await federated_town.person("bob")
    mention = {"msgtype": "m.text", "body": "bob", "m.mentions": {"user_ids": [bob.user_id]}}
    for _ in range(3):
        room.send("m.room.message", alice, mention)
    answer = await bob.ask("POST", "join", room.room_id, query={"via": remote.name})
    assert answer.status == 200, answer
    assert await read_back(bob, room.room_id) == ["bob"] * 3
    assert (await bob.get("notifications")).body["notifications"] == []
    counts = (await bob.sync())["rooms"]["join"][room.room_id]["unread_notifications"]
    assert counts == {"highlight_count": 0, "notification_count": 0}
    # A mention of now is one.
    now = room.send("m.room.message", alice, mention)
    await remote.send(federated_town.server_name, now)
    await Eyes(bob).event(room.room_id, now.event_id)
    [told] = (await bob.get("notifications")).body["notifications"]
    assert told["event"]["event_id"] == now.event_id
    counts = (await bob.sync())["rooms"]["join"][room.room_id]["unread_notifications"]
    assert counts["highlight_count"] == 1
