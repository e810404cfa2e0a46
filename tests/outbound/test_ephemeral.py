"""Typing, receipts and presence go to the servers in the room, and come from them."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.eyes import Eyes
from tests.people import Person, Town
from tests.remote_server import RemoteServer

pytestmark = pytest.mark.timeout(120)


def edus(remote: RemoteServer, edu_type: str) -> list[dict[str, Any]]:
    """The contents of what the remote was sent of this type, in order."""
    return [edu["content"] for edu in remote.world.edus if edu["edu_type"] == edu_type]


async def wait_for(remote: RemoteServer, edu_type: str, is_wanted: Callable[[dict[str, Any]], bool]) -> Any:
    """The first content of this type with this property."""
    found = await remote.wait_until(lambda: [one for one in edus(remote, edu_type) if is_wanted(one)])
    return found[0]


async def share_room(town: Town, remote: RemoteServer) -> tuple[Person, str, Any]:
    """Somebody of ours, and a room with bob of the remote in it."""
    alice = await town.person("alice")
    room_id = await alice.create_room(preset="public_chat")
    return alice, room_id, await remote.join(town.server_name, room_id, remote.user("bob"))


async def type_in(person: Person, room_id: str, is_typing: bool) -> None:
    body = {"typing": is_typing, "timeout": 30_000} if is_typing else {"typing": False}
    assert (await person.put("rooms", room_id, "typing", person.user_id, body=body)).status == 200


async def test_typing_is_told_once_and_its_end(federated_town: Town, remote: RemoteServer) -> None:
    alice, room_id, _ = await share_room(federated_town, remote)
    for _ in range(3):
        await type_in(alice, room_id, True)
    await wait_for(remote, "m.typing", lambda content: content["typing"])
    await type_in(alice, room_id, False)
    await wait_for(remote, "m.typing", lambda content: not content["typing"])
    one = {"room_id": room_id, "user_id": alice.user_id}
    assert edus(remote, "m.typing") == [{**one, "typing": True}, {**one, "typing": False}]


async def test_receipts_are_told_with_their_threads_and_private_ones_are_not(
    federated_town: Town, remote: RemoteServer
) -> None:
    alice, room_id, _ = await share_room(federated_town, remote)
    private, public = await alice.say(room_id, "private"), await alice.say(room_id, "public")
    await alice.post("rooms", room_id, "receipt", "m.read.private", private, body={})
    await alice.post("rooms", room_id, "receipt", "m.read", public, body={"thread_id": "main"})
    content = await wait_for(remote, "m.receipt", lambda content: room_id in content)
    receipt = content[room_id]["m.read"][alice.user_id]
    assert receipt["event_ids"] == [public]
    assert receipt["data"]["thread_id"] == "main"
    assert set(content[room_id]) == {"m.read"}


async def test_presence_is_told_to_servers_that_share_a_room(
    federated_town: Town, remote: RemoteServer
) -> None:
    alice, _, _ = await share_room(federated_town, remote)
    body = {"presence": "online", "status_msg": "here"}
    assert (await alice.put("presence", alice.user_id, "status", body=body)).status == 200
    content = await wait_for(
        remote, "m.presence", lambda content: any(one.get("status_msg") == "here" for one in content["push"])
    )
    [entry] = [one for one in content["push"] if one["user_id"] == alice.user_id]
    assert entry["presence"] == "online"


async def send_edus(remote: RemoteServer, town: Town, *sent: dict[str, Any]) -> None:
    answer = await remote.send(town.server_name, edus=list(sent))
    assert answer.status == 200, answer


def typing_edu(room_id: str, user_id: str, is_typing: bool = True) -> dict[str, Any]:
    """One that says that a user is typing."""
    return {
        "edu_type": "m.typing",
        "content": {"room_id": room_id, "user_id": user_id, "typing": is_typing},
    }


async def sync_room(person: Person, room_id: str, **query: str) -> Any:
    """The room's part of a first sync."""
    answer = await person.get("sync", **query)
    return answer.body["rooms"]["join"][room_id]


def ephemeral(section: Any, kind: str) -> Any:
    """The content of the section's ephemeral event of this type, None without one."""
    return next((one["content"] for one in section["ephemeral"]["events"] if one["type"] == kind), None)


async def test_typing_of_others_is_seen_where_it_is_theirs_to_say(
    federated_town: Town, remote: RemoteServer
) -> None:
    alice, room_id, _ = await share_room(federated_town, remote)
    bob, carol = remote.user("bob"), remote.user("carol")
    await send_edus(
        remote,
        federated_town,
        typing_edu(room_id, alice.user_id),
        typing_edu(room_id, carol),
        typing_edu("!unknown:nowhere.example", bob),
        {"edu_type": "m.typing", "content": {"room_id": 7, "user_id": [], "typing": "yes"}},
        {"edu_type": "org.example.unknown", "content": {}},
        typing_edu(room_id, bob),
    )
    assert ephemeral(await sync_room(alice, room_id), "m.typing") == {"user_ids": [bob]}
    await send_edus(remote, federated_town, typing_edu(room_id, bob, is_typing=False))
    section = await sync_room(alice, room_id)
    assert not (ephemeral(section, "m.typing") or {}).get("user_ids")


async def test_receipts_of_others_are_seen(federated_town: Town, remote: RemoteServer) -> None:
    alice, room_id, _ = await share_room(federated_town, remote)
    bob, event_id = remote.user("bob"), await alice.say(room_id, "read this")
    content = {
        room_id: {
            "m.read": {
                bob: {"event_ids": [event_id], "data": {"ts": 1_533_358_089_009}},
                alice.user_id: {"event_ids": [event_id], "data": {"ts": 5}},
                remote.user("stranger"): {"event_ids": [event_id], "data": {"ts": 5}},
                remote.user("liar"): ["nothing"],
            },
            "m.read.private": {bob: {"event_ids": [event_id], "data": {}}},
        },
        "!unknown:nowhere.example": {"m.read": {bob: {"event_ids": ["$unknown"], "data": {}}}},
        "!strange:nowhere.example": "nothing",
    }
    await send_edus(remote, federated_town, {"edu_type": "m.receipt", "content": content})
    found = ephemeral(await sync_room(alice, room_id), "m.receipt")
    assert found[event_id]["m.read"][bob] == {"ts": 1_533_358_089_009}
    assert set(found[event_id]["m.read"]) == {bob}


async def test_presence_of_others_is_seen_where_a_room_is_shared(
    federated_town: Town, remote: RemoteServer
) -> None:
    alice, _, _ = await share_room(federated_town, remote)
    bob, stranger = remote.user("bob"), remote.user("stranger")
    push = [
        {"user_id": alice.user_id, "presence": "unavailable", "status_msg": "forged"},
        {"user_id": stranger, "presence": "online"},
        {"user_id": bob, "presence": "dancing"},
        {"user_id": bob, "presence": "online", "last_active_ago": 5000, "status_msg": "far away"},
        "nothing",
    ]
    await send_edus(remote, federated_town, {"edu_type": "m.presence", "content": {"push": push}})
    eyes = Eyes(alice)
    await eyes.until(lambda: eyes.presence.get(bob, {}).get("presence") == "online")
    status = (await alice.get("presence", bob, "status")).body
    assert (status["presence"], status["status_msg"]) == ("online", "far away")
    assert (await alice.get("presence", alice.user_id, "status")).body.get("status_msg") != "forged"
    offline = {"push": [{"user_id": bob, "presence": "offline"}]}
    await send_edus(remote, federated_town, {"edu_type": "m.presence", "content": offline})
    await eyes.until(lambda: eyes.presence[bob]["presence"] == "offline")
