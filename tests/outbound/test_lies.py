"""What a server says of the moment is bounded, and believed only of its own users, where they are."""

import time
from typing import Any

import pytest

from tests.outbound.test_ephemeral import ephemeral, send_edus, share_room, sync_room, typing_edu
from tests.people import Town
from tests.remote_server import RemoteServer

pytestmark = pytest.mark.timeout(120)

MANY = 40_000


def receipt_edu(room_id: str, readers: dict[str, Any]) -> dict[str, Any]:
    """One that says who has read in a room."""
    return {"edu_type": "m.receipt", "content": {room_id: {"m.read": readers}}}


def presence_edu(*push: Any) -> dict[str, Any]:
    """One that says what users are."""
    return {"edu_type": "m.presence", "content": {"push": list(push)}}


async def test_more_users_than_anybody_has_are_passed_over(
    federated_town: Town, remote: RemoteServer
) -> None:
    alice, room_id, _ = await share_room(federated_town, remote)
    event_id, bob = await alice.say(room_id, "read this"), remote.user("bob")
    receipt = {"event_ids": [event_id], "data": {"ts": 5}}
    strangers = {remote.user(f"u{number}"): receipt for number in range(MANY)}
    online = [{"user_id": user_id, "presence": "online"} for user_id in strangers]
    await send_edus(
        remote,
        federated_town,
        receipt_edu(room_id, {bob: receipt} | strangers),
        presence_edu({"user_id": bob, "presence": "online", "status_msg": "first"}, *online),
        # What is wrong does not hide what is right.
        typing_edu(room_id, bob),
    )
    section = await sync_room(alice, room_id)
    assert set(ephemeral(section, "m.receipt")[event_id]["m.read"]) == {bob}
    assert ephemeral(section, "m.typing") == {"user_ids": [bob]}
    assert (await alice.get("presence", bob, "status")).body["status_msg"] == "first"
    answer = await alice.get("presence", remote.user("u7"), "status")
    assert answer.status == 403, answer


async def test_receipts_of_many_rooms_and_events_are_bounded(
    federated_town: Town, remote: RemoteServer
) -> None:
    alice, room_id, _ = await share_room(federated_town, remote)
    event_id, bob = await alice.say(room_id, "read this"), remote.user("bob")
    here = {bob: {"event_ids": [event_id], "data": {}}}
    elsewhere = {f"!{number}:nowhere.example": {"m.read": here} for number in range(20_000)}
    nothing = {bob: {"event_ids": [f"$unknown{number}" for number in range(20_000)], "data": {}}}
    await send_edus(
        remote,
        federated_town,
        {"edu_type": "m.receipt", "content": elsewhere | {room_id: {"m.read": here}}},
        receipt_edu(room_id, nothing),
    )
    assert ephemeral(await sync_room(alice, room_id), "m.receipt") is None
    await send_edus(remote, federated_town, receipt_edu(room_id, here))
    assert ephemeral(await sync_room(alice, room_id), "m.receipt")[event_id]["m.read"].keys() == {bob}


@pytest.mark.parametrize("ts", [2**53 - 1, 4_000_000_000_000])
async def test_nobody_has_read_in_the_future(federated_town: Town, remote: RemoteServer, ts: int) -> None:
    alice, room_id, _ = await share_room(federated_town, remote)
    event_id, bob = await alice.say(room_id, "read this"), remote.user("bob")
    before = time.time_ns() // 1_000_000
    await send_edus(
        remote, federated_town, receipt_edu(room_id, {bob: {"event_ids": [event_id], "data": {"ts": ts}}})
    )
    read = ephemeral(await sync_room(alice, room_id), "m.receipt")[event_id]["m.read"][bob]
    assert before <= read["ts"] <= time.time_ns() // 1_000_000


async def test_who_is_not_in_a_room_does_nothing_there(federated_town: Town, remote: RemoteServer) -> None:
    alice, room_id, room = await share_room(federated_town, remote)
    bob, event_id = remote.user("bob"), await alice.say(room_id, "read this")
    other_id = await alice.create_room(preset="public_chat")
    other_event_id = await alice.say(other_id, "not for them")
    receipt = {"event_ids": [other_event_id], "data": {"ts": 5}}
    await send_edus(remote, federated_town, typing_edu(other_id, bob), receipt_edu(other_id, {bob: receipt}))
    section = await sync_room(alice, other_id)
    assert (ephemeral(section, "m.typing"), ephemeral(section, "m.receipt")) == (None, None)
    # An event of another room is none of this one.
    await send_edus(remote, federated_town, receipt_edu(room_id, {bob: receipt}))
    assert ephemeral(await sync_room(alice, room_id), "m.receipt") is None
    # Who was in it is not any more.
    await remote.send(
        federated_town.server_name, room.send("m.room.member", bob, {"membership": "leave"}, state_key=bob)
    )
    await send_edus(
        remote,
        federated_town,
        typing_edu(room_id, bob),
        receipt_edu(room_id, {bob: {"event_ids": [event_id], "data": {}}}),
    )
    section = await sync_room(alice, room_id)
    assert not (ephemeral(section, "m.typing") or {}).get("user_ids")
    assert ephemeral(section, "m.receipt") is None


@pytest.mark.parametrize(
    "entry",
    [
        {"last_active_ago": -5},
        {"last_active_ago": 2**63},
        {"last_active_ago": 10**400},
        {"last_active_ago": True},
        {"last_active_ago": "long"},
        {"status_msg": "x" * 1_000_000},
        {"status_msg": "\x00"},
        {"status_msg": {"a": 1}},
        {"currently_active": [[]]},
        {"displayname": 5, "avatar_url": {}},
    ],
    ids=lambda entry: "".join(f"{key}={value!r:.20}" for key, value in entry.items()),
)
async def test_strange_presence_is_cut_to_size(
    federated_town: Town, remote: RemoteServer, entry: dict[str, Any]
) -> None:
    alice, _, _ = await share_room(federated_town, remote)
    bob = remote.user("bob")
    await send_edus(remote, federated_town, presence_edu({"user_id": bob, "presence": "online"} | entry))
    status = (await alice.get("presence", bob, "status")).body
    assert status.keys() <= {"presence", "last_active_ago", "currently_active", "status_msg"}
    assert status["presence"] == "online"
    assert 0 <= status.get("last_active_ago", 0) <= 2**53
    assert len(status.get("status_msg", "")) <= 1_000
