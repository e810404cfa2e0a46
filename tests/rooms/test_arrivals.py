"""Events that were made elsewhere: judged like the specification says, in whatever order they come."""

from collections.abc import Sequence
from random import Random

import pytest

from hs._fast import state_tree
from hs.engine import Engine
from hs.matrix.event import parse_event
from hs.matrix.redaction import redact
from hs.rooms.arrivals import Arrival, MissingAuth, MissingHistory
from hs.rooms.stage import PlacedEvent
from hs.storage.database import Database
from hs.storage.events import Flag
from hs.storage.rooms import RoomInfo
from tests.random_rooms import random_room
from tests.room_builder import BuiltEvent, RoomBuilder

CREATOR, MEMBER, OTHER = "@creator:far.test", "@member:far.test", "@other:away.test"


def arrival_of(room: RoomBuilder, event: BuiltEvent) -> Arrival:
    """The event as it comes in."""
    return Arrival(parse_event(event.pdu, room.version))


async def begin(engine: Engine, room: RoomBuilder, first: BuiltEvent) -> RoomInfo:
    """The room as we know it once we have come in with `first`: its state before is all we have of the past."""
    [room_nid] = await engine.room_nids.take(1)
    info = await engine.rooms.enter_proven(room.room_id, room.version, room_nid)
    state = room.state(first.before)
    past = dict.fromkeys([*state.values(), *first.auth])
    waiting = list(past)
    while waiting:
        auth = waiting.pop().auth
        waiting += [event for event in auth if event not in past]
        past |= dict.fromkeys(auth)
    await engine.outliers.add(info, [parse_event(event.pdu, room.version) for event in past])
    nids = await engine.outliers.find_nids(info, [event.event_id for event in state.values()])
    given = {key: nids[event.event_id] for key, event in state.items()}
    arrival = Arrival(parse_event(first.pdu, room.version), given, is_beginning=True)
    [placed] = await engine.writer.receive(info, [arrival])
    assert placed is not None
    assert not placed.flags
    return info


async def deliver(
    engine: Engine, info: RoomInfo, room: RoomBuilder, events: Sequence[BuiltEvent]
) -> list[PlacedEvent | None]:
    """Events come in, all in one go."""
    return await engine.writer.receive(info, [arrival_of(room, event) for event in events])


async def current_state(engine: Engine, info: RoomInfo) -> set[str]:
    """The ids of the events in the room's current state."""
    root = await engine.states.current(info.room_nid)
    records = await engine.events.get_many(await engine.states.list_nids(info.room_nid, root))
    return {record.event_id for record in records.values()}


async def extremities(database: Database, info: RoomInfo) -> set[str]:
    """The ids of the room's forward extremities."""
    rows = await database.fetch(
        "SELECT event_id FROM forward_extremities JOIN events USING (room_nid, event_nid) WHERE room_nid = $1",
        info.room_nid,
    )
    return {row["event_id"] for row in rows}


def ids(events: Sequence[BuiltEvent] | dict[tuple[str, str], BuiltEvent]) -> set[str]:
    """The ids of events, or of those in a state."""
    found = events.values() if isinstance(events, dict) else events
    return {event.event_id for event in found}


def simple_room(version: str = "12") -> tuple[RoomBuilder, BuiltEvent]:
    """A room of three servers, and the event that lets us in."""
    room = RoomBuilder(version)
    room.start(CREATOR)
    room.member(MEMBER, MEMBER, "join")
    return room, room.member("@us:hs.test", "@us:hs.test", "join")


def say(room: RoomBuilder, sender: str, text: str, prev: Sequence[BuiltEvent] | None = None) -> BuiltEvent:
    """A message."""
    return room.send("m.room.message", sender, {"body": text, "msgtype": "m.text"}, prev=prev)


@pytest.mark.parametrize("seed", range(12))
async def test_random_rooms_come_out_as_the_specification_says(
    engine: Engine, database: Database, seed: int
) -> None:
    """Every event is judged alike, every state is the same, in any order that history allows."""
    rng = Random(seed)
    version = rng.choice(["2", "6", "9", "11", "12"])
    room = random_room(rng, version, 40)
    info = await begin(engine, room, room.by_nid[2])
    create = Arrival(arrival_of(room, room.by_nid[1]).event, is_history=True)
    assert [p.flags for p in await engine.writer.receive_history(info, [create]) if p] == [0]
    done, waiting = {room.by_nid[1], room.by_nid[2]}, [event for event in room.events if event.nid > 2]
    while waiting:
        ready = [event for event in waiting if set(event.prev) <= done and set(event.auth) <= done]
        assert ready
        batch = rng.sample(ready, rng.randint(1, min(3, len(ready))))
        for event, placed in zip(batch, await deliver(engine, info, room, batch), strict=True):
            assert placed is not None
            assert bool(placed.flags & Flag.REJECTED) == (event.rejected is not None), (event, placed.rule)
        done |= set(batch)
        waiting = [event for event in waiting if event not in done]
    newest = [room.by_id[event_id] for event_id in await extremities(database, info)]
    assert await current_state(engine, info) == ids(room.resolve(newest))


async def test_the_state_after_each_event_is_as_computed_elsewhere(engine: Engine) -> None:
    room, ours = simple_room()
    info = await begin(engine, room, ours)
    left = room.send("m.room.topic", CREATOR, {"topic": "left"}, state_key="", prev=[ours])
    right = room.send("m.room.topic", CREATOR, {"topic": "right"}, state_key="", prev=[ours])
    merged = say(room, MEMBER, "both", [left, right])
    placed = await deliver(engine, info, room, [left, right, merged])
    for event, found in zip((left, right, merged), placed, strict=True):
        assert found is not None
        nids = [nid for _, nid in state_tree.items(found.root)]
        records = await engine.events.get_many(nids)
        assert {record.event_id for record in records.values()} == ids(room.state(event.root))


@pytest.mark.parametrize("version", ["5", "12"])
async def test_join_and_message_in_one_batch(engine: Engine, version: str) -> None:
    """The message is judged by what the lane has made of the join, never by less."""
    room, ours = simple_room(version)
    info = await begin(engine, room, ours)
    join = room.member(OTHER, OTHER, "join")
    message = say(room, OTHER, "hello at once")
    assert [p.flags for p in await deliver(engine, info, room, [join, message]) if p] == [0, 0]


async def test_join_and_message_in_two_batches_at_once(engine: Engine) -> None:
    room, ours = simple_room()
    info = await begin(engine, room, ours)
    join = room.member(OTHER, OTHER, "join")
    message = say(room, OTHER, "hello right after")
    first = engine.writer.receive(info, [arrival_of(room, join)])
    second = engine.writer.receive(info, [arrival_of(room, message)])
    placed = [*await first, *await second]
    assert [p.flags for p in placed if p] == [0, 0]


async def test_a_ban_that_a_branch_does_not_know_soft_fails_it(engine: Engine, database: Database) -> None:
    """Soft-failed events are not built upon, and are usable where accepted history goes on from them."""
    room, ours = simple_room()
    info = await begin(engine, room, ours)
    ban = room.member(CREATOR, MEMBER, "ban", prev=[ours])
    late = say(room, MEMBER, "I was never banned", prev=[ours])
    [banned, refused] = await deliver(engine, info, room, [ban, late])
    assert banned is not None
    assert not banned.flags
    assert refused is not None
    assert refused.flags == Flag.SOFT_FAILED
    assert refused.rule == "auth.sender"
    assert await extremities(database, info) == {ban.event_id}
    merge = say(room, CREATOR, "somebody has accepted it", prev=[ban, late])
    [merged] = await deliver(engine, info, room, [merge])
    assert merged is not None
    assert not merged.flags
    assert await extremities(database, info) == {merge.event_id}


async def test_what_is_built_on_a_soft_failed_event_alone_covers_what_that_was_built_on(
    engine: Engine, database: Database
) -> None:
    room, ours = simple_room()
    info = await begin(engine, room, ours)
    ban = room.member(CREATOR, MEMBER, "ban", prev=[ours])
    late = say(room, MEMBER, "late", prev=[ours])
    await deliver(engine, info, room, [ban, late])
    onward = say(room, CREATOR, "onward", prev=[late])
    await deliver(engine, info, room, [onward])
    assert await extremities(database, info) == {ban.event_id, onward.event_id}


async def test_rejected_auth_events_reject(engine: Engine) -> None:
    """However well the rest of the list is: the whole of it is judged."""
    room, ours = simple_room()
    info = await begin(engine, room, ours)
    bad = room.send("m.room.power_levels", MEMBER, {"users": {MEMBER: 100}}, state_key="", prev=[ours])
    assert bad.rejected
    message = room.send(
        "m.room.message", CREATOR, {"body": "x"}, prev=[ours], auth=[*ours.auth[:1], bad, room.events[1]]
    )
    placed = await deliver(engine, info, room, [bad, message])
    assert [p.flags for p in placed if p] == [Flag.REJECTED, Flag.REJECTED]
    assert bad.event_id not in await current_state(engine, info)


async def test_a_rejected_event_leaves_the_state_as_it_was(engine: Engine) -> None:
    room, ours = simple_room()
    info = await begin(engine, room, ours)
    before = await current_state(engine, info)
    bad = room.send("m.room.topic", OTHER, {"topic": "not a member"}, state_key="", prev=[ours])
    after = say(room, CREATOR, "goes on from it", prev=[bad])
    placed = await deliver(engine, info, room, [bad, after])
    assert [p.flags for p in placed if p] == [Flag.REJECTED, 0]
    assert await current_state(engine, info) == before


async def test_a_second_beginning_is_refused(engine: Engine) -> None:
    room, ours = simple_room("10")
    info = await begin(engine, room, ours)
    again = room.send("m.room.create", CREATOR, {"again": True}, state_key="", prev=[], auth=[])
    [placed] = await deliver(engine, info, room, [again])
    assert placed is not None
    assert placed.flags == Flag.REJECTED


async def test_gaps_are_said_and_change_nothing(engine: Engine, database: Database) -> None:
    room, ours = simple_room()
    info = await begin(engine, room, ours)
    lost = say(room, MEMBER, "lost")
    found = say(room, MEMBER, "found")
    with pytest.raises(MissingHistory) as raised:
        await deliver(engine, info, room, [found])
    assert raised.value.event_ids == [lost.event_id]
    join = room.member(OTHER, OTHER, "join")
    message = say(room, OTHER, "who am I?", prev=[ours])
    message = room.send("m.room.message", OTHER, {"body": "?"}, prev=[ours], auth=[join])
    with pytest.raises(MissingAuth) as no_auth:
        await deliver(engine, info, room, [message])
    assert no_auth.value.event_ids == [join.event_id]
    assert await extremities(database, info) == {ours.event_id}


async def test_a_gap_is_bridged_by_the_state_after_it_and_filled_later(
    engine: Engine, database: Database
) -> None:
    """What fills the gap is history that somebody has built upon: no new branch."""
    room, ours = simple_room()
    info = await begin(engine, room, ours)
    join = room.member(OTHER, OTHER, "join")
    lost = say(room, OTHER, "lost")
    found = say(room, OTHER, "found")
    await engine.outliers.add(info, [parse_event(join.pdu, room.version)])
    state = room.state(found.before)
    nids = await engine.outliers.find_nids(info, [event.event_id for event in state.values()])
    given = {key: nids[event.event_id] for key, event in state.items()}
    [placed] = await engine.writer.receive(info, [Arrival(arrival_of(room, found).event, given)])
    assert placed is not None
    assert placed.flags == 0, placed.rule
    assert await extremities(database, info) == {ours.event_id, found.event_id}
    assert join.event_id in await current_state(engine, info)
    awaited = await database.fetch(
        "SELECT event_id FROM backward_extremities WHERE room_nid = $1", info.room_nid
    )
    assert [row["event_id"] for row in awaited if row["event_id"] == lost.event_id]
    assert [p.flags for p in await deliver(engine, info, room, [join, lost]) if p] == [0, 0]
    assert await extremities(database, info) == {found.event_id}


async def test_events_that_are_there_are_not_taken_twice(engine: Engine, database: Database) -> None:
    room, ours = simple_room()
    info = await begin(engine, room, ours)
    message = say(room, MEMBER, "once")
    assert all(await deliver(engine, info, room, [message]))
    assert await deliver(engine, info, room, [message, message, ours]) == [None, None, None]
    count = await database.fetchval("SELECT count(*) FROM events WHERE event_id = $1", message.event_id)
    assert count == 1


@pytest.mark.parametrize("comes_first", [True, False])
async def test_redactions_hold_in_both_orders(engine: Engine, comes_first: bool) -> None:
    room, ours = simple_room("10")
    info = await begin(engine, room, ours)
    said = say(room, MEMBER, "regretted", prev=[ours])
    other = say(room, MEMBER, "no regrets", prev=[ours])
    redaction = room.send("m.room.redaction", CREATOR, {}, redacts=said.event_id, prev=[ours])
    unfounded = room.send("m.room.redaction", "@us:hs.test", {}, redacts=other.event_id, prev=[ours])
    order = [redaction, unfounded, said, other] if comes_first else [said, other, redaction, unfounded]
    for event in order:
        await deliver(engine, info, room, [event])
    nids = await engine.events.find_nids(info.room_nid, [said.event_id, other.event_id])
    records = await engine.events.get_many(list(nids.values()))
    assert "body" not in records[nids[said.event_id]].content
    assert records[nids[other.event_id]].content["body"] == "no regrets"


async def test_old_history_goes_behind_what_there_is(engine: Engine, database: Database) -> None:
    room, _ = simple_room()
    for number in range(5):
        say(room, CREATOR, f"old {number}")
    ours = room.member("@late:hs.test", "@late:hs.test", "join")
    info = await begin(engine, room, ours)
    before = await current_state(engine, info)
    past = [event for event in room.events if event.nid < ours.nid][-5:]
    given = {key: event.event_id for key, event in room.state(past[0].before).items()}
    nids = await engine.outliers.find_nids(info, list(given.values()))
    arrivals = [
        Arrival(
            parse_event(event.pdu, room.version),
            {key: nids[event_id] for key, event_id in given.items()} if event is past[0] else None,
            is_history=True,
        )
        for event in past
    ]
    placed = await engine.writer.receive_history(info, arrivals)
    assert [p.flags for p in placed if p] == [0] * 5
    rows = await database.fetch(
        "SELECT event_id FROM events WHERE room_nid = $1 AND stream_ordering < 0 ORDER BY depth, stream_ordering",
        info.room_nid,
    )
    assert [row["event_id"] for row in rows] == [event.event_id for event in past]
    assert await current_state(engine, info) == before
    assert await extremities(database, info) == {ours.event_id}


async def test_an_import_without_its_auth_events_stores_nothing(engine: Engine, database: Database) -> None:
    room, _ = simple_room()
    [room_nid] = await engine.room_nids.take(1)
    info = await engine.rooms.enter_proven(room.room_id, room.version, room_nid)
    events = [parse_event(event.pdu, room.version) for event in room.events if event.nid != 2]
    with pytest.raises(MissingAuth) as raised:
        await engine.outliers.add(info, events)
    assert raised.value.event_ids == [room.events[1].event_id]
    assert await database.fetchval("SELECT count(*) FROM events WHERE room_nid = $1", info.room_nid) == 0


async def test_a_redacted_copy_takes_the_place_of_no_whole_event(engine: Engine) -> None:
    """Servers give others redacted history; the event may be here already, among the room's state."""
    room, _ = simple_room()
    topic = room.send("m.room.topic", CREATOR, {"topic": "whole"}, state_key="")
    ours = room.member("@late:hs.test", "@late:hs.test", "join")
    info = await begin(engine, room, ours)
    before = room.state(topic.before)
    await engine.outliers.add(info, [parse_event(event.pdu, room.version) for event in before.values()])
    nids = await engine.outliers.find_nids(info, [event.event_id for event in before.values()])
    given = {key: nids[event.event_id] for key, event in before.items()}
    copy = parse_event(redact(topic.pdu, room.version), room.version)
    assert copy.redacted_for_hash
    await engine.writer.receive_history(info, [Arrival(copy, given, is_history=True)])
    nid = await engine.events.find_nid(info.room_nid, topic.event_id)
    assert nid is not None
    record = await engine.events.get(nid)
    assert record.content == {"topic": "whole"}
    assert not record.flags & (Flag.OUTLIER | Flag.REDACTED)
