"""Events whose past is missing: kept in the database while it is fetched, and nobody waits for a slow server."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import pytest

from hs.rooms import staging, writer
from hs.rooms.gap_turns import MAX_OF_ROOM, MAX_OF_SERVER, MAX_SLOW_OF_ROOM, GapTurns
from hs.storage.database import Database
from hs.storage.embedded import EmbeddedPostgres
from tests.certificates import Authority
from tests.databases import make_database
from tests.eyes import Eyes
from tests.federation_town import FederatedProcess, FederationTown
from tests.people import Person, Town
from tests.remote_room import RemoteRoom
from tests.remote_scripts import hang_up, refuse
from tests.remote_server import RemoteServer
from tests.server_fixtures import make_server_folder

pytestmark = pytest.mark.timeout(120)

MakeRemote = Callable[..., Awaitable[RemoteServer]]


def impatient(authority: Authority) -> dict[str, Any]:
    """The settings of a server that answers transactions without waiting for gaps."""
    return {"ca_file": str(authority.ca_file), "trusted_key_servers": [], "gap_patience_s": 0.0}


@pytest.fixture
async def federation(
    make_federation: Callable[..., Awaitable[FederationTown]], authority: Authority
) -> FederationTown:
    """An impatient server in this process."""
    return await make_federation(1, federation=impatient(authority))


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


async def enter(town: Town, remote: RemoteServer) -> tuple[RemoteRoom, Person]:
    """A room of the remote's with somebody of ours in it."""
    bob, room = await town.person("bob"), remote.make_room()
    answer = await bob.ask("POST", "join", room.room_id, query={"via": remote.name})
    assert answer.status == 200, answer
    return room, bob


async def staged(database: Database) -> list[tuple[str, int]]:
    """(event id, failed attempts) of what waits."""
    rows = await database.fetch("SELECT event_id, failed_attempts FROM staged_events ORDER BY depth")
    return [(row["event_id"], row["failed_attempts"]) for row in rows]


async def until_staged(database: Database, expected: list[tuple[str, int]]) -> None:
    """Return once this is what waits; rows go after the events have come in, and nothing tells of that."""
    for _ in range(2000):
        if await staged(database) == expected:
            return
        await asyncio.sleep(0.01)
    assert await staged(database) == expected


async def test_a_gap_does_not_hold_up_what_its_server_sends_next(
    town: Town, database: Database, remote: RemoteServer
) -> None:
    room, bob = await enter(town, remote)
    alice, entered = remote.user("alice"), room.newest
    room.say(alice, "missing")
    late = room.say(alice, "late")
    stall = remote.stall("POST", "/get_missing_events/")
    answer = await remote.send(town.server_name, late)
    assert answer.body == {"pdus": {late.event_id: {}}}
    assert await staged(database) == [(late.event_id, 0)]
    direct = room.say(alice, "not late", prev=[entered])
    assert (await remote.send(town.server_name, direct)).body == {"pdus": {direct.event_id: {}}}
    eyes = Eyes(bob)
    await eyes.event(room.room_id, direct.event_id)
    assert "late" not in eyes.texts(room.room_id)
    stall.release()
    await eyes.event(room.room_id, late.event_id)
    assert eyes.texts(room.room_id)[-2:] == ["missing", "late"]
    await until_staged(database, [])


async def test_events_behind_one_gap_ask_for_it_once(town: Town, remote: RemoteServer) -> None:
    room, bob = await enter(town, remote)
    alice = remote.user("alice")
    room.say(alice, "missing")
    behind = [room.say(alice, f"number {number}") for number in range(20)]
    answer = await remote.send(town.server_name, *behind)
    assert set(answer.body["pdus"]) == {event.event_id for event in behind}
    eyes = Eyes(bob)
    await eyes.event(room.room_id, behind[-1].event_id)
    assert eyes.texts(room.room_id) == ["missing", *(f"number {number}" for number in range(20))]
    assert len(remote.received("POST", "/get_missing_events/")) == 1


async def test_what_is_sent_again_joins_what_is_under_way(town: Town, remote: RemoteServer) -> None:
    room, bob = await enter(town, remote)
    alice = remote.user("alice")
    room.say(alice, "missing")
    last = room.say(alice, "last")
    stall = remote.stall("POST", "/get_missing_events/")
    for _ in range(3):
        assert (await remote.send(town.server_name, last)).body == {"pdus": {last.event_id: {}}}
    stall.release()
    await Eyes(bob).event(room.room_id, last.event_id)
    assert len(remote.received("POST", "/get_missing_events/")) == 1


async def test_what_is_refused_is_given_up(town: Town, database: Database, remote: RemoteServer) -> None:
    room, bob = await enter(town, remote)
    alice = remote.user("alice")
    room.say(alice, "lost")
    last = room.say(alice, "after the gap")
    for method, part in (("POST", "/get_missing_events/"), ("GET", "/state_ids/")):
        remote.script(method, part, refuse(403, "M_FORBIDDEN"))
    await remote.send(town.server_name, last)
    await until_staged(database, [])
    assert "after the gap" not in Eyes(bob).texts(room.room_id)


async def test_a_server_that_is_down_is_tried_again(
    town: Town, database: Database, remote: RemoteServer
) -> None:
    room, bob = await enter(town, remote)
    alice = remote.user("alice")
    room.say(alice, "missing")
    last = room.say(alice, "last")
    for method, part in (("POST", "/get_missing_events/"), ("GET", "/state_ids/")):
        remote.script(method, part, hang_up())
    assert (await remote.send(town.server_name, last)).body == {"pdus": {last.event_id: {}}}
    await until_staged(database, [(last.event_id, 1)])
    remote.behave()
    # Its word ends the pause.
    await remote.send(town.server_name, last)
    await Eyes(bob).event(room.room_id, last.event_id)
    await until_staged(database, [])


async def test_others_cannot_have_an_event_given_up_sooner(
    town: Town, database: Database, make_remote: MakeRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "_MAX_ATTEMPTS", 2)
    far, other = await make_remote(), await make_remote()
    bob = await town.person("bob")
    room_id = await bob.create_room(preset="public_chat")
    await other.join(town.server_name, room_id, other.user("olga"))
    room = await far.join(town.server_name, room_id, far.user("alice"))
    room.say(far.user("alice"), "missing")
    last = room.say(far.user("alice"), "last")
    for remote in (far, other):
        for method, part in (("POST", "/get_missing_events/"), ("GET", "/state_ids/"), ("GET", "/v1/event/")):
            remote.script(method, part, hang_up())
    await far.send(town.server_name, last)
    await until_staged(database, [(last.event_id, 1)])
    for _ in range(3):
        assert (await other.send(town.server_name, last)).body == {"pdus": {last.event_id: {}}}
    # A turn that they had begun would be over before this one.
    behind = room.say(far.user("alice"), "behind")
    await far.send(town.server_name, behind)
    await until_staged(database, [(last.event_id, 1), (behind.event_id, 1)])


async def test_tries_follow_each_other_with_longer_pauses(
    town: Town, database: Database, remote: RemoteServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "_PAUSE_MS", 20)
    room, bob = await enter(town, remote)
    room.say(remote.user("alice"), "missing")
    last = room.say(remote.user("alice"), "last")
    # Each once a try: three tries in vain.
    for method, part in (("POST", "/get_missing_events/"), ("GET", "/v1/event/"), ("GET", "/state_ids/")):
        remote.script(method, part, refuse(503, "M_UNKNOWN"), times=3)
    await remote.send(town.server_name, last)
    await Eyes(bob).event(room.room_id, last.event_id)
    assert len(remote.received("POST", "/get_missing_events/")) == 4
    await until_staged(database, [])


async def test_after_the_last_try_an_event_is_given_up(
    town: Town, database: Database, remote: RemoteServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "_PAUSE_MS", 1)
    monkeypatch.setattr(staging, "_MAX_ATTEMPTS", 2)
    room, _ = await enter(town, remote)
    room.say(remote.user("alice"), "missing")
    last = room.say(remote.user("alice"), "last")
    for method, part in (("POST", "/get_missing_events/"), ("GET", "/state_ids/"), ("GET", "/v1/event/")):
        remote.script(method, part, refuse(503, "M_UNKNOWN"))
    await remote.send(town.server_name, last)
    await until_staged(database, [])
    assert len(remote.received("POST", "/get_missing_events/")) == 3


async def test_others_in_the_room_help_where_the_sender_is_out_of_reach(
    town: Town, database: Database, make_remote: MakeRemote
) -> None:
    far, other = await make_remote(), await make_remote()
    bob = await town.person("bob")
    room_id = await bob.create_room(preset="public_chat")
    theirs = await other.join(town.server_name, room_id, other.user("olga"))
    room = await far.join(town.server_name, room_id, far.user("alice"))
    theirs.receive(room.newest.pdu)
    missing = room.say(far.user("alice"), "missing")
    last = room.say(far.user("alice"), "last")
    theirs.receive(missing.pdu)
    theirs.receive(last.pdu)
    for method, part in (("POST", "/get_missing_events/"), ("GET", "/state_ids/")):
        far.script(method, part, hang_up())
    await far.send(town.server_name, last)
    eyes = Eyes(bob)
    await eyes.event(room_id, last.event_id)
    assert eyes.texts(room_id) == ["missing", "last"]
    await until_staged(database, [])


async def test_a_slow_server_holds_up_no_gap_of_another(town: Town, make_remote: MakeRemote) -> None:
    slow, quick = await make_remote(), await make_remote()
    bob = await town.person("bob")
    room_id = await bob.create_room(preset="public_chat")
    rooms = [await remote.join(town.server_name, room_id, remote.user("r")) for remote in (slow, quick)]
    stall = slow.stall("POST", "/get_missing_events/")
    lasts = []
    for remote, room in zip((slow, quick), rooms, strict=True):
        room.say(remote.user("r"), "missing")
        lasts.append(room.say(remote.user("r"), "last"))
        await remote.send(town.server_name, lasts[-1])
    await stall.reached()
    await Eyes(bob).event(room_id, lasts[1].event_id)
    stall.release()
    await Eyes(bob).event(room_id, lasts[0].event_id)


async def test_what_there_is_no_room_for_is_waited_for_and_then_refused(
    town: Town, database: Database, remote: RemoteServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "_MAX_KEPT_OF_ROOM", 1)
    monkeypatch.setattr(staging, "_MAX_HELD", 1)
    room, bob = await enter(town, remote)
    alice = remote.user("alice")
    room.say(alice, "missing")
    behind = [room.say(alice, f"number {number}") for number in range(3)]
    stall = remote.stall("POST", "/get_missing_events/")
    await remote.send(town.server_name, behind[0])
    sent = [asyncio.create_task(remote.send(town.server_name, event)) for event in behind[1:]]
    [refused], [waiting] = await asyncio.wait(sent, return_when=asyncio.FIRST_COMPLETED)
    [result] = refused.result().body["pdus"].values()
    assert "too many" in result["error"]
    assert await staged(database) == [(behind[0].event_id, 0)]
    stall.release()
    [result] = (await waiting).body["pdus"].values()
    assert result == {}
    # There is room again.
    assert (await remote.send(town.server_name, behind[2])).body == {"pdus": {behind[2].event_id: {}}}
    await Eyes(bob).event(room.room_id, behind[2].event_id)


async def test_nothing_is_fetched_for_rooms_that_we_have_left(
    town: Town, database: Database, remote: RemoteServer
) -> None:
    room, bob = await enter(town, remote)
    alice = remote.user("alice")
    room.say(alice, "missing")
    behind = [room.say(alice, f"number {number}") for number in range(2)]
    remote.script("GET", "/state_ids/", hang_up())
    stall = remote.stall("POST", "/get_missing_events/", then=hang_up())
    await remote.send(town.server_name, *behind)
    await stall.reached()
    assert (await bob.post("rooms", room.room_id, "leave", body={})).status == 200
    stall.release()
    # The first had begun before; the second had its turn after it, and was let go.
    await until_staged(database, [(behind[0].event_id, 1)])
    assert len(remote.received("POST", "/get_missing_events/")) == 1


@pytest.fixture
def crashing(authority: Authority, postgres: EmbeddedPostgres) -> Iterator[FederatedProcess]:
    """An impatient server of its own, to be killed."""
    folder = make_server_folder()
    url = asyncio.run(make_database(postgres.url))
    process = FederatedProcess(folder, authority, url, {"federation": impatient(authority)})
    try:
        process.start()
        yield process
    finally:
        process.kill()
        shutil.rmtree(folder, ignore_errors=True)


async def test_what_was_answered_survives_a_kill(crashing: FederatedProcess, remote: RemoteServer) -> None:
    async with aiohttp.ClientSession() as session:
        town = Town(session, crashing.base_url, crashing.server_name)
        room, bob = await enter(town, remote)
        alice = remote.user("alice")
        room.say(alice, "missing")
        last = [room.say(alice, "next to last"), room.say(alice, "last")]
        stall = remote.stall("POST", "/get_missing_events/")
        answer = await remote.send(town.server_name, *last)
        assert answer.body == {"pdus": {event.event_id: {} for event in last}}
        await stall.reached()
        crashing.kill()
        stall.release()
        remote.behave()
        await asyncio.to_thread(crashing.start)
        eyes = Eyes(bob)
        await eyes.event(room.room_id, last[-1].event_id)
        assert eyes.texts(room.room_id) == ["missing", "next to last", "last"]


async def test_what_waits_survives_an_orderly_end(crashing: FederatedProcess, remote: RemoteServer) -> None:
    async with aiohttp.ClientSession() as session:
        town = Town(session, crashing.base_url, crashing.server_name)
        room, bob = await enter(town, remote)
        room.say(remote.user("alice"), "missing")
        last = room.say(remote.user("alice"), "last")
        stall = remote.stall("POST", "/get_missing_events/")
        await remote.send(town.server_name, last)
        await stall.reached()
        assert await asyncio.to_thread(crashing.stop) == 0
        assert "Traceback" not in crashing.read_log()
        stall.release()
        remote.behave()
        await asyncio.to_thread(crashing.start)
        eyes = Eyes(bob)
        await eyes.event(room.room_id, last.event_id)
        assert eyes.texts(room.room_id) == ["missing", "last"]


async def test_nothing_is_lost_where_a_room_is_too_busy(
    town: Town, database: Database, remote: RemoteServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, bob = await enter(town, remote)
    event = room.say(remote.user("alice"), "hello")
    with monkeypatch.context() as busy:
        busy.setattr(writer, "MAX_QUEUE", 0)
        assert (await remote.send(town.server_name, event)).body == {"pdus": {event.event_id: {}}}
        await until_staged(database, [(event.event_id, 1)])
    await remote.send(town.server_name, event)
    await Eyes(bob).event(room.room_id, event.event_id)
    assert not remote.received("POST", "/get_missing_events/")


# --- turns


class Works:
    """Work that ends when it is told to."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}

    def make(self, name: str) -> Callable[[], Any]:
        """Work of this name."""
        self._ends[name] = asyncio.Event()

        async def work() -> None:
            self.begun.append(name)
            await self._ends[name].wait()

        return work

    async def end(self, name: str) -> None:
        """Let it end, and others begin."""
        self._ends[name].set()
        for _ in range(5):
            await asyncio.sleep(0)


async def test_each_server_has_one_turn_in_each_room_in_order() -> None:
    turns, works = GapTurns(), Works()
    for name in ("a1", "a2"):
        turns.submit(1, "a", works.make(name))
    turns.submit(1, "b", works.make("b1"))
    turns.submit(2, "a", works.make("a3"))
    await asyncio.sleep(0)
    assert works.begun == ["a1", "b1", "a3"]
    await works.end("a1")
    assert works.begun == ["a1", "b1", "a3", "a2"]
    await turns.close()


async def test_a_server_with_many_rooms_leaves_places_to_others() -> None:
    turns, works = GapTurns(), Works()
    for room_nid in range(1, 100):
        turns.submit(room_nid, "slow", works.make(f"slow {room_nid}"))
    turns.submit(1, "quick", works.make("quick"))
    await asyncio.sleep(0)
    assert works.begun == [*(f"slow {n}" for n in range(1, MAX_OF_SERVER + 1)), "quick"]
    await works.end("slow 3")
    assert works.begun[-1] == f"slow {MAX_OF_SERVER + 1}"
    await turns.close()
    turns.submit(500, "late", works.make("late"))
    await asyncio.sleep(0)
    assert "late" not in works.begun


async def test_what_fails_does_not_keep_its_place() -> None:
    turns, works = GapTurns(), Works()

    async def fail() -> None:
        raise ValueError("as a test wants it")

    turns.submit(1, "a", fail)
    turns.submit(1, "a", works.make("next"))
    await works.end("next")
    assert works.begun == ["next"]
    await turns.close()


async def test_who_takes_long_gives_its_place_in_the_room_away() -> None:
    turns, works = GapTurns(slow_s=0.05), Works()
    names = [f"slow{number}" for number in range(MAX_SLOW_OF_ROOM + 10)]
    for name in names:
        turns.submit(1, name, works.make(name))
    await asyncio.sleep(0)
    assert works.begun == names[:MAX_OF_ROOM]
    async with asyncio.timeout(30):
        while len(works.begun) < MAX_SLOW_OF_ROOM:
            assert works.begun == names[: len(works.begun)]
            await asyncio.sleep(0.01)
    turns.submit(2, "elsewhere", works.make("elsewhere"))
    await works.end("slow0")
    assert works.begun[-2:] == ["elsewhere", names[MAX_SLOW_OF_ROOM]]
    for name in names[1:]:
        await works.end(name)
    # All places are there again.
    for name in names:
        turns.submit(3, name, works.make(f"again {name}"))
    await asyncio.sleep(0)
    assert works.begun[-MAX_OF_ROOM:] == [f"again {name}" for name in names[:MAX_OF_ROOM]]
    await turns.close()
