"""What happens in a room while a server is coming into it."""

import asyncio
import json

import aiohttp
import asyncpg
import pytest

from tests.eyes import Eyes
from tests.federation_town import FederatedProcess
from tests.people import Answer, Person, Town
from tests.remote_room import RemoteRoom
from tests.remote_scripts import Received, Reply
from tests.remote_server import RemoteServer
from tests.remote_world import Refused


@pytest.mark.parametrize("version_id", ["2", "10", "12"])
async def test_what_happens_between_the_two_steps_of_a_join_is_sent_after_it(
    federated_town: Town, remote: RemoteServer, version_id: str
) -> None:
    alice, bob = await federated_town.person("alice"), remote.user("bob")
    room_id = await alice.create_room(preset="public_chat", room_version=version_id)
    name = federated_town.server_name
    made = await remote.ask(name, "GET", "v1", "make_join", room_id, bob, query={"ver": version_id})
    assert made.status == 200, made
    # Nobody of the other server is in the room yet.
    await alice.set_state(room_id, "m.room.topic", {"topic": "meanwhile"})
    said = await alice.say(room_id, "before you were here")
    proto = made.body["event"]
    if version_id == "2":
        proto |= {key: [pair[0] for pair in proto[key]] for key in ("auth_events", "prev_events")}
    pdu, event_id = remote.sign(proto, version_id)
    sent = await remote.ask(name, "PUT", "v2", "send_join", room_id, event_id, body=pdu)
    assert sent.status == 200, sent
    got = await remote.wait_for_pdu(lambda pdu: pdu["content"].get("body") == "before you were here")
    # What comes before it can be asked for.
    body = {"latest_events": [said], "earliest_events": [event_id], "limit": 10}
    missing = await remote.ask(name, "POST", "v1", "get_missing_events", room_id, body=body)
    assert "meanwhile" in [event["content"].get("topic") for event in missing.body["events"]]
    assert got["sender"] == alice.user_id
    # Once: the next one comes alone.
    last = await alice.say(room_id, "welcome")
    await remote.wait_for_pdu(lambda pdu: pdu["content"].get("body") == "welcome")
    bodies = [pdu["content"].get("body") for pdu in remote.world.pdus if pdu["type"] == "m.room.message"]
    assert bodies == ["before you were here", "welcome"]
    await Eyes(alice).event(room_id, last)


async def enter(person: Person, remote: RemoteServer, room: RemoteRoom) -> Answer:
    return await person.ask("POST", "join", room.room_id, query={"via": remote.name}, body={})


async def test_what_is_said_while_we_join_is_in_the_room(federated_town: Town, remote: RemoteServer) -> None:
    bob, room = await federated_town.person("bob"), remote.make_room()

    async def say() -> None:
        for text in ("welcome", "bob"):
            said = room.say(remote.user("alice"), text)
            answer = await remote.send(federated_town.server_name, said)
            assert answer.status == 200, answer

    remote.keep_waiting("PUT", "/send_join/", say)
    assert (await enter(bob, remote, room)).status == 200
    await Eyes(bob).event(room.room_id, room.newest.event_id)
    page = await bob.get("rooms", room.room_id, "messages", dir="b", limit="10")
    bodies = [e["content"]["body"] for e in page.body["chunk"] if e["type"] == "m.room.message"]
    assert bodies == ["bob", "welcome"]


async def test_a_ban_while_we_join_counts(federated_town: Town, remote: RemoteServer) -> None:
    bob, room = await federated_town.person("bob"), remote.make_room()

    async def ban() -> None:
        banned = room.member(remote.user("alice"), bob.user_id, "ban")
        assert (await remote.send(federated_town.server_name, banned)).status == 200

    remote.keep_waiting("PUT", "/send_join/", ban)
    await enter(bob, remote, room)
    eyes = Eyes(bob)
    await eyes.membership(room.room_id, "leave")
    assert eyes.member(room.room_id, bob.user_id) == "ban"


async def test_what_came_for_a_join_that_failed_is_forgotten(
    federated_town: Town, remote: RemoteServer
) -> None:
    bob, room = await federated_town.person("bob"), remote.make_room()

    async def say_and_refuse(request: Received) -> Reply:
        said = room.say(remote.user("alice"), "too early")
        assert (await remote.send(federated_town.server_name, said)).status == 200
        return Refused(403, "M_FORBIDDEN").reply

    remote.script("PUT", "/send_join/", say_and_refuse)
    assert (await enter(bob, remote, room)).status == 403
    remote.behave()
    assert (await enter(bob, remote, room)).status == 200
    last = room.say(remote.user("alice"), "now")
    await remote.send(federated_town.server_name, last)
    await Eyes(bob).event(room.room_id, last.event_id)


@pytest.mark.faults
async def test_what_was_kept_outlives_a_kill(crashing: FederatedProcess, remote: RemoteServer) -> None:
    room = remote.make_room()
    async with aiohttp.ClientSession() as session:
        bob = await Town(session, crashing.base_url, crashing.server_name).person("bob")
        assert (await enter(bob, remote, room)).status == 200
        crashing.kill()
        # As if that had been between the join and what was kept for it.
        said = room.say(remote.user("alice"), "in between")
        database = await asyncpg.connect(crashing.database_url)
        await database.execute(
            "INSERT INTO early_events (room_id, origin, pdus) VALUES ($1, $2, $3), ('!gone:x', $2, $3)",
            room.room_id,
            remote.name,
            json.dumps([said.pdu]).encode(),
        )
        await asyncio.to_thread(crashing.start)
        await Eyes(bob).event(room.room_id, said.event_id)
        async with asyncio.timeout(30):
            while rows := await database.fetchval("SELECT count(*) FROM early_events"):
                assert rows <= 2
                await asyncio.sleep(0.01)
        await database.close()
