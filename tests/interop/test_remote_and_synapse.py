"""The scripted remote of the tests speaks with Synapse: what it says about our server is to be believed."""

import pytest

from tests.eyes import Eyes
from tests.remote_server import RemoteServer
from tests.synapse_server import ForeignTown

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]

VERSIONS = [str(number) for number in range(1, 13)]


async def test_synapse_answers_it(synapse_town: ForeignTown, remote: RemoteServer) -> None:
    answer = await remote.ask(synapse_town.server_name, "GET", "v1", "version")
    assert answer.body["server"]["name"] == "Synapse"


@pytest.mark.parametrize("version_id", VERSIONS)
async def test_it_joins_rooms_there(synapse_town: ForeignTown, remote: RemoteServer, version_id: str) -> None:
    alice, bob = await synapse_town.person("alice"), remote.user("bob")
    room_id = await alice.create_room(preset="public_chat", room_version=version_id)
    room = await remote.join(synapse_town.server_name, room_id, bob)
    assert room.membership(alice.user_id) == room.membership(bob) == "join"
    hello = room.say(bob, "hello")
    answer = await remote.send(synapse_town.server_name, hello)
    assert answer.body == {"pdus": {hello.event_id: {}}}
    seen = await Eyes(alice).event(room_id, hello.event_id)
    assert seen["content"]["body"] == "hello"
    said = await alice.say(room_id, "hello to you")
    await remote.wait_until(lambda: room.newest.event_id == said)
    assert room.newest.rejected is None


@pytest.mark.parametrize("version_id", VERSIONS)
async def test_its_rooms_are_joined_from_there(
    synapse_town: ForeignTown, remote: RemoteServer, version_id: str
) -> None:
    bob = await synapse_town.person("bob")
    room = remote.make_room(version_id)
    room.say(remote.user("alice"), "before the join")
    answer = await bob.ask("POST", "join", room.room_id, query={"via": remote.name})
    assert answer.status == 200, answer
    assert room.membership(bob.user_id) == "join"
    said = await bob.say(room.room_id, "hello")
    await remote.wait_until(lambda: room.newest.event_id == said)
    assert room.newest.rejected is None
    page = await bob.get("rooms", room.room_id, "messages", dir="b", limit="50")
    assert "before the join" in [event["content"].get("body") for event in page.body["chunk"]]
