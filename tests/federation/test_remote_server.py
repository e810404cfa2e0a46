"""The scripted remote itself: two of them speak the whole protocol with each other."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from tests.remote_room import with_bad_hash, with_bad_signature
from tests.remote_scripts import Flood, cut, garbage, hang_up, refuse, reply
from tests.remote_server import RemoteServer

VERSIONS = [str(number) for number in range(1, 13)]

MakeRemote = Callable[..., Awaitable[RemoteServer]]


@pytest.fixture
async def here(make_remote: MakeRemote) -> RemoteServer:
    """The one that asks."""
    return await make_remote(host="localhost")


@pytest.mark.parametrize("version_id", VERSIONS)
async def test_a_room_is_joined_and_both_talk(
    here: RemoteServer, remote: RemoteServer, version_id: str
) -> None:
    there = remote.make_room(version_id)
    room = await here.join(remote.name, there.room_id, here.user("bob"))
    assert room.servers() == there.servers() == {here.name, remote.name}
    hello = room.say(here.user("bob"), "hello")
    assert hello.rejected is None
    answer = await here.send(remote.name, hello)
    assert answer.body == {"pdus": {hello.event_id: {}}}
    assert there.extremities[0].event_id == hello.event_id
    back = there.say(remote.user("alice"), "hello to you")
    await remote.send(here.name, back)
    assert room.extremities[0].event_id == back.event_id
    assert {key: event.event_id for key, event in room.current.items()} == {
        key: event.event_id for key, event in there.current.items()
    }


async def test_a_room_can_be_left_again(here: RemoteServer, remote: RemoteServer) -> None:
    there, bob = remote.make_room(), here.user("bob")
    await here.join(remote.name, there.room_id, bob)
    made = await here.ask(remote.name, "GET", "v1", "make_leave", there.room_id, bob)
    pdu, event_id = here.sign(made.body["event"], "12")
    left = await here.ask(remote.name, "PUT", "v2", "send_leave", there.room_id, event_id, body=pdu)
    assert (left.status, left.body) == (200, {})
    assert there.membership(bob) == "leave"


async def test_who_is_banned_does_not_come_in(here: RemoteServer, remote: RemoteServer) -> None:
    there, bob = remote.make_room(), here.user("bob")
    there.member(remote.user("alice"), bob, "ban")
    query = {"ver": VERSIONS}
    made = await here.ask(remote.name, "GET", "v1", "make_join", there.room_id, bob, query=query)
    assert made.error == (403, "M_FORBIDDEN")


async def test_restricted_rooms_are_joined_with_the_signature_of_both(
    here: RemoteServer, remote: RemoteServer
) -> None:
    there, bob = remote.make_room(join_rule="restricted"), here.user("bob")
    there.authoriser = remote.user("alice")
    room = await here.join(remote.name, there.room_id, bob)
    assert room.newest.rejected is None
    assert room.newest.pdu["signatures"].keys() == {here.name, remote.name}


async def test_invites_are_signed(here: RemoteServer, remote: RemoteServer) -> None:
    room = here.make_room()
    invite = room.member(here.user("alice"), remote.user("bob"), "invite")
    body = {"event": invite.pdu, "room_version": "12", "invite_room_state": []}
    answer = await here.ask(remote.name, "PUT", "v2", "invite", room.room_id, invite.event_id, body=body)
    assert answer.body["event"]["signatures"].keys() == {here.name, remote.name}
    assert remote.world.invites == [invite.pdu]


async def test_the_past_of_a_room_can_be_asked_for(here: RemoteServer, remote: RemoteServer) -> None:
    room, alice = remote.make_room(), remote.user("alice")
    first = room.say(alice, "first")
    left, right = room.say(alice, "left", prev=[first]), room.say(alice, "right", prev=[first])
    topic = room.send("m.room.topic", alice, {"topic": "x"}, state_key="")
    last = room.say(alice, "last")

    query = {"v": last.event_id, "limit": "4"}
    answer = await here.ask(remote.name, "GET", "v1", "backfill", room.room_id, query=query)
    assert answer.body["pdus"] == [last.pdu, topic.pdu, left.pdu, right.pdu]

    body = {"latest_events": [last.event_id], "earliest_events": [first.event_id]}
    answer = await here.ask(remote.name, "POST", "v1", "get_missing_events", room.room_id, body=body)
    assert answer.body["events"] == [right.pdu, left.pdu, topic.pdu]

    ids = await here.ask(
        remote.name, "GET", "v1", "state_ids", room.room_id, query={"event_id": topic.event_id}
    )
    assert len(ids.body["pdu_ids"]) == 4  # before the topic
    state = await here.ask(remote.name, "GET", "v1", "state", room.room_id, query={"event_id": last.event_id})
    assert topic.pdu in state.body["pdus"]

    event = await here.ask(remote.name, "GET", "v1", "event", first.event_id)
    assert event.body["pdus"] == [first.pdu]
    auth = await here.ask(remote.name, "GET", "v1", "event_auth", room.room_id, first.event_id)
    assert len(auth.body["auth_chain"]) == 2  # the create event is in nobody's since v12

    room.withheld.add(first.event_id)
    event = await here.ask(remote.name, "GET", "v1", "event", first.event_id)
    assert event.error == (404, "M_NOT_FOUND")


async def test_events_wait_for_what_they_follow(here: RemoteServer, remote: RemoteServer) -> None:
    there = remote.make_room()
    room = await here.join(remote.name, there.room_id, here.user("bob"))
    events = [room.say(here.user("bob"), str(number)) for number in range(3)]
    await here.send(remote.name, events[2])
    await here.send(remote.name, events[1])
    assert len(there.waiting) == 2
    await here.send(remote.name, events[0])
    assert there.newest.event_id == events[2].event_id
    assert len(there.waiting) == 0


async def test_a_transaction_counts_once(here: RemoteServer, remote: RemoteServer) -> None:
    room = remote.make_room()
    for _ in range(2):
        await here.send(remote.name, room.newest, edus=[{"edu_type": "m.typing", "content": {}}], txn_id="x")
    assert len(remote.world.pdus) == len(remote.world.edus) == 1
    assert await remote.wait_for_edu("m.typing") == {}
    assert await remote.wait_for_pdu(lambda pdu: pdu["type"] == "m.room.join_rules") == room.newest.pdu


async def test_forged_events_have_right_signatures_unless_they_are_spoilt(remote: RemoteServer) -> None:
    room = remote.make_room()
    assert len(room.receive(room.forge(remote.user("alice")))) == 1
    [rejected] = room.receive(room.forge(remote.user("mallory")))
    assert rejected.rejected is not None
    pdu = room.forge(remote.user("alice"))
    assert with_bad_signature(pdu)["signatures"] != pdu["signatures"]
    assert room.parse(with_bad_hash(pdu)).event_id == room.parse(pdu).event_id
    assert room.parse(with_bad_hash(pdu)).redacted_for_hash
    many = [room.newest.event_id] * 20_000
    assert len(room.forge(remote.user("alice"), prev_events=many)["prev_events"]) == 20_000


async def test_auth_events_can_go_in_circles(remote: RemoteServer) -> None:
    room = remote.make_room("1")
    ids = [f"${name}:{remote.name}" for name in "ab"]
    pdus = [
        room.forge(remote.user("alice"), event_id=ids[n], auth_events=[[ids[1 - n], {}]]) for n in range(2)
    ]
    assert [pdu["auth_events"][0][0] for pdu in pdus] == ids[::-1]


async def test_keys_are_published_and_handed_on(here: RemoteServer, remote: RemoteServer) -> None:
    keys = await here.ask_path(remote.name, "GET", "/_matrix/key/v2/server", signed=False)
    assert keys.body["server_name"] == remote.name
    remote.world.notary_keys[here.name] = here.world.key_document()
    body: dict[str, Any] = {"server_keys": {here.name: {}, "unknown.example": {}}}
    found = await here.ask_path(remote.name, "POST", "/_matrix/key/v2/query", body=body, signed=False)
    [document] = found.body["server_keys"]
    assert document["signatures"].keys() == {here.name, remote.name}


async def test_questions_about_people_and_rooms(here: RemoteServer, remote: RemoteServer) -> None:
    room = remote.make_room()
    remote.world.profiles[remote.user("alice")] = {"displayname": "Alice", "avatar_url": "mxc://x/y"}
    remote.world.aliases[f"#room:{remote.name}"] = room.room_id
    query = {"user_id": remote.user("alice"), "field": "displayname"}
    profile = await here.ask(remote.name, "GET", "v1", "query", "profile", query=query)
    assert profile.body == {"displayname": "Alice"}
    query = {"room_alias": f"#room:{remote.name}"}
    directory = await here.ask(remote.name, "GET", "v1", "query", "directory", query=query)
    assert directory.body == {"room_id": room.room_id, "servers": [remote.name]}
    public = await here.ask(remote.name, "GET", "v1", "publicRooms")
    hierarchy = await here.ask(remote.name, "GET", "v1", "hierarchy", room.room_id)
    assert public.body["chunk"][0]["room_id"] == hierarchy.body["room"]["room_id"] == room.room_id


# --- who asks


async def test_unsigned_requests_are_refused(here: RemoteServer, remote: RemoteServer) -> None:
    room = remote.make_room()
    for options in ({"signed": False}, {"headers": {"Authorization": "X-Matrix origin=a,key=b"}}):
        answer = await here.ask(remote.name, "GET", "v1", "event", room.newest.event_id, **options)
        assert answer.error == (401, "M_UNAUTHORIZED")
    path = "/_matrix/federation/v1/event/x"
    header = here.authorization(remote.name, "GET", path + "y")
    answer = await here.ask_path(remote.name, "GET", path, headers={"Authorization": header})
    assert answer.error == (401, "M_UNAUTHORIZED")
    assert len(remote.complaints) == 3
    assert remote.received("GET", "/event/") == []
    remote.complaints.clear()


# --- scripts


async def test_scripts_lie_and_end(here: RemoteServer, remote: RemoteServer) -> None:
    async def ask() -> tuple[int, str | None]:
        return (await here.ask(remote.name, "GET", "v1", "version")).error

    remote.script("GET", "/version", refuse(500, "M_UNKNOWN"), times=2)
    assert [await ask() for _ in range(3)] == [(500, "M_UNKNOWN"), (500, "M_UNKNOWN"), (200, None)]
    remote.script("*", "/version", reply([], 418))
    assert await ask() == (418, None)
    remote.behave()
    remote.lie("GET", "/version", lambda body: body | {"errcode": body["server"]["name"]})
    assert await ask() == (200, "scripted")


async def test_what_stalls_goes_on_when_released(here: RemoteServer, remote: RemoteServer) -> None:
    stall = remote.stall("GET", "/version")
    asked = asyncio.create_task(here.ask(remote.name, "GET", "v1", "version"))
    await stall.reached()
    assert (stall.waiting, asked.done()) == (1, False)
    stall.release()
    assert (await asked).status == 200
    assert (await remote.wait_for("GET", "/version")).path == "/_matrix/federation/v1/version"


@pytest.mark.parametrize("action", [cut(), hang_up()], ids=["in the middle", "before the answer"])
async def test_connections_end(here: RemoteServer, remote: RemoteServer, action: object) -> None:
    remote.script("GET", "/version", action)  # type: ignore[arg-type]
    with pytest.raises(aiohttp.ClientError):
        await here.ask(remote.name, "GET", "v1", "version")


async def test_garbage_comes_as_it_is(here: RemoteServer, remote: RemoteServer) -> None:
    remote.script("GET", "/version", garbage(b"\x00{"))
    assert (await here.ask(remote.name, "GET", "v1", "version")).body == "\x00{"


async def test_a_flood_counts_what_went_out(here: RemoteServer, remote: RemoteServer) -> None:
    flood = Flood(1_000_000)
    remote.script("GET", "/version", flood)
    answer = await here.ask(remote.name, "GET", "v1", "version")
    assert len(answer.body) == flood.sent + 1 >= 1_000_000
