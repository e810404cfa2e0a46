"""Joins of rooms of other servers when these lie or die, and when we do: all of a room, or nothing of it."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from urllib.parse import quote

import aiohttp
import asyncpg
import pytest

from tests.eyes import Eyes
from tests.federation_town import FederatedProcess
from tests.interop.pairs import try_join
from tests.people import Person, Town
from tests.remote_room import Pdu, RemoteRoom
from tests.remote_scripts import hang_up, refuse
from tests.remote_server import RemoteServer

MakeRemote = Callable[..., Awaitable[RemoteServer]]

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
async def bob(federated_town: Town) -> Person:
    return await federated_town.person("bob")


async def rooms_of(person: Person) -> list[str]:
    found: list[str] = (await person.get("joined_rooms")).body["joined_rooms"]
    return found


async def is_left_out(person: Person, remote: RemoteServer, room: RemoteRoom) -> None:
    """The join fails, nothing of the room is there, and it is joined once the remote behaves."""
    answer = await try_join(person, room.room_id, remote.name)
    assert 400 <= answer.status < 500, answer
    assert await rooms_of(person) == []
    assert (await person.get("rooms", room.room_id, "state")).status in (403, 404)
    assert (await person.sync())["rooms"].get("join", {}) == {}
    remote.behave()
    answer = await try_join(person, room.room_id, remote.name)
    assert answer.status == 200, answer
    assert await rooms_of(person) == [room.room_id]


async def test_the_resident_server_dies_after_the_first_step(bob: Person, remote: RemoteServer) -> None:
    room = remote.make_room()
    remote.script("PUT", "/send_join/", hang_up())
    await is_left_out(bob, remote, room)


async def test_another_server_takes_over_from_one_that_died(
    bob: Person, remote: RemoteServer, make_remote: MakeRemote
) -> None:
    other = await make_remote()
    room = remote.make_room()
    copy = await other.join(remote.name, room.room_id, other.user("carol"))
    script = remote.script("PUT", "/send_join/", hang_up())
    query = f"?via={remote.name}&via={other.name}"
    answer = await bob.raw("POST", f"/_matrix/client/v3/join/{quote(room.room_id)}{query}", b"{}")
    assert answer.status == 200, answer
    assert script.seen
    assert copy.membership(bob.user_id) == "join"


async def test_another_room(bob: Person, remote: RemoteServer) -> None:
    room, other = remote.make_room(), remote.make_room()
    events = list(other.current.values())
    lie = {
        "state": [event.pdu for event in events],
        "auth_chain": [event.pdu for event in other.auth_chain(events)],
    }
    remote.lie("PUT", "/send_join/", lambda body: body | lie)
    await is_left_out(bob, remote, room)


@pytest.mark.parametrize("version_id", ["10", "12"])
async def test_no_create_event(bob: Person, remote: RemoteServer, version_id: str) -> None:
    room = remote.make_room(version_id)

    def without_create(pdus: list[Pdu]) -> list[Pdu]:
        return [pdu for pdu in pdus if pdu["type"] != "m.room.create"]

    remote.lie(
        "PUT",
        "/send_join/",
        lambda body: body | {name: without_create(body[name]) for name in ("state", "auth_chain")},
    )
    await is_left_out(bob, remote, room)


@pytest.mark.parametrize("version_id", ["10", "12"])
async def test_state_that_its_own_auth_events_forbid(
    bob: Person, remote: RemoteServer, version_id: str
) -> None:
    """It is in no state, and what else there is stands."""
    room = remote.make_room(version_id)
    room.send("m.room.name", remote.user("alice"), {"name": "Kept"}, state_key="")
    stranger = remote.user("stranger")
    forged = [
        room.forge(stranger, "m.room.topic", state_key="", content={"topic": "forged"}),
        room.forge(stranger, "m.room.member", state_key=stranger, content={"membership": "ban"}),
        room.forge(
            stranger, "m.room.power_levels", state_key="", content={"users": {stranger: 100}}, auth_events=[]
        ),
    ]
    levels = room.current["m.room.power_levels", ""].pdu["content"]
    remote.lie("PUT", "/send_join/", lambda body: body | {"state": [*body["state"], *forged]})
    answer = await try_join(bob, room.room_id, remote.name)
    assert answer.status == 200, answer
    assert await bob.state(room.room_id, "m.room.topic") is None
    assert await bob.state(room.room_id, "m.room.name") == {"name": "Kept"}
    assert await bob.state(room.room_id, "m.room.member", stranger) is None
    assert await bob.state(room.room_id, "m.room.power_levels") == levels


def with_event(event: Any, body: Any) -> Any:
    return body | {"event": event}


async def test_the_join_comes_back_as_something_else(bob: Person, remote: RemoteServer) -> None:
    room, name = remote.make_room(), remote.user("alice")
    others: list[Any] = [
        room.current["m.room.member", name].pdu,
        {},
        {"type": "m.room.member"},
        room.forge(name, "m.room.member", state_key=name, content={"membership": "join"}),
    ]
    for other in others:
        remote.lie("PUT", "/send_join/", partial(with_event, other))
        answer = await try_join(bob, room.room_id, remote.name)
        assert 400 <= answer.status < 500, (other, answer)
        assert await rooms_of(bob) == []
        remote.behave()
    remote.lie(
        "PUT",
        "/send_join/",
        lambda body: body | {"event": body["event"] | {"content": {"membership": "join", "x": "y"}}},
    )
    await is_left_out(bob, remote, room)


async def test_the_join_does_not_come_back(bob: Person, remote: RemoteServer) -> None:
    """Ours is as good where nobody else has to sign it, and not good enough where somebody has."""

    def without(body: Any) -> Any:
        return {key: value for key, value in body.items() if key != "event"}

    room = remote.make_room()
    remote.lie("PUT", "/send_join/", without)
    assert (await try_join(bob, room.room_id, remote.name)).status == 200
    restricted = remote.make_room(join_rule="restricted")
    restricted.authoriser = remote.user("alice")
    answer = await try_join(bob, restricted.room_id, remote.name)
    assert 400 <= answer.status < 500, answer
    assert await rooms_of(bob) == [room.room_id]


async def test_the_state_does_not_let_us_in(bob: Person, remote: RemoteServer) -> None:
    room = remote.make_room()
    banned = room.forge(
        remote.user("alice"), "m.room.member", state_key=bob.user_id, content={"membership": "ban"}
    )
    remote.lie("PUT", "/send_join/", lambda body: body | {"state": [*body["state"], banned]})
    await is_left_out(bob, remote, room)


async def test_two_join_at_once(federated_town: Town, bob: Person, remote: RemoteServer) -> None:
    """The second comes in through the first."""
    carol = await federated_town.person("carol")
    room = remote.make_room()
    stall = remote.stall("PUT", "/send_join/")
    first = asyncio.create_task(try_join(bob, room.room_id, remote.name))
    await stall.reached()
    second = asyncio.create_task(try_join(carol, room.room_id, remote.name))
    again = asyncio.create_task(try_join(bob, room.room_id, remote.name))
    # Something goes the same way after them.
    await carol.create_room()
    stall.release()
    assert [(await task).status for task in (first, second, again)] == [200, 200, 200]
    assert len(remote.received("PUT", "/send_join/")) == 1
    await remote.wait_until(lambda: room.membership(carol.user_id) == "join")
    assert room.membership(bob.user_id) == "join"


async def test_a_client_that_hangs_up_is_joined(bob: Person, remote: RemoteServer) -> None:
    room = remote.make_room()
    stall = remote.stall("PUT", "/send_join/")
    asked = asyncio.create_task(try_join(bob, room.room_id, remote.name))
    await stall.reached()
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    stall.release()
    await Eyes(bob).membership(room.room_id, "join")
    # Who asks again is in.
    assert (await try_join(bob, room.room_id, remote.name)).status == 200
    assert len(remote.received("PUT", "/send_join/")) == 1


# --- our own process dies


async def person_of(process: FederatedProcess, session: aiohttp.ClientSession, name: str) -> Person:
    return await Town(session, process.base_url, process.server_name).person(name)


@pytest.mark.faults
async def test_a_kill_while_the_other_server_answers(
    crashing: FederatedProcess, remote: RemoteServer
) -> None:
    room = remote.make_room()
    async with aiohttp.ClientSession() as session:
        bob = await person_of(crashing, session, "bob")
        stall = remote.stall("PUT", "/send_join/")
        asked = asyncio.create_task(try_join(bob, room.room_id, remote.name))
        await stall.reached()
        crashing.kill()
        await asyncio.gather(asked, return_exceptions=True)
        stall.release()
        await asyncio.to_thread(crashing.start)
        assert await rooms_of(bob) == []
        # The other server believes him in already.
        answer = await try_join(bob, room.room_id, remote.name)
        assert answer.status == 200, answer
        assert await rooms_of(bob) == [room.room_id]


@pytest.mark.faults
async def test_a_kill_while_the_room_is_stored(crashing: FederatedProcess, remote: RemoteServer) -> None:
    room = remote.make_room()
    for number in range(2500):
        user_id = remote.user(f"u{number}")
        room.member(user_id, user_id, "join")
    database = await asyncpg.connect(crashing.database_url)
    async with aiohttp.ClientSession() as session:
        bob = await person_of(crashing, session, "bob")
        asked = asyncio.create_task(try_join(bob, room.room_id, remote.name))
        # A part of it is there.
        while not await database.fetchval("SELECT count(*) FROM events"):
            assert not asked.done(), asked.result()
            await asyncio.sleep(0.001)
        crashing.kill()
        await asyncio.gather(asked, return_exceptions=True)
        stored = await database.fetchval("SELECT count(*) FROM events")
        await database.close()
        assert 0 < stored < 2500
        await asyncio.to_thread(crashing.start)
        assert await rooms_of(bob) == []
        assert (await bob.get("rooms", room.room_id, "state")).status in (403, 404)
        assert (await bob.sync())["rooms"].get("join", {}) == {}
        answer = await try_join(bob, room.room_id, remote.name)
        assert answer.status == 200, answer
        members = await bob.get("rooms", room.room_id, "joined_members")
        assert len(members.body["joined"]) == 2502
        await bob.say(room.room_id, "here I am")
        await remote.wait_for_pdu(lambda pdu: pdu["content"].get("body") == "here I am")


async def test_a_room_that_we_had_left_is_not_half_there(bob: Person, remote: RemoteServer) -> None:
    """A failed attempt to come back changes nothing of what is known of the room."""
    room = remote.make_room()
    assert (await try_join(bob, room.room_id, remote.name)).status == 200
    assert (await bob.post("rooms", room.room_id, "leave")).status == 200
    await remote.wait_until(lambda: room.membership(bob.user_id) == "leave")
    remote.script("PUT", "/send_join/", refuse(500, "M_UNKNOWN"))
    assert 400 <= (await try_join(bob, room.room_id, remote.name)).status < 500
    assert await rooms_of(bob) == []
    remote.behave()
    room.say(remote.user("alice"), "while you were away")
    assert (await try_join(bob, room.room_id, remote.name)).status == 200
    assert await rooms_of(bob) == [room.room_id]
