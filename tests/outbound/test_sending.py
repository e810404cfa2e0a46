"""What our users do reaches the servers in the room, once, in order, and nobody else."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.people import Town
from tests.remote_server import RemoteServer

pytestmark = pytest.mark.timeout(120)

MakeRemote = Callable[..., Awaitable[RemoteServer]]


def sent_to(remote: RemoteServer) -> list[dict[str, Any]]:
    """All PDUs that the remote was sent, in order."""
    return [pdu for request in remote.received("PUT", "/send/") for pdu in request.body["pdus"]]


def texts(remote: RemoteServer) -> list[str]:
    """The bodies of the messages that the remote was sent, in order."""
    return [pdu["content"]["body"] for pdu in sent_to(remote) if pdu["type"] == "m.room.message"]


def is_text(body: str) -> Callable[[dict[str, Any]], bool]:
    """Whether a PDU is the message."""
    return lambda pdu: pdu["content"].get("body") == body


async def test_messages_reach_the_servers_in_the_room_in_order(
    federated_town: Town, make_remote: MakeRemote
) -> None:
    alice = await federated_town.person("alice")
    inside, outside = await make_remote(), await make_remote()
    room_id = await alice.create_room(preset="public_chat")
    other_id = await alice.create_room(preset="public_chat")
    await inside.join(federated_town.server_name, room_id, inside.user("bob"))
    await outside.join(federated_town.server_name, other_id, outside.user("carol"))
    said = [f"message {number}" for number in range(70)]
    for text in said:
        await alice.say(room_id, text)
    await inside.wait_for_pdu(is_text(said[-1]))
    assert texts(inside) == said
    for request in inside.received("PUT", "/send/"):
        assert request.body["origin"] == federated_town.server_name
        assert len(request.body["pdus"]) <= 50
    assert not texts(outside)


async def test_a_join_through_us_reaches_the_others_and_not_who_brought_it(
    federated_town: Town, make_remote: MakeRemote
) -> None:
    alice = await federated_town.person("alice")
    first, second = await make_remote(), await make_remote()
    room_id = await alice.create_room(preset="public_chat")
    await first.join(federated_town.server_name, room_id, first.user("bob"))
    await second.join(federated_town.server_name, room_id, second.user("carol"))
    await first.wait_for_pdu(lambda pdu: pdu.get("state_key") == second.user("carol"))
    await alice.say(room_id, "welcome")
    await second.wait_for_pdu(is_text("welcome"))
    assert not [pdu for pdu in sent_to(second) if pdu["type"] == "m.room.member"]


async def test_what_others_say_is_not_passed_on(federated_town: Town, make_remote: MakeRemote) -> None:
    alice = await federated_town.person("alice")
    first, second = await make_remote(), await make_remote()
    room_id = await alice.create_room(preset="public_chat")
    room = await first.join(federated_town.server_name, room_id, first.user("bob"))
    await second.join(federated_town.server_name, room_id, second.user("carol"))
    await first.send(federated_town.server_name, room.say(first.user("bob"), "from elsewhere"))
    await alice.say(room_id, "from here")
    await second.wait_for_pdu(is_text("from here"))
    assert texts(second) == ["from here"]


async def test_who_is_kicked_hears_of_it_and_of_nothing_after(
    federated_town: Town, make_remote: MakeRemote
) -> None:
    alice = await federated_town.person("alice")
    gone, staying = await make_remote(), await make_remote()
    room_id = await alice.create_room(preset="public_chat")
    for remote in (gone, staying):
        await remote.join(federated_town.server_name, room_id, remote.user("bob"))
    body = {"user_id": gone.user("bob"), "reason": "out"}
    assert (await alice.post("rooms", room_id, "kick", body=body)).status == 200
    await gone.wait_for_pdu(lambda pdu: pdu["content"].get("reason") == "out")
    await alice.say(room_id, "they are gone")
    await staying.wait_for_pdu(is_text("they are gone"))
    assert not texts(gone)


async def test_servers_that_the_room_denies_hear_what_is_done_in_it(
    federated_town: Town, make_remote: MakeRemote
) -> None:
    """An access list keeps out what they do. They are to keep to it, too, so they have to know of it."""
    alice = await federated_town.person("alice")
    denied, staying = await make_remote(host="::1"), await make_remote()
    room_id = await alice.create_room(preset="public_chat")
    for remote in (denied, staying):
        await remote.join(federated_town.server_name, room_id, remote.user("bob"))
    acl = {"allow": ["*"], "deny": ["[::1]"], "allow_ip_literals": True}
    assert (await alice.set_state(room_id, "m.room.server_acl", acl)).status == 200
    await alice.say(room_id, "among us")
    for remote in (denied, staying):
        await remote.wait_for_pdu(is_text("among us"))
        assert [pdu["content"] for pdu in sent_to(remote) if pdu["type"] == "m.room.server_acl"] == [acl]


async def test_a_slow_server_does_not_delay_others(federated_town: Town, make_remote: MakeRemote) -> None:
    alice = await federated_town.person("alice")
    slow, quick = await make_remote(), await make_remote()
    room_id = await alice.create_room(preset="public_chat")
    for remote in (slow, quick):
        await remote.join(federated_town.server_name, room_id, remote.user("bob"))
    stall = slow.stall("PUT", "/send/")
    for number in range(5):
        await alice.say(room_id, f"message {number}")
        await quick.wait_for_pdu(is_text(f"message {number}"))
    # One is under way to it, and nothing else until that is answered.
    assert stall.waiting == 1
    stall.release()
    await slow.wait_for_pdu(is_text("message 4"))
    assert texts(slow) == [f"message {number}" for number in range(5)]


async def test_a_join_through_another_server_is_that_servers_to_tell(
    federated_town: Town, remote: RemoteServer
) -> None:
    bob, room = await federated_town.person("bob"), remote.make_room()
    answer = await bob.ask("POST", "join", room.room_id, query={"via": remote.name})
    assert answer.status == 200, answer
    await bob.say(room.room_id, "here I am")
    await remote.wait_for_pdu(is_text("here I am"))
    assert [pdu["type"] for pdu in sent_to(remote)] == ["m.room.message"]
