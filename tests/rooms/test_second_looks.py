"""Messages that came before the join that allows them: accepted once it counts, and no ban is evaded that way."""

import pytest

from hs.engine import Engine
from hs.rooms import writer
from hs.rooms.arrivals import Arrival
from hs.rooms.build import Signer
from hs.rooms.drafts import Committed
from hs.storage.database import Database
from hs.storage.events import Flag
from hs.storage.rooms import RoomInfo
from tests.room_builder import BuiltEvent, RoomBuilder
from tests.rooms.conftest import make_engine
from tests.rooms.test_arrivals import (
    CREATOR,
    MEMBER,
    OTHER,
    arrival_of,
    begin,
    current_state,
    deliver,
    extremities,
    say,
)


def moderated_room(version: str = "12") -> tuple[RoomBuilder, BuiltEvent]:
    """A room in which MEMBER may ban and everybody sets the topic, and the event that lets us in."""
    room = RoomBuilder(version)
    users = {MEMBER: 50} if room.version.privileged_creators else {CREATOR: 100, MEMBER: 50}
    room.start(CREATOR, levels={"users": users, "events": {"m.room.topic": 0}})
    room.member(MEMBER, MEMBER, "join")
    return room, room.member("@us:hs.test", "@us:hs.test", "join")


async def flags_of(engine: Engine, info: RoomInfo, event: BuiltEvent) -> int:
    """As they are stored."""
    nid = await engine.events.find_nid(info.room_nid, event.event_id)
    assert nid is not None
    return (await engine.events.get(nid)).flags


async def settle(engine: Engine) -> None:
    """Return once nothing is looked at any more."""
    await engine.second_looks.settle()


async def looks_to_come(database: Database) -> int:
    """How many are written down."""
    count: int = await database.fetchval("SELECT count(*) FROM second_looks")
    return count


async def ban_that_never_was(
    engine: Engine, version: str = "12"
) -> tuple[RoomBuilder, RoomInfo, dict[str, BuiltEvent]]:
    """Servers were apart: MEMBER has banned OTHER, which we heard first, and CREATOR had taken that power away."""
    room, ours = moderated_room(version)
    info = await begin(engine, room, ours)
    made = {"ban": room.member(MEMBER, OTHER, "ban", prev=[ours])}
    made["join"] = room.member(OTHER, OTHER, "join", prev=[ours])
    made["first"] = say(room, OTHER, "hello at once", [made["join"]])
    made["second"] = say(room, OTHER, "nobody answers", [made["first"]])
    users = {} if room.version.privileged_creators else {CREATOR: 100}
    made["levels"] = room.send(
        "m.room.power_levels",
        CREATOR,
        {"users": users, "events": {"m.room.topic": 0}},
        state_key="",
        prev=[ours],
    )
    await deliver(engine, info, room, [made["ban"]])
    placed = await deliver(engine, info, room, [made[name] for name in ("join", "first", "second")])
    assert [p.flags for p in placed if p] == [Flag.SOFT_FAILED] * 3
    await deliver(engine, info, room, [made["levels"]])
    return room, info, made


@pytest.mark.parametrize("version", ["9", "12"])
async def test_messages_are_accepted_when_their_join_counts(
    engine: Engine, database: Database, version: str
) -> None:
    room, info, made = await ban_that_never_was(engine, version)
    told: list[Committed] = []
    engine.committer.on_commit(told.append)
    merge = say(room, CREATOR, "she was let in", [made["levels"], made["join"]])
    await deliver(engine, info, room, [merge])
    await settle(engine)
    assert made["join"].event_id in await current_state(engine, info)
    news = [record for committed in told for record in committed.records]
    assert [record.event_id for record in news] == [
        event.event_id for event in (merge, made["first"], made["second"])
    ]
    positions = [record.stream_ordering for record in news]
    assert positions == sorted(positions)
    for name in ("first", "second"):
        assert not await flags_of(engine, info, made[name])
    assert await extremities(database, info) == {
        event.event_id for event in (made["ban"], merge, made["second"])
    }
    # Each is there once, edges and all.
    rows = await database.fetch(
        "SELECT event_id, count(*) FROM events JOIN event_edges USING (room_nid, event_nid) "
        "WHERE room_nid = $1 AND event_id = ANY($2) GROUP BY event_id",
        info.room_nid,
        [made["first"].event_id, made["second"].event_id],
    )
    assert [row["count"] for row in rows] == [1, 1]


async def test_they_stay_so_after_a_restart(engine: Engine, database: Database, signer: Signer) -> None:
    room, info, made = await ban_that_never_was(engine)
    await deliver(engine, info, room, [say(room, CREATOR, "so", [made["levels"], made["join"]])])
    await settle(engine)
    again = await make_engine(database, signer)
    assert not await flags_of(again, info, made["second"])
    onward = say(room, OTHER, "good", [made["second"]])
    [placed] = await deliver(again, info, room, [onward])
    assert placed is not None
    assert not placed.flags
    await again.writer.close()


async def test_a_look_is_not_lost_when_the_process_ends_before_it(
    engine: Engine, database: Database, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, info, made = await ban_that_never_was(engine)
    # Nothing is done after the COMMIT any more.
    await engine.second_looks.close()
    await deliver(engine, info, room, [say(room, CREATOR, "so", [made["levels"], made["join"]])])
    assert await flags_of(engine, info, made["first"]) == Flag.SOFT_FAILED
    again = await make_engine(database, signer)
    with monkeypatch.context() as busy:
        busy.setattr(writer, "MAX_QUEUE", 0)
        again.second_looks.resume()
        await settle(again)
    # What fails is not forgotten either.
    assert await flags_of(again, info, made["first"]) == Flag.SOFT_FAILED
    again.second_looks.resume()
    await settle(again)
    for name in ("first", "second"):
        assert not await flags_of(again, info, made[name])
    assert not await looks_to_come(database)
    await again.second_looks.close()
    await again.writer.close()


async def test_joins_of_those_who_were_not_refused_are_not_written_down(
    engine: Engine, database: Database
) -> None:
    room, ours = moderated_room()
    info = await begin(engine, room, ours)
    await engine.second_looks.close()
    join = room.member(OTHER, OTHER, "join")
    await deliver(engine, info, room, [join, say(room, OTHER, "hello", [join])])
    assert join.event_id in await current_state(engine, info)
    assert not await looks_to_come(database)


async def test_a_join_that_was_old_history_comes_to_count(engine: Engine) -> None:
    """Somebody has looked for an event by its time, before the branch that it is on came to us."""
    room, ours = moderated_room()
    info = await begin(engine, room, ours)
    join = room.member(OTHER, OTHER, "join", prev=[ours])
    await engine.writer.receive_history(info, [Arrival(arrival_of(room, join).event, is_history=True)])
    message = say(room, OTHER, "hello", [join])
    [placed] = await deliver(engine, info, room, [message])
    assert placed is not None
    assert placed.flags == Flag.SOFT_FAILED
    await deliver(engine, info, room, [say(room, CREATOR, "welcome", [ours, join])])
    await settle(engine)
    assert not await flags_of(engine, info, message)


@pytest.mark.parametrize("comes_first", ["join", "message"])
async def test_what_came_early_as_old_history_is_news_when_it_is_sent(
    engine: Engine, database: Database, comes_first: str
) -> None:
    room, ours = moderated_room()
    info = await begin(engine, room, ours)
    join = room.member(OTHER, OTHER, "join", prev=[ours])
    message = say(room, OTHER, "hello", [join])
    await engine.writer.receive_history(info, [Arrival(arrival_of(room, join).event, is_history=True)])
    told: list[Committed] = []
    engine.committer.on_commit(told.append)
    order = [join, message] if comes_first == "join" else [message, join]
    for event in order:
        await deliver(engine, info, room, [event])
    await settle(engine)
    assert {record.event_id for committed in told for record in committed.records} == {
        join.event_id,
        message.event_id,
    }
    assert join.event_id in await current_state(engine, info)
    assert await extremities(database, info) == {message.event_id}
    # Once: what is sent again is there.
    assert await deliver(engine, info, room, [join, message]) == [None, None]


async def test_a_redaction_that_came_in_between_holds(engine: Engine) -> None:
    room, info, made = await ban_that_never_was(engine, "10")
    redaction = room.send(
        "m.room.redaction", CREATOR, {}, redacts=made["first"].event_id, prev=[made["levels"]]
    )
    await deliver(engine, info, room, [redaction])
    await deliver(engine, info, room, [say(room, CREATOR, "so", [redaction, made["join"]])])
    await settle(engine)
    nid = await engine.events.find_nid(info.room_nid, made["first"].event_id)
    assert nid is not None
    record = await engine.events.get(nid)
    assert record.flags == Flag.REDACTED
    assert "body" not in record.content


async def test_a_redaction_is_judged_again_too(engine: Engine, database: Database) -> None:
    """It redacts from then on, and once."""
    room, info, made = await ban_that_never_was(engine, "10")
    undone = room.send("m.room.redaction", OTHER, {}, redacts=made["first"].event_id, prev=[made["second"]])
    [placed] = await deliver(engine, info, room, [undone])
    assert placed is not None
    assert placed.flags == Flag.SOFT_FAILED
    await deliver(engine, info, room, [say(room, CREATOR, "so", [made["levels"], made["join"]])])
    await settle(engine)
    assert not await flags_of(engine, info, undone)
    assert await flags_of(engine, info, made["first"]) == Flag.REDACTED


async def test_who_is_banned_is_not_heard_by_coming_in_again(engine: Engine) -> None:
    room, ours = moderated_room()
    info = await begin(engine, room, ours)
    join = room.member(OTHER, OTHER, "join")
    ban = room.member(CREATOR, OTHER, "ban")
    late = say(room, OTHER, "as if there were no ban", [join])
    placed = await deliver(engine, info, room, [join, ban, late])
    assert [p.flags for p in placed if p] == [0, 0, Flag.SOFT_FAILED]
    unban = room.member(CREATOR, OTHER, "leave", prev=[ban])
    rejoin = room.member(OTHER, OTHER, "join", prev=[unban])
    await deliver(engine, info, room, [unban, rejoin])
    await settle(engine)
    assert rejoin.event_id in await current_state(engine, info)
    assert await flags_of(engine, info, late) == Flag.SOFT_FAILED
    # A new name is another join, and no way back either.
    renamed = room.member(OTHER, OTHER, "join", content={"displayname": "O"}, prev=[rejoin])
    await deliver(engine, info, room, [renamed])
    await settle(engine)
    assert await flags_of(engine, info, late) == Flag.SOFT_FAILED


async def test_a_ban_that_stands_is_evaded_by_no_merge(engine: Engine) -> None:
    """Whoever builds on the join and on the ban: the ban wins, and what was said stays unsaid."""
    room, ours = moderated_room()
    info = await begin(engine, room, ours)
    ban = room.member(CREATOR, OTHER, "ban", prev=[ours])
    join = room.member(OTHER, OTHER, "join", prev=[ours])
    message = say(room, OTHER, "let me in", [join])
    await deliver(engine, info, room, [ban, join, message])
    await deliver(engine, info, room, [say(room, CREATOR, "no", [ban, join])])
    await settle(engine)
    assert await flags_of(engine, info, message) == Flag.SOFT_FAILED
    assert join.event_id not in await current_state(engine, info)


async def test_state_is_not_judged_again(engine: Engine) -> None:
    """It would change the room at a moment that other servers know nothing of."""
    room, info, made = await ban_that_never_was(engine)
    topic = room.send("m.room.topic", OTHER, {"topic": "mine"}, state_key="", prev=[made["second"]])
    await deliver(engine, info, room, [topic])
    await deliver(engine, info, room, [say(room, CREATOR, "so", [made["levels"], made["join"]])])
    await settle(engine)
    assert not await flags_of(engine, info, made["second"])
    assert await flags_of(engine, info, topic) == Flag.SOFT_FAILED
