"""States that others tell and that cannot be: nothing rests on them, and what is fetched by two is fetched once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection

import pytest

from hs.rooms import flights
from hs.storage.database import Database
from tests.eyes import Eyes
from tests.federation_town import FederationTown
from tests.people import Person, Town
from tests.remote_room import Pdu, RemoteRoom
from tests.remote_scripts import refuse, reply
from tests.remote_server import RemoteServer
from tests.room_builder import BuiltEvent

MakeRemote = Callable[..., Awaitable[RemoteServer]]

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
async def federation(make_federation: Callable[..., Awaitable[FederationTown]]) -> FederationTown:
    """A server in this process."""
    return await make_federation(1)


@pytest.fixture
def town(federation: FederationTown) -> Town:
    """Its people."""
    return federation.towns[0]


@pytest.fixture
async def database(federation: FederationTown) -> AsyncIterator[Database]:
    """Its database."""
    opened = await Database.connect(federation.database_urls[0], pool_size=1)
    yield opened
    await opened.close()


@pytest.fixture
async def liar(make_remote: MakeRemote) -> RemoteServer:
    """A member server that says what it likes."""
    return await make_remote()


@pytest.fixture
async def good(make_remote: MakeRemote) -> RemoteServer:
    """One that does not."""
    return await make_remote()


def make_room(host: RemoteServer, guest: RemoteServer, version_id: str = "12") -> RemoteRoom:
    """A room of Alice and Dora of one server, Mallory of the other: both have all of it."""
    room = host.make_room(version_id)
    room.signing_keys = {**host.signing_keys, **guest.signing_keys}
    guest.world.rooms[room.room_id] = room
    room.member(guest.user("mallory"), guest.user("mallory"), "join")
    room.member(host.user("dora"), host.user("dora"), "join")
    return room


async def enter(town: Town, room: RemoteRoom, via: RemoteServer) -> Person:
    """Somebody of ours, who has joined the room."""
    bob = await town.person("bob")
    answer = await bob.ask("POST", "join", room.room_id, query={"via": via.name})
    assert answer.status == 200, answer
    return bob


def state_without(
    room: RemoteRoom, user_id: str, instead: Collection[BuiltEvent] = ()
) -> dict[str, list[str]]:
    """The room's state as ids, but for somebody's membership."""
    state = [event for event in room.current.values() if event.pdu.get("state_key") != user_id]
    ids = [event.event_id for event in (*state, *instead)]
    return {"pdu_ids": ids, "auth_chain_ids": [event.event_id for event in room.auth_chain(state)]}


async def texts(person: Person, room: RemoteRoom) -> list[str]:
    """The room's messages, oldest first."""
    page = await person.get("rooms", room.room_id, "messages", dir="b", limit="50")
    assert page.status == 200, page
    found = [e["content"]["body"] for e in page.body["chunk"] if e["type"] == "m.room.message"]
    return found[::-1]


async def list_rejected(database: Database) -> list[str]:
    """What has been rejected, in any room."""
    rows = await database.fetch("SELECT event_id FROM events WHERE flags & 2 <> 0")
    return [row["event_id"] for row in rows]


# --- what is sent to us


@pytest.mark.parametrize("version_id", ["10", "12"])
@pytest.mark.parametrize("left_out", ["everything", "m.room.create"])
async def test_a_state_without_a_room_is_none(
    town: Town, remote: RemoteServer, version_id: str, left_out: str
) -> None:
    room, alice = remote.make_room(version_id), remote.user("alice")
    bob = await enter(town, room, remote)
    room.say(alice, "missing")
    last = room.say(alice, "last")
    kept = [event for event in room.current.values() if left_out not in ("everything", event.pdu["type"])]
    told = {"pdu_ids": [event.event_id for event in kept], "auth_chain_ids": []}
    remote.script("POST", "/get_missing_events/", refuse(404, "M_NOT_FOUND"))
    remote.script("GET", "/state_ids/", reply(told))
    answer = await remote.send(town.server_name, last)
    assert answer.body == {"pdus": {last.event_id: {}}}
    assert (await bob.get("rooms", room.room_id, "event", last.event_id)).status == 404
    remote.behave()
    behind = room.say(alice, "behind it")
    await remote.send(town.server_name, last)
    await remote.send(town.server_name, behind)
    await Eyes(bob).event(room.room_id, behind.event_id)
    assert await texts(bob, room) == ["missing", "last", "behind it"]


@pytest.mark.parametrize("lie", ["not there", "gone", "not there when she speaks"])
async def test_nobody_is_silenced_by_what_a_third_server_says(
    town: Town, database: Database, good: RemoteServer, liar: RemoteServer, lie: str
) -> None:
    """A liar sends its own event behind good ones, and tells a state without their sender."""
    room, dora = make_room(good, liar), good.user("dora")
    instead = [room.member(dora, dora, "leave")] if lie == "gone" else []
    if instead:
        room.member(dora, dora, "join")
    bob = await enter(town, room, good)
    missing = room.say(dora, "one")
    pulled = [room.say(good.user("alice"), "two")] if lie == "not there when she speaks" else []
    pulled.append(room.say(dora, "three"))
    liars = room.say(liar.user("mallory"), "lies", prev=[pulled[-1]])
    liar.script("POST", "/get_missing_events/", reply({"events": [event.pdu for event in pulled]}))
    liar.script("GET", "/state_ids/", reply(state_without(room, dora, instead)))
    await liar.send(town.server_name, liars)
    assert await list_rejected(database) == []
    await good.send(town.server_name, missing, *pulled)
    behind = room.say(dora, "behind it", prev=[pulled[-1]])
    await good.send(town.server_name, behind)
    await Eyes(bob).event(room.room_id, behind.event_id)
    told = [event.pdu["content"]["body"] for event in (missing, *pulled, behind)]
    assert await texts(bob, room) == told
    members = await bob.get("rooms", room.room_id, "joined_members")
    assert dora in members.body["joined"]


async def test_a_gap_of_which_a_third_server_has_lied_is_filled_at_once(
    town: Town, good: RemoteServer, liar: RemoteServer
) -> None:
    """What a liar could not have placed is not left alone for hours."""
    room, dora = make_room(good, liar), good.user("dora")
    bob = await enter(town, room, good)
    room.say(dora, "one")
    pulled = room.say(dora, "two")
    liars = room.say(liar.user("mallory"), "lies", prev=[pulled])
    liar.script("POST", "/get_missing_events/", reply({"events": [pulled.pdu]}))
    liar.script("GET", "/state_ids/", reply(state_without(room, dora)))
    await liar.send(town.server_name, liars)
    behind = room.say(dora, "three", prev=[pulled])
    await good.send(town.server_name, behind)
    await Eyes(bob).event(room.room_id, behind.event_id)
    assert await texts(bob, room) == ["one", "two", "three"]


# --- old history


def give(remote: RemoteServer, *answers: Collection[BuiltEvent]) -> None:
    """Let the next answers to /backfill have no other events than these."""
    left = list(answers)

    def lie(body: dict[str, list[Pdu]]) -> dict[str, list[Pdu]]:
        if not left:
            return body
        allowed = [event.pdu for event in left.pop(0)]
        return body | {"pdus": [pdu for pdu in body["pdus"] if pdu in allowed]}

    remote.lie("GET", "/backfill/", lie)


async def test_old_history_is_not_cut_off_by_a_lie(
    town: Town, database: Database, good: RemoteServer, liar: RemoteServer
) -> None:
    room = make_room(liar, good)
    dora, alice = liar.user("dora"), liar.user("alice")
    old = [room.say(user, f"old {number}") for number, user in enumerate((dora, alice, dora))]
    topic = room.send("m.room.topic", alice, {"topic": "new"}, state_key="")
    bob = await enter(town, room, liar)
    good.script("GET", "/backfill/", refuse(404, "M_NOT_FOUND"))
    give(liar, [topic], old[1:])
    liar.script("GET", "/state_ids/", reply(state_without(room, dora)))
    await texts(bob, room)
    assert liar.received("GET", "/state_ids/")
    assert await list_rejected(database) == []
    for remote in (good, liar):
        remote.behave()
    # Some hours later.
    await database.fetch("UPDATE backward_extremities SET last_attempt_ts = 0 RETURNING 1")
    assert await texts(bob, room) == ["old 0", "old 1", "old 2"]


async def test_a_lie_about_somebody_else_leaves_room_for_the_truth(
    town: Town, database: Database, remote: RemoteServer, good: RemoteServer
) -> None:
    """The state before Alice's message, told without Dora, is also what hers before it would be judged by."""
    room = make_room(remote, good)
    alice, dora = remote.user("alice"), remote.user("dora")
    for number in range(2):
        room.say(dora, f"old {number}")
    hers = room.say(alice, "old 2")
    topic = room.send("m.room.topic", alice, {"topic": "new"}, state_key="")
    bob = await enter(town, room, remote)
    give(remote, [topic, hers])
    remote.script("GET", "/state_ids/", reply(state_without(room, dora)), times=1)
    assert await texts(bob, room) == ["old 0", "old 1", "old 2"]
    assert await list_rejected(database) == []


# --- two at once


async def test_two_servers_with_one_gap_before_their_events(
    town: Town, good: RemoteServer, liar: RemoteServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flights, "PATIENCE_S", 60.0)
    room = make_room(good, liar)
    bob = await enter(town, room, good)
    missing = room.say(good.user("alice"), "missing")
    sent = [room.say(user, "behind", prev=[missing]) for user in (good.user("alice"), liar.user("mallory"))]
    stall = good.stall("POST", "/get_missing_events/")
    first = asyncio.create_task(good.send(town.server_name, sent[0]))
    await stall.reached()
    second = asyncio.create_task(liar.send(town.server_name, sent[1]))
    # A request of its own comes at once where it is not joined.
    await asyncio.wait([second], timeout=0.3)
    stall.release()
    for answer in await asyncio.gather(first, second):
        assert list(answer.body["pdus"].values()) == [{}]
    eyes = Eyes(bob)
    for event in (missing, *sent):
        await eyes.event(room.room_id, event.event_id)
    assert len(good.received("POST", "/get_missing_events/")) == 1
    assert liar.received("POST", "/get_missing_events/") == []


@pytest.mark.parametrize("is_given", [True, False])
async def test_two_servers_that_tell_the_same_state(
    town: Town, good: RemoteServer, liar: RemoteServer, monkeypatch: pytest.MonkeyPatch, is_given: bool
) -> None:
    """Which events it consists of, each says for itself; the events are fetched once, from who gives them."""
    monkeypatch.setattr(flights, "PATIENCE_S", 60.0)
    room, alice = make_room(good, liar), good.user("alice")
    for number in range(30):
        user = good.user(f"user{number}")
        room.member(user, user, "join")
    bob = await enter(town, room, good)
    topic = room.send("m.room.topic", alice, {"topic": "in the gap"}, state_key="")
    missing = room.say(alice, "missing")
    sent = [room.say(user, "behind", prev=[missing]) for user in (alice, liar.user("mallory"))]
    for remote in (good, liar):
        remote.script("POST", "/get_missing_events/", refuse(404, "M_NOT_FOUND"))
    part = "/v1/event/" + topic.event_id
    stall = good.stall("GET", part, then=None if is_given else refuse(404, "M_NOT_FOUND"))
    first = asyncio.create_task(good.send(town.server_name, sent[0]))
    await stall.reached()
    second = asyncio.create_task(liar.send(town.server_name, sent[1]))
    await liar.wait_for("GET", "/state_ids/")
    stall.release()
    await asyncio.gather(first, second)
    await Eyes(bob).event(room.room_id, sent[1].event_id)
    assert await bob.state(room.room_id, "m.room.topic") == {"topic": "in the gap"}
    assert len(good.received("GET", part)) == 1
    assert len(liar.received("GET", part)) == (0 if is_given else 1)
