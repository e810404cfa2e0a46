"""Old events are committed like new ones: whole, in the room's lane, and readers hear of what may have happened."""

import asyncio

import asyncpg
import pytest

from hs.engine import Engine
from hs.rooms.arrivals import Arrival
from hs.rooms.drafts import Committed
from hs.storage.database import Database
from hs.storage.rooms import RoomInfo
from tests.room_builder import BuiltEvent, RoomBuilder
from tests.rooms.test_arrivals import CREATOR, arrival_of, begin, deliver, extremities, say

LATE = "@late:hs.test"

# The connection of whoever writes old history ends before the COMMIT.
CUT = """
    CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
    CREATE TRIGGER cut AFTER INSERT ON events FOR EACH ROW WHEN (new.stream_ordering < 0) EXECUTE FUNCTION cut();
"""


async def enter(engine: Engine) -> tuple[RoomBuilder, RoomInfo, Arrival, BuiltEvent]:
    """A room that we have joined, an event from before that, and our join."""
    room = RoomBuilder("12")
    room.start(CREATOR)
    before = room.send("m.old", CREATOR, {}, state_key="")
    ours = room.member(LATE, LATE, "join")
    info = await begin(engine, room, ours)
    state = room.state(before.before)
    nids = await engine.outliers.find_nids(info, [event.event_id for event in state.values()])
    given = {key: nids[event.event_id] for key, event in state.items()}
    return room, info, Arrival(arrival_of(room, before).event, given, is_history=True), ours


async def test_a_lost_connection_is_told_as_uncertain(engine: Engine, database: Database) -> None:
    room, info, old, ours = await enter(engine)
    heard: list[Committed] = []
    engine.committer.on_commit(heard.append)
    async with database.write() as writer:
        await writer.execute(CUT)
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await engine.writer.receive_history(info, [old])
    assert [(committed.room, committed.is_uncertain) for committed in heard] == [(info, True)]
    assert heard[0].position.stream == engine.stream.current
    async with database.write() as writer:
        await writer.execute("DROP TRIGGER cut ON events")
    [placed] = await engine.writer.receive_history(info, [old])
    assert placed is not None
    said = say(room, CREATOR, "it goes on", [ours])
    await deliver(engine, info, room, [said])
    assert [committed.is_uncertain for committed in heard] == [True, False]
    assert await extremities(database, info) == {said.event_id}


async def test_what_is_refused_for_certain_is_not_told(engine: Engine, database: Database) -> None:
    _, info, old, _ = await enter(engine)
    heard: list[Committed] = []
    engine.committer.on_commit(heard.append)
    async with database.write() as writer:
        await writer.execute(
            "ALTER TABLE events ADD CONSTRAINT nothing_old CHECK (stream_ordering >= 0) NOT VALID"
        )
    with pytest.raises(asyncpg.CheckViolationError):
        await engine.writer.receive_history(info, [old])
    assert heard == []


async def test_who_does_not_wait_for_it_leaves_the_lane_to_nobody_else(
    engine: Engine, database: Database
) -> None:
    """Each of the two events numbers a new state key: side by side, they would take the same number."""
    room, info, old, ours = await enter(engine)
    new = room.send("m.new", CREATOR, {}, state_key="", prev=[ours])
    async with database.write() as writer:
        await writer.execute("LOCK TABLE event_json IN EXCLUSIVE MODE")
        first = asyncio.create_task(engine.writer.receive_history(info, [old]))
        for _ in range(1000):
            if await database.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                break
            await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.wait([first])
        second = asyncio.create_task(deliver(engine, info, room, [new]))
        await asyncio.sleep(0.05)
        assert await database.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted") == 1
    [placed] = await second
    assert placed is not None
    assert not placed.flags
    found = await engine.events.find_nids(info.room_nid, [old.event.event_id, new.event_id])
    assert len(found) == 2
