"""Which gaps are filled, and whom we ask: with the room engine alone, a clock that can be turned, and counted queries."""

import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from asyncpg.connection import LoggedQuery
from signedjson.key import generate_signing_key

from hs.config import load_config
from hs.engine import Engine, build_engine
from hs.net.room_client import RoomClient
from hs.network import Network, build_network
from hs.rooms import backfill
from hs.rooms.backfill import Backfiller, HistorySource
from hs.rooms.build import Signer
from hs.rooms.checks import PduChecker
from hs.rooms.fetched_state import FetchedStates
from hs.rooms.history_access import HistoryAccess
from hs.rooms.inferred_states import InferredStates
from hs.rooms.other_servers import OtherServers
from hs.storage import backfill as points
from hs.storage.arrivals import ArrivalStore
from hs.storage.backfill import BackfillStore
from hs.storage.database import Database
from hs.storage.rooms import RoomInfo
from tests.certificates import Authority
from tests.federation_town import federation_settings
from tests.remote_room import RemoteRoom
from tests.remote_scripts import hang_up, refuse
from tests.remote_server import RemoteServer
from tests.rooms.conftest import OpenGate, PlainProfiles, TurnableClock
from tests.rooms.test_arrivals import begin, deliver
from tests.server_process import to_toml

pytestmark = pytest.mark.timeout(120)

NAME = "127.0.0.1:1"
HOUR_MS = 3_600_000

MakeRemote = Callable[..., Awaitable[RemoteServer]]


@dataclass
class Rig:
    """A room engine that backfills; `statements` are all that the database was asked."""

    database: Database
    engine: Engine
    backfiller: Backfiller
    clock: TurnableClock
    signer: Signer
    network: Network
    statements: list[str] = field(default_factory=list)

    async def enter(self, remote: RemoteServer, old_messages: int = 0) -> tuple[RemoteRoom, RoomInfo]:
        """A room of the remote's that one of us has joined, after so many messages."""
        remote.know_key(NAME, self.signer.key)
        room = remote.make_room()
        for number in range(old_messages):
            room.say(remote.user("alice"), f"message {number}")
        room.signing_keys = {**remote.signing_keys, NAME: self.signer.key}
        info = await begin(self.engine, room, room.member(f"@us:{NAME}", f"@us:{NAME}", "join"))
        await deliver(self.engine, info, room, [room.say(remote.user("alice"), "hello")])
        return room, info

    async def break_off(self, info: RoomInfo, count: int, depth: str = "n") -> None:
        """Let history break off before `count` copies of the newest event; `depth` is an SQL expression."""
        async with self.database.write() as writer:
            nid = await writer.fetchval(
                "SELECT max(event_nid) FROM events WHERE room_nid = $1", info.room_nid
            )
            await writer.execute(
                f"""
                INSERT INTO events (room_nid, event_nid, event_id, type, sender, depth, stream_ordering,
                    origin_server_ts, state_id, prev_nids)
                SELECT room_nid, 1000000 + n, '$copy' || n, type, sender, {depth}, -n, origin_server_ts, state_id,
                    ARRAY[2000000 + n]
                FROM events, generate_series(1, $3) AS n WHERE room_nid = $1 AND event_nid = $2
                """,
                info.room_nid,
                nid,
                count,
            )
            for statement in (
                "INSERT INTO event_json (room_nid, event_nid, pdu) SELECT room_nid, 1000000 + n, pdu "
                "FROM event_json, generate_series(1, $3) AS n WHERE room_nid = $1 AND event_nid = $2",
                "INSERT INTO event_edges (room_nid, prev_nid, event_nid) SELECT room_nid, 2000000 + n, 1000000 + n "
                "FROM events, generate_series(1, $3) AS n WHERE room_nid = $1 AND event_nid = $2",
                "INSERT INTO backward_extremities (room_nid, event_nid, event_id) SELECT room_nid, 2000000 + n, "
                "'$gone' || n FROM events, generate_series(1, $3) AS n WHERE room_nid = $1 AND event_nid = $2",
            ):
                await writer.execute(statement, info.room_nid, nid, count)

    async def meet(self, info: RoomInfo, remotes: list[RemoteServer]) -> None:
        """Let users of these servers be in the room, as far as members are listed."""
        async with self.database.write() as writer:
            for number, remote in enumerate(remotes, 1):
                await writer.execute(
                    "INSERT INTO memberships (room_nid, user_id, membership, event_nid) VALUES ($1, $2, 'join', $3)",
                    info.room_nid,
                    remote.user("somebody"),
                    number,
                )


@pytest.fixture
async def rig(database_url: str, authority: Authority, tmp_path: Path) -> AsyncIterator[Rig]:
    """On an empty database."""
    statements: list[str] = []

    def note(query: LoggedQuery) -> None:
        # The server's own pool resets nothing.
        if "pg_advisory_unlock_all" not in query.query:
            statements.append(query.query)

    async def watch(connection: Any) -> None:
        connection.add_query_logger(note)

    config_path = tmp_path / "hs.toml"
    config_path.write_text(to_toml({"server_name": NAME} | federation_settings(authority, 1, 2)))
    async with AsyncExitStack() as stack:
        # At each use: what a connection logs to is forgotten when it goes back to the pool.
        pool = await stack.enter_async_context(
            asyncpg.create_pool(database_url, min_size=1, max_size=4, setup=watch)
        )
        database, clock = Database(pool), TurnableClock(int(time.time() * 1000))
        signer = Signer(NAME, generate_signing_key("rig"))
        network = await build_network(load_config(config_path), database, clock, signer, [], stack)
        engine = await build_engine(database, signer, clock, PlainProfiles(), OpenGate(), 2**20)
        stack.push_async_callback(engine.writer.close)
        client, checker, store = RoomClient(network.client), PduChecker(network.keys), BackfillStore(database)
        states = FetchedStates(client, checker, engine.outliers, engine.outlier_store)
        backfiller = Backfiller(
            engine.writer,
            store,
            ArrivalStore(database),
            HistorySource(
                client,
                checker,
                states,
                InferredStates(store, engine.events, engine.states),
                OtherServers(engine.members, NAME),
            ),
            HistoryAccess(engine.states, engine.events, store),
            clock,
            NAME,
        )
        stack.push_async_callback(backfiller.close)
        yield Rig(database, engine, backfiller, clock, signer, network, statements)


def asked_for(remote: RemoteServer) -> list[list[str]]:
    """The ids of events that the remote was asked for the history of, request by request."""
    return [request.query["v"] for request in remote.received("GET", "/backfill/")]


async def test_ten_thousand_gaps_cost_little(rig: Rig, remote: RemoteServer) -> None:
    _, info = await rig.enter(remote)
    await rig.break_off(info, 10_000)
    remote.script("GET", "/backfill/", refuse(404, "M_NOT_FOUND"))
    await rig.backfiller.fill(info, 9_000)
    rig.statements.clear()
    tracemalloc.start()
    try:
        assert not await rig.backfiller.fill(info, 5_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The points are read a thousand to each side: half a megabyte, and as much again as the driver's rows.
    assert peak < 5_000_000
    assert 5 < len(rig.statements) < 20, rig.statements
    near, far = asked_for(remote)[1], asked_for(remote)[0]
    assert len(near) == len(far) == 5
    assert {abs(int(event_id[5:]) - 5_000) <= 5 for event_id in near} == {True}


async def test_a_hundred_messages_are_a_few_dozen_statements(rig: Rig, remote: RemoteServer) -> None:
    room, info = await rig.enter(remote, old_messages=150)
    rig.statements.clear()
    assert await rig.backfiller.fill(info, 1_000)
    assert len(rig.statements) < 60, rig.statements
    found = await rig.engine.events.find_nids(info.room_nid, [event.event_id for event in room.events[-101:]])
    assert len(found) == 101


async def test_more_gaps_at_one_depth_than_are_asked_for_at_once(rig: Rig, remote: RemoteServer) -> None:
    _, info = await rig.enter(remote)
    await rig.break_off(info, 12, depth="7")
    remote.script("GET", "/backfill/", refuse(404, "M_NOT_FOUND"))
    for _ in range(4):
        assert not await rig.backfiller.fill(info, 10)
    asked = asked_for(remote)
    # Before the room's own beginning there is one more; each was asked for once, and then waits.
    assert [len(event_ids) for event_ids in asked] == [5, 5, 3]
    named = [event_id for event_ids in asked for event_id in event_ids]
    assert len(set(named)) == 13
    assert {event_id for event_id in named if event_id.startswith("$gone")} == {
        f"$gone{n}" for n in range(1, 13)
    }


async def test_what_waits_does_not_crowd_out_what_may_be_asked_for(
    rig: Rig, remote: RemoteServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(points, "_MAX_POINTS", 4)
    _, info = await rig.enter(remote)
    await rig.break_off(info, 12)
    remote.script("GET", "/backfill/", refuse(404, "M_NOT_FOUND"))
    for _ in range(5):
        await rig.backfiller.fill(info, 100)
    assert {event_id for event_ids in asked_for(remote) for event_id in event_ids} >= {
        f"$gone{n}" for n in range(1, 13)
    }


async def test_after_five_refusals_nobody_else_is_bothered(rig: Rig, make_remote: MakeRemote) -> None:
    remotes = [await make_remote() for _ in range(8)]
    _, info = await rig.enter(remotes[0])
    await rig.meet(info, remotes[1:])
    for remote in remotes:
        remote.know_key(NAME, rig.signer.key)
        remote.script("GET", "/backfill/", refuse(403, "M_FORBIDDEN"))
    # No answer is no refusal.
    remotes[2].script("GET", "/backfill/", hang_up())
    assert not await rig.backfiller.fill(info, 100)
    assert sum(len(asked_for(remote)) > 0 for remote in remotes) == 6


@pytest.mark.timeout(30)
async def test_a_server_that_takes_its_time_is_not_waited_for(
    rig: Rig, make_remote: MakeRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill, "_SERVER_S", 1.0)
    quick, slow = await make_remote(), await make_remote()
    _, info = await rig.enter(quick)
    await rig.meet(info, [slow])
    slow.know_key(NAME, rig.signer.key)
    stall = slow.stall("GET", "/backfill/")
    await rig.backfiller.fill(info, 100)
    assert asked_for(quick)
    stall.release()


async def test_who_gives_nothing_is_asked_less_and_less_often(rig: Rig, remote: RemoteServer) -> None:
    _, info = await rig.enter(remote)
    remote.script("GET", "/backfill/", refuse(403, "M_FORBIDDEN"))
    await rig.backfiller.fill(info, 100)
    for hours in (2, 4, 8, 16, 32, 64, 128, 256, 256, 256):
        before = len(asked_for(remote))
        rig.clock.time_ms += hours * HOUR_MS - 1
        await rig.backfiller.fill(info, 100)
        assert len(asked_for(remote)) == before, hours
        rig.clock.time_ms += 1
        await rig.backfiller.fill(info, 100)
        assert len(asked_for(remote)) == before + 1, hours


async def test_what_was_refused_once_is_fetched_later(rig: Rig, remote: RemoteServer) -> None:
    room, info = await rig.enter(remote)
    remote.script("GET", "/backfill/", refuse(403, "M_FORBIDDEN"), times=1)
    assert not await rig.backfiller.fill(info, 100)
    rig.clock.time_ms += 2 * HOUR_MS
    assert await rig.backfiller.fill(info, 100)
    found = await rig.engine.events.find_nids(info.room_nid, [event.event_id for event in room.events])
    assert len(found) == len(room.events)
    assert not await rig.backfiller.is_broken_off(info, 0, 1_000)
