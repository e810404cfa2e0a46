"""Our users join rooms of other servers, whatever these answer: all of a room, or nothing of it."""

import asyncio
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest

from tests.eyes import Eyes
from tests.interop.pairs import history, texts, try_join
from tests.people import Person, Town
from tests.remote_room import with_bad_hash, with_bad_signature
from tests.remote_scripts import Flood, cut, garbage, hang_up, refuse, reply
from tests.remote_server import RemoteServer

VERSIONS = [str(number) for number in range(1, 13)]


@pytest.fixture
async def bob(federated_town: Town) -> Person:
    return await federated_town.person("bob")


async def join(person: Person, remote: RemoteServer, room_id: str) -> None:
    answer = await try_join(person, room_id, remote.name)
    assert answer.status == 200, answer


@pytest.mark.parametrize("version_id", VERSIONS)
async def test_rooms_of_all_versions_are_joined(bob: Person, remote: RemoteServer, version_id: str) -> None:
    room, alice = remote.make_room(version_id), remote.user("alice")
    room.say(alice, "before")
    room.send("m.room.topic", alice, {"topic": "x"}, state_key="")
    await join(bob, remote, room.room_id)
    assert room.membership(bob.user_id) == "join"
    eyes = Eyes(bob)
    await eyes.membership(room.room_id, "join")
    assert eyes.state(room.room_id, "m.room.topic") == {"topic": "x"}
    hello = room.say(alice, "welcome")
    await remote.send(bob.user_id.partition(":")[2], hello)
    await eyes.event(room.room_id, hello.event_id)
    assert texts(await history(bob, room.room_id)) == ["welcome", "before"]


@pytest.mark.parametrize(
    "action",
    [
        refuse(500, "M_UNKNOWN"),
        garbage(),
        cut(),
        hang_up(),
        reply([]),
        reply({}),
        reply({"state": [], "auth_chain": []}),
        reply({"state": [{}], "auth_chain": [5]}),
        reply({"state": {}, "auth_chain": "x"}),
    ],
    ids=["500", "no JSON", "cut", "hung up", "no object", "empty", "no create", "no events", "no lists"],
)
@pytest.mark.parametrize("part", ["/make_join/", "/send_join/"])
async def test_a_join_that_fails_leaves_nothing_behind(
    bob: Person, remote: RemoteServer, part: str, action: Any
) -> None:
    room = remote.make_room()
    script = remote.script("*", part, action)
    answer = await try_join(bob, room.room_id, remote.name)
    assert answer.status in (400, 403, 404, 502, 504), answer
    assert script.seen
    joined = await bob.get("joined_rooms")
    assert joined.body == {"joined_rooms": []}


@pytest.mark.parametrize("part", ["/make_join/", "/send_join/"])
async def test_a_join_is_tried_again(bob: Person, remote: RemoteServer, part: str) -> None:
    room = remote.make_room()
    remote.script("*", part, garbage(), times=1)
    assert (await try_join(bob, room.room_id, remote.name)).status in (400, 502)
    # The remote may believe that he is in already; he comes in all the same.
    await join(bob, remote, room.room_id)
    joined = await bob.get("joined_rooms")
    assert joined.body == {"joined_rooms": [room.room_id]}


async def test_a_flood_is_cut_short(bob: Person, remote: RemoteServer) -> None:
    room = remote.make_room()
    for part, bound in (("/make_join/", 10_000_000), ("/send_join/", 450_000_000)):
        flood = Flood(500_000_000)
        remote.script("*", part, flood)
        answer = await try_join(bob, room.room_id, remote.name)
        assert answer.status in (400, 403, 502, 504), answer
        assert 0 < flood.sent < bound
        remote.behave()


async def test_others_are_served_while_a_join_takes_long(
    federated_town: Town, bob: Person, remote: RemoteServer
) -> None:
    room = remote.make_room()
    stall = remote.stall("PUT", "/send_join/")
    asked = asyncio.create_task(try_join(bob, room.room_id, remote.name))
    await stall.reached()
    alice = await federated_town.person("alice")
    await alice.say(await alice.create_room(), "all is well")
    await bob.create_room()
    assert not asked.done()
    stall.release()
    assert (await asked).status == 200


async def test_the_wrong_room_is_not_joined(bob: Person, remote: RemoteServer) -> None:
    room, other = remote.make_room(), remote.make_room()
    state = [event.pdu for event in other.current.values()]
    remote.lie("PUT", "/send_join/", lambda body: body | {"state": state})
    assert (await try_join(bob, room.room_id, remote.name)).status in (400, 403, 502)
    assert (await bob.get("joined_rooms")).body == {"joined_rooms": []}


async def test_events_with_wrong_signatures_are_left_out(bob: Person, remote: RemoteServer) -> None:
    room, alice = remote.make_room(), remote.user("alice")
    topic = room.send("m.room.topic", alice, {"topic": "forged"}, state_key="")
    name = room.send("m.room.name", alice, {"name": "kept"}, state_key="")

    def spoil(body: Any) -> Any:
        state = [with_bad_signature(pdu) if pdu["type"] == "m.room.topic" else pdu for pdu in body["state"]]
        return body | {"state": state}

    remote.lie("PUT", "/send_join/", spoil)
    answer = await try_join(bob, room.room_id, remote.name)
    # All or nothing, or all but the one.
    if answer.status == 200:
        assert await bob.state(room.room_id, "m.room.topic") is None
        assert await bob.state(room.room_id, "m.room.name") == {"name": "kept"}
    else:
        assert answer.status in (400, 403, 502), answer
    assert topic.event_id != name.event_id


async def test_changed_content_is_redacted(bob: Person, remote: RemoteServer) -> None:
    room, alice = remote.make_room(), remote.user("alice")
    room.send("m.room.topic", alice, {"topic": "as signed"}, state_key="")

    def spoil(body: Any) -> Any:
        state = [with_bad_hash(pdu) if pdu["type"] == "m.room.topic" else pdu for pdu in body["state"]]
        return body | {"state": state}

    remote.lie("PUT", "/send_join/", spoil)
    answer = await try_join(bob, room.room_id, remote.name)
    assert answer.status == 200, answer
    assert await bob.state(room.room_id, "m.room.topic") == {}


async def test_another_server_is_asked_when_the_first_fails(
    bob: Person, remote: RemoteServer, make_remote: Any
) -> None:
    other = await make_remote()
    room = remote.make_room()
    copy = await other.join(remote.name, room.room_id, other.user("carol"))
    remote.script("GET", "/make_join/", refuse(500, "M_UNKNOWN"))
    query = f"?via={remote.name}&via={other.name}&server_name={remote.name}&server_name={other.name}"
    answer = await bob.raw("POST", f"/_matrix/client/v3/join/{quote(room.room_id)}{query}", b"{}")
    assert answer.status == 200, answer
    assert copy.membership(bob.user_id) == "join"


async def test_bans_and_closed_rooms_are_told(bob: Person, remote: RemoteServer) -> None:
    room = remote.make_room()
    room.member(remote.user("alice"), bob.user_id, "ban")
    assert (await try_join(bob, room.room_id, remote.name)).error == (403, "M_FORBIDDEN")
    closed = remote.make_room(join_rule="invite")
    assert (await try_join(bob, closed.room_id, remote.name)).error == (403, "M_FORBIDDEN")


async def test_a_room_version_that_nobody_knows(bob: Person, remote: RemoteServer) -> None:
    room = remote.make_room()
    error = {"errcode": "M_INCOMPATIBLE_ROOM_VERSION", "error": "x", "room_version": "from.the.future"}
    remote.script("GET", "/make_join/", reply(error, 400))
    answer = await try_join(bob, room.room_id, remote.name)
    assert answer.error == (400, "M_INCOMPATIBLE_ROOM_VERSION")
    assert answer.body["room_version"] == "from.the.future"
    remote.behave()
    # Nothing that is no name of a version reaches a client.
    for told, passed_on in (("from.the.future", "from.the.future"), ("x" * 1000, "x" * 32)):
        remote.lie("GET", "/make_join/", partial(change_version, told))
        answer = await try_join(bob, room.room_id, remote.name)
        assert answer.error == (400, "M_INCOMPATIBLE_ROOM_VERSION")
        assert answer.body["room_version"] == passed_on
        remote.behave()
    for odd in (
        reply({"errcode": "M_INCOMPATIBLE_ROOM_VERSION"}, 400),
        reply(error | {"room_version": 5}, 400),
    ):
        remote.script("GET", "/make_join/", odd)
        answer = await try_join(bob, room.room_id, remote.name)
        assert 400 <= answer.status < 500, answer


def change_version(room_version: str, body: Any) -> Any:
    return body | {"room_version": room_version}


def change_template(change: dict[str, Any], body: Any) -> Any:
    return body | {"event": body["event"] | change}


async def test_a_template_for_somebody_else_is_not_signed(bob: Person, remote: RemoteServer) -> None:
    room = remote.make_room()
    for change in (
        {"sender": remote.user("alice")},
        {"state_key": remote.user("alice")},
        {"type": "m.room.power_levels"},
        {"room_id": remote.make_room().room_id},
        {"content": {"membership": "ban"}},
    ):
        remote.lie("GET", "/make_join/", partial(change_template, change))
        answer = await try_join(bob, room.room_id, remote.name)
        if answer.status == 200:
            await bob.post("rooms", room.room_id, "leave")
        for request in remote.received("PUT", "/send_join/"):
            sent = request.body
            assert (sent["sender"], sent["state_key"]) == (bob.user_id, bob.user_id)
            assert (sent["type"], sent["content"]["membership"]) == ("m.room.member", "join")
            assert sent["room_id"] == room.room_id
        remote.behave()


async def test_restricted_rooms_are_joined_by_whom_somebody_there_lets_in(
    bob: Person, remote: RemoteServer
) -> None:
    room = remote.make_room(join_rule="restricted")
    room.authoriser = remote.user("alice")
    await join(bob, remote, room.room_id)
    [member] = [e for e in room.events if e.pdu.get("state_key") == bob.user_id]
    assert member.pdu["content"]["join_authorised_via_users_server"] == remote.user("alice")
    assert member.pdu["signatures"].keys() == {remote.name, bob.user_id.partition(":")[2]}


async def test_an_invite_of_a_room_that_is_gone_can_be_declined(bob: Person, remote: RemoteServer) -> None:
    room = remote.make_room(join_rule="invite")
    invite = room.member(remote.user("alice"), bob.user_id, "invite")
    assert room.create is not None
    body = {"event": invite.pdu, "room_version": "12", "invite_room_state": [room.create.pdu]}
    name = bob.user_id.partition(":")[2]
    answer = await remote.ask(name, "PUT", "v2", "invite", room.room_id, invite.event_id, body=body)
    assert answer.status == 200, answer
    assert answer.body["event"]["signatures"].keys() == {remote.name, name}
    eyes = Eyes(bob)
    await eyes.membership(room.room_id, "invite")
    remote.script("*", "/make_leave/", refuse(404, "M_NOT_FOUND"))
    assert (await bob.post("rooms", room.room_id, "leave")).status == 200
    await eyes.membership(room.room_id, "leave")
