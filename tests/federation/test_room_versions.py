"""Of which version a room is: what somebody says binds nobody, what the room's create event says does."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import aiohttp
import pytest

from tests.eyes import Eyes
from tests.federation.test_faulty_joins import person_of
from tests.federation_town import FederatedProcess
from tests.interop.pairs import try_join
from tests.people import Answer as ClientAnswer
from tests.people import Person, Town, path
from tests.remote_room import Pdu, RemoteRoom
from tests.remote_room_answers import stripped_state
from tests.remote_scripts import refuse, reply
from tests.remote_server import Answer, RemoteServer
from tests.room_builder import BuiltEvent

MakeRemote = Callable[..., Awaitable[RemoteServer]]

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
async def bob(federated_town: Town) -> Person:
    return await federated_town.person("bob")


@pytest.fixture
async def good(make_remote: MakeRemote) -> RemoteServer:
    return await make_remote()


@pytest.fixture
async def evil(make_remote: MakeRemote) -> RemoteServer:
    return await make_remote()


def template(room_id: str, user_id: str, membership: str) -> Pdu:
    """What a server that is not in the room can make up."""
    return {
        "type": "m.room.member",
        "sender": user_id,
        "state_key": user_id,
        "room_id": room_id,
        "content": {"membership": membership},
        "origin_server_ts": 1_700_000_000_000,
        "depth": 5,
        "prev_events": ["$" + "a" * 43],
        "auth_events": ["$" + "b" * 43],
    }


def lie_at_joins(evil: RemoteServer, room_id: str, user_id: str, told: Any) -> None:
    made = {"event": template(room_id, user_id, "join"), "room_version": "6"}
    evil.script("GET", "/make_join/", reply(made))
    evil.script("PUT", "/send_join/", told)


async def invite_falsely(evil: RemoteServer, server_name: str, room_id: str, user_id: str) -> Answer:
    """An invite into a room that the server is not in."""
    proto = template(room_id, user_id, "invite") | {"sender": evil.user("x")}
    pdu, event_id = evil.sign(proto, "6")
    body = {"room_version": "6", "event": pdu, "invite_room_state": []}
    return await evil.ask(server_name, "PUT", "v2", "invite", room_id, event_id, body=body)


async def invite(
    remote: RemoteServer, room: RemoteRoom, server_name: str, user_id: str
) -> tuple[BuiltEvent, Answer]:
    event = room.member(remote.user("alice"), user_id, "invite")
    body = {"room_version": room.version_id, "event": event.pdu, "invite_room_state": stripped_state(room)}
    return event, await remote.ask(
        server_name, "PUT", "v2", "invite", room.room_id, event.event_id, body=body
    )


async def join_through(person: Person, room_id: str, *servers: RemoteServer) -> ClientAnswer:
    query = "&".join(f"via={server.name}" for server in servers)
    return await person.ask_raw("POST", f"{path('join', room_id)}?{query}", b"{}")


async def is_in_touch(person: Person, remote: RemoteServer, room: RemoteRoom) -> None:
    """Events come both ways: here and there the room is of the same version."""
    said = room.say(remote.user("alice"), "from there")
    await remote.send(person.user_id.partition(":")[2], said)
    await Eyes(person).event(room.room_id, said.event_id)
    event_id = await person.say(room.room_id, "from here")
    await remote.wait_for_pdu(lambda pdu: pdu["content"].get("body") == "from here")
    await remote.wait_until(lambda: event_id in room.by_id)


@pytest.mark.parametrize("is_of_the_same", [False, True])
async def test_a_false_invite_locks_nobody_out(
    federated_town: Town, bob: Person, good: RemoteServer, evil: RemoteServer, is_of_the_same: bool
) -> None:
    """Neither somebody else nor who was invited."""
    room = good.make_room("10")
    invited = bob if is_of_the_same else await federated_town.person("carl")
    answer = await invite_falsely(evil, federated_town.server_name, room.room_id, invited.user_id)
    assert answer.status == 200, answer
    await Eyes(invited).membership(room.room_id, "invite")
    assert (await try_join(bob, room.room_id, good.name)).status == 200
    await is_in_touch(bob, good, room)
    # Nor is the version in doubt any more.
    answer = await invite_falsely(evil, federated_town.server_name, room.room_id, invited.user_id)
    assert answer.error == (400, "M_INVALID_PARAM")
    await is_in_touch(bob, good, room)


@pytest.mark.parametrize(
    "told", [reply({"state": [], "auth_chain": []}), refuse(500, "M_UNKNOWN")], ids=["nothing", "error"]
)
async def test_a_false_make_join_locks_nobody_out(
    bob: Person, good: RemoteServer, evil: RemoteServer, told: Any
) -> None:
    room = good.make_room("10")
    lie_at_joins(evil, room.room_id, bob.user_id, told)
    assert (await join_through(bob, room.room_id, evil)).status == 400
    assert (await join_through(bob, room.room_id, evil, good)).status == 200
    assert len(evil.received("PUT", "/send_join/")) == 2
    await is_in_touch(bob, good, room)


async def test_the_state_of_a_room_is_judged_by_no_other_version(
    bob: Person, good: RemoteServer, evil: RemoteServer
) -> None:
    """Events of version 10 have the same ids in version 6: who tells the truth about all but the version."""
    room = good.make_room("10", join_rule="knock_restricted")
    state = [event.pdu for event in room.current.values()]
    lie_at_joins(evil, room.room_id, bob.user_id, reply({"state": state, "auth_chain": state}))
    assert (await join_through(bob, room.room_id, evil)).status == 400
    room.send("m.room.join_rules", good.user("alice"), {"join_rule": "public"}, state_key="")
    assert (await try_join(bob, room.room_id, good.name)).status == 200
    await is_in_touch(bob, good, room)


async def test_a_false_version_does_not_outlive_a_restart(
    crashing: FederatedProcess, good: RemoteServer, evil: RemoteServer
) -> None:
    room = good.make_room("10")
    async with aiohttp.ClientSession() as session:
        bob = await person_of(crashing, session, "bob")
        answer = await invite_falsely(evil, crashing.server_name, room.room_id, bob.user_id)
        assert answer.status == 200, answer
        lie_at_joins(evil, room.room_id, bob.user_id, reply({"state": [], "auth_chain": []}))
        assert (await join_through(bob, room.room_id, evil)).status == 400
        for _ in range(2):
            crashing.kill()
            await asyncio.to_thread(crashing.start)
            assert (await try_join(bob, room.room_id, good.name)).status == 200
            await is_in_touch(bob, good, room)


async def test_a_false_make_knock_locks_nobody_out(
    federated_town: Town, bob: Person, good: RemoteServer, evil: RemoteServer
) -> None:
    room = good.make_room("10", join_rule="knock")
    made = {"event": template(room.room_id, bob.user_id, "knock"), "room_version": "7"}
    evil.script("GET", "/make_knock/", reply(made))
    evil.script("PUT", "/send_knock/", reply({"knock_room_state": []}))
    assert (await bob.ask("POST", "knock", room.room_id, query={"via": evil.name})).status == 200
    assert (await bob.ask("POST", "knock", room.room_id, query={"via": good.name})).status == 200
    assert room.membership(bob.user_id) == "knock"
    _, answer = await invite(good, room, federated_town.server_name, bob.user_id)
    assert answer.status == 200, answer
    await Eyes(bob).membership(room.room_id, "invite")
    assert (await try_join(bob, room.room_id, good.name)).status == 200
    await is_in_touch(bob, good, room)


@pytest.mark.parametrize("version", ["1", "2"])
async def test_rooms_of_versions_1_and_2_are_joined_after_invites_that_do_not_tell_them_apart(
    federated_town: Town, bob: Person, good: RemoteServer, version: str
) -> None:
    room = good.make_room(version, join_rule="invite")
    for _ in range(2):
        event = room.member(good.user("alice"), bob.user_id, "invite")
        body = {**event.pdu, "unsigned": {"invite_room_state": stripped_state(room)}}
        way = ("PUT", "v1", "invite", room.room_id, event.event_id)
        answer = await good.ask(federated_town.server_name, *way, body=body)
        assert answer.status == 200, answer
        await Eyes(bob).membership(room.room_id, "invite")
        assert (await try_join(bob, room.room_id, good.name)).status == 200
        await is_in_touch(bob, good, room)
        # Nor when we know better already.
        assert (await bob.post("rooms", room.room_id, "leave")).status == 200
        await good.wait_until(lambda: room.membership(bob.user_id) == "leave")


@pytest.mark.parametrize(("claimed", "real"), [("12", "10"), ("10", "12")])
async def test_ids_tell_whether_a_room_can_be_of_version_12(
    bob: Person, good: RemoteServer, evil: RemoteServer, claimed: str, real: str
) -> None:
    room = good.make_room(real)
    made = {"event": template(room.room_id, bob.user_id, "join"), "room_version": claimed}
    evil.script("GET", "/make_join/", reply(made))
    assert (await join_through(bob, room.room_id, evil)).status == 400
    assert not evil.received("PUT", "/send_join/")
    assert (await try_join(bob, room.room_id, good.name)).status == 200


async def test_a_false_invite_during_a_join_changes_nothing(
    federated_town: Town, bob: Person, good: RemoteServer, evil: RemoteServer
) -> None:
    room = good.make_room("10")
    stall = good.stall("PUT", "/send_join/")
    joining = asyncio.create_task(try_join(bob, room.room_id, good.name))
    await stall.reached()
    answer = await invite_falsely(evil, federated_town.server_name, room.room_id, bob.user_id)
    assert answer.status == 200, answer
    stall.release()
    assert (await joining).status == 200
    await is_in_touch(bob, good, room)


async def test_two_join_at_once_through_different_servers(
    federated_town: Town, bob: Person, good: RemoteServer, evil: RemoteServer
) -> None:
    """One of the servers lies, and takes its time."""
    carl, room = await federated_town.person("carl"), good.make_room("10")
    lie_at_joins(evil, room.room_id, carl.user_id, refuse(500, "M_UNKNOWN"))
    stall = evil.stall("PUT", "/send_join/", reply({"state": [], "auth_chain": []}))
    refused = asyncio.create_task(join_through(carl, room.room_id, evil))
    await stall.reached()
    joined = asyncio.create_task(join_through(bob, room.room_id, good))
    stall.release()
    assert (await refused).status == 400
    assert (await joined).status == 200
    assert (await try_join(carl, room.room_id, evil.name)).status == 200
    await is_in_touch(bob, good, room)


def omit_members(server_name: str, body: Any) -> Any:
    state = [pdu for pdu in body["state"] if pdu["type"] != "m.room.member"]
    return body | {"state": state, "members_omitted": True, "servers_in_room": [server_name]}


async def test_a_state_without_its_members_is_not_taken(
    bob: Person, good: RemoteServer, make_remote: MakeRemote
) -> None:
    """We have not asked for such a one: another server is tried."""
    other, room = await make_remote(), good.make_room()
    await other.join(good.name, room.room_id, other.user("carol"))
    other.lie("PUT", "/send_join/", partial(omit_members, other.name))
    assert (await join_through(bob, room.room_id, other)).status == 400
    assert (await join_through(bob, room.room_id, other, good)).status == 200
    members = (await bob.get("rooms", room.room_id, "joined_members")).body["joined"]
    assert members.keys() == {bob.user_id, good.user("alice"), other.user("carol")}
