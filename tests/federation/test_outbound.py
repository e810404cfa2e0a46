"""What our server sends to others: everything, in order, to whom it concerns, and again after outages."""

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import asyncpg
import pytest

from hs.outbound.transactions import encode_edu
from tests.eyes import Eyes
from tests.federation_town import FederatedProcess, FederationTown, JumpingClock
from tests.people import Person, Town
from tests.remote_room import RemoteRoom
from tests.remote_scripts import hang_up, refuse
from tests.remote_server import RemoteServer

MakeRemote = Callable[..., Awaitable[RemoteServer]]


async def shared_room(town: Town, *remotes: RemoteServer) -> tuple[Person, list[RemoteRoom]]:
    """Alice in a new room here, and the room as each remote has it."""
    alice = await town.person("alice")
    room_id = await alice.create_room(preset="public_chat")
    rooms = []
    for remote in remotes:
        rooms.append(await remote.join(town.server_name, room_id, remote.user("bob")))
        for earlier, other in zip(rooms[:-1], remotes, strict=False):
            await other.wait_until(has(earlier, rooms[-1].newest.event_id))
    return alice, rooms


def has(room: RemoteRoom, event_id: str) -> Callable[[], bool]:
    return lambda: event_id in room.by_id


def bodies(remote: RemoteServer) -> list[str]:
    """The texts of all messages that came in, in the order in which they came."""
    return [pdu["content"]["body"] for pdu in remote.world.pdus if pdu["type"] == "m.room.message"]


async def test_messages_come_in_order_and_once(federated_town: Town, remote: RemoteServer) -> None:
    alice, [room] = await shared_room(federated_town, remote)
    said = [await alice.say(room.room_id, f"{number}") for number in range(70)]
    await remote.wait_until(has(room, said[-1]))
    assert bodies(remote) == [f"{number}" for number in range(70)]
    for request in remote.received("PUT", "/send/"):
        body = request.body
        assert body["origin"] == federated_town.server_name
        assert isinstance(body["origin_server_ts"], int)
        assert len(body["pdus"]) <= 50
        assert len(body.get("edus", [])) <= 100
    ids = [request.parts[-1] for request in remote.received("PUT", "/send/")]
    assert len(set(ids)) == len(ids)


async def test_only_servers_in_the_room_are_told(
    federated_town: Town, remote: RemoteServer, make_remote: MakeRemote
) -> None:
    other = await make_remote()
    alice, [room, same] = await shared_room(federated_town, remote, other)
    carol = other.user("bob")
    kick = await alice.post("rooms", room.room_id, "kick", body={"user_id": carol})
    assert kick.status == 200
    # Whom it is about is told, and nothing after it.
    await other.wait_until(lambda: same.membership(carol) == "leave")
    said = await alice.say(room.room_id, "among us")
    await remote.wait_until(has(room, said))
    assert bodies(other) == []


@pytest.fixture
def clock() -> JumpingClock:
    """Of `clocked_town`."""
    return JumpingClock()


@pytest.fixture
async def clocked_town(
    make_federation: Callable[..., Awaitable[FederationTown]], clock: JumpingClock
) -> Town:
    """People on a server whose clock can be put forward."""
    return (await make_federation(1, clock)).towns[0]


async def test_an_outage_is_caught_up_with(
    clocked_town: Town, clock: JumpingClock, remote: RemoteServer
) -> None:
    alice, [room] = await shared_room(clocked_town, remote)
    remote.script("PUT", "/send/", hang_up())
    said = [await alice.say(room.room_id, f"{number}") for number in range(10)]
    await remote.wait_for("PUT", "/send/")
    remote.behave()
    # It is back, and says so.
    await remote.greet_until(clocked_town.server_name, has(room, said[-1]), clock.jump)
    assert bodies(remote) == [f"{number}" for number in range(10)]


async def test_errors_are_tried_again(clocked_town: Town, clock: JumpingClock, remote: RemoteServer) -> None:
    alice, [room] = await shared_room(clocked_town, remote)
    script = remote.script("PUT", "/send/", refuse(502, "M_UNKNOWN"), times=1)
    await alice.say(room.room_id, "hello")
    await remote.wait_for("PUT", "/send/")
    said = await alice.say(room.room_id, "again")
    await remote.greet_until(clocked_town.server_name, has(room, said), clock.jump)
    [failed] = script.seen
    again = remote.received("PUT", "/send/")[1]
    # Nobody can know whether the first was done: it is the same once more.
    assert (again.path, again.body) == (failed.path, failed.body)
    assert bodies(remote) == ["hello", "again"]


async def test_refused_events_do_not_stop_the_others(federated_town: Town, remote: RemoteServer) -> None:
    alice, [room] = await shared_room(federated_town, remote)
    remote.lie("PUT", "/send/", lambda body: {"pdus": {key: {"error": "not today"} for key in body["pdus"]}})
    for text in ("one", "two", "three"):
        said = await alice.say(room.room_id, text)
        await remote.wait_until(has(room, said))
    assert bodies(remote) == ["one", "two", "three"]


async def test_a_slow_server_does_not_hold_up_the_others(
    federated_town: Town, remote: RemoteServer, make_remote: MakeRemote
) -> None:
    slow = await make_remote()
    alice, [room, same] = await shared_room(federated_town, remote, slow)
    stall = slow.stall("PUT", "/send/")
    said = [await alice.say(room.room_id, f"{number}") for number in range(5)]
    await remote.wait_until(has(room, said[-1]))
    await stall.reached()
    assert stall.waiting == 1
    stall.release()
    slow.behave()
    await slow.wait_until(has(same, said[-1]))
    assert bodies(slow) == [f"{number}" for number in range(5)]


async def test_typing_and_receipts_go_out(federated_town: Town, remote: RemoteServer) -> None:
    alice, [room] = await shared_room(federated_town, remote)
    body = {"typing": True, "timeout": 30_000}
    assert (await alice.put("rooms", room.room_id, "typing", alice.user_id, body=body)).status == 200
    content = await remote.wait_for_edu("m.typing")
    assert content == {"room_id": room.room_id, "user_id": alice.user_id, "typing": True}
    hello = room.say(remote.user("bob"), "hello")
    await remote.send(federated_town.server_name, hello)
    await Eyes(alice).event(room.room_id, hello.event_id)
    answer = await alice.post("rooms", room.room_id, "receipt", "m.read", hello.event_id)
    assert answer.status == 200
    content = await remote.wait_for_edu("m.receipt")
    receipt = content[room.room_id]["m.read"][alice.user_id]
    assert receipt["event_ids"] == [hello.event_id]
    assert isinstance(receipt["data"]["ts"], int)


# --- crashes


@pytest.mark.faults
async def test_what_is_little_is_sent_in_full_after_a_crash(
    crashing: FederatedProcess, remote: RemoteServer
) -> None:
    async with aiohttp.ClientSession() as session:
        town = Town(session, crashing.base_url, crashing.server_name)
        alice, [room] = await shared_room(town, remote)
        heard = await alice.say(room.room_id, "before")
        await remote.wait_until(has(room, heard))
        stall = remote.stall("PUT", "/send/", hang_up())
        said = [await alice.say(room.room_id, f"{number}") for number in range(20)]
        await stall.reached()
        crashing.kill()
        stall.release()
        remote.behave()
        await asyncio.to_thread(crashing.start)
        # Nobody has to ask for what lies between.
        await remote.greet_until(crashing.server_name, has(room, said[-1]))
        assert [event.event_id for event in room.events if event.event_id in said] == said


@pytest.mark.faults
async def test_nothing_is_lost_when_the_process_is_killed(
    crashing: FederatedProcess, remote: RemoteServer
) -> None:
    async with aiohttp.ClientSession() as session:
        town = Town(session, crashing.base_url, crashing.server_name)
        alice, [room] = await shared_room(town, remote)
        stall = remote.stall("PUT", "/send/", hang_up())
        said = [await alice.say(room.room_id, f"{number}") for number in range(60)]
        await stall.reached()
        crashing.kill()
        stall.release()
        remote.behave()
        # The remote must be answered while the server starts.
        await asyncio.to_thread(crashing.start)
        # Of a room where much has happened the newest event is sent; what came before it is there to be asked for.
        await remote.greet_until(
            crashing.server_name, lambda: said[-1] in room.by_id or said[-1] in room.waiting
        )
        await remote.catch_up(crashing.server_name, room)
        assert [event.event_id for event in room.events if event.event_id in said] == said
        # What comes twice is known by its id: events by theirs, transactions by theirs.
        sent = {request.parts[-1]: request.data for request in remote.received("PUT", "/send/")}
        assert all(sent[request.parts[-1]] == request.data for request in remote.received("PUT", "/send/"))


@pytest.mark.faults
async def test_edus_that_must_arrive_are_sent_by_the_next_process(
    crashing: FederatedProcess, remote: RemoteServer
) -> None:
    crashing.kill()
    content = {
        "message_id": "m1",
        "messages": {},
        "sender": f"@a:{crashing.server_name}",
        "type": "org.example",
    }
    connection = await asyncpg.connect(crashing.database_url)
    await connection.execute(
        "INSERT INTO outbound_edus (server_name, edu_id, edu) VALUES ($1, nextval('outbound_edu_ids'), $2)",
        remote.name,
        encode_edu("m.direct_to_device", content),
    )
    await asyncio.to_thread(crashing.start)
    assert await remote.wait_for_edu("m.direct_to_device") == content
    # The answer first, then the row.
    for _ in range(500):
        if not await connection.fetchval("SELECT count(*) FROM outbound_edus"):
            break
        await asyncio.sleep(0.02)
    else:
        raise AssertionError("it is kept")
    await connection.close()
