"""Receipts without HTTP: what memory and database say of them."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from hs.engine import Engine
from hs.matrix.errors import InvalidParam, NotFound
from hs.readers import Readers
from hs.rooms.drafts import SentEvent
from hs.storage.receipts import (
    MAIN,
    MAX_TOLD,
    READ,
    READ_PRIVATE,
    ReadUpTo,
    Receipt,
)
from hs.storage.rooms import RoomInfo
from hs.sync.presence_states import IDLE_AFTER_MS, TICK_MS
from hs.sync.receipt_writer import MAX_BATCH
from hs.sync.recent_receipts import RecentReceipts
from tests.rooms.conftest import ALICE, BOB, CAROL, TurnableClock
from tests.rooms.making import make_room
from tests.sync.conftest import Client
from tests.sync.receipt_desk import Desk, Told, desk, parse, room, say, start

__all__ = ["desk", "room", "start"]


async def test_what_is_new_costs_no_query(engine: Engine, room: RoomInfo, desk: Desk) -> None:
    event, quiet = await say(engine, room), await make_room(engine)
    since = desk.receipts.current
    await desk.set(room, event)
    await desk.set(room, event, CAROL, READ_PRIVATE)
    rooms = [room.room_nid, quiet.room_nid]
    for user_id in (ALICE, BOB):
        assert await desk.told(room, user_id, since) == {(event.event_id, READ, BOB, None)}
        assert list(await desk.receipts.list_rooms_since(user_id, rooms, since, desk.receipts.current)) == [
            room.room_nid
        ]
        assert await desk.told(quiet, user_id, since) == set()
    # Nobody else hears even that there is something private.
    middle = desk.receipts.current - 1
    assert not await desk.receipts.list_rooms_since(ALICE, rooms, middle, desk.receipts.current)
    assert await desk.told(room, CAROL, middle) == {(event.event_id, READ_PRIVATE, CAROL, None)}
    assert desk.store.reads == 0
    assert (desk.woken_rooms, desk.woken_users) == ([room.room_nid], [CAROL])
    assert desk.read == [(BOB, room.room_nid), (CAROL, room.room_nid)]


async def test_a_token_is_told_what_was_when_it_was_made(engine: Engine, room: RoomInfo, desk: Desk) -> None:
    first, second = await say(engine, room), await say(engine, room)
    await desk.set(room, first)
    await desk.set(room, first, CAROL)
    before = desk.receipts.current
    await desk.set(room, second)
    # Bob's first receipt has gone; the second belongs to the next token.
    assert await desk.told(room, ALICE, 0, before) == {(first.event_id, READ, CAROL, None)}
    assert await desk.told(room, ALICE, None, before) == {(first.event_id, READ, CAROL, None)}
    assert await desk.told(room, ALICE, before) == {(second.event_id, READ, BOB, None)}


async def test_positions(engine: Engine, room: RoomInfo, desk: Desk, start: Callable[[], Any]) -> None:
    root, other = await say(engine, room), await say(engine, room)
    answer, later = await say(engine, room, root.event_id), await say(engine, room, other.event_id)
    root_nid, other_nid = [
        (await desk.store.find_place(room.room_nid, event.event_id)).thread_nid  # type: ignore[union-attr]
        for event in (answer, later)
    ]
    assert len({root_nid, other_nid, 0}) == 3
    at = {event: event.stream_ordering for event in (root, other, answer, later)}
    steps: list[tuple[SentEvent, str, str | None, ReadUpTo]] = [
        (root, READ, MAIN, ReadUpTo(0, {0: at[root]})),
        (answer, READ_PRIVATE, root.event_id, ReadUpTo(0, {0: at[root], root_nid: at[answer]})),
        # Behind the private one.
        (root, READ, root.event_id, ReadUpTo(0, {0: at[root], root_nid: at[answer]})),
        (other, READ, None, ReadUpTo(at[other], {root_nid: at[answer]})),
        (root, READ_PRIVATE, None, ReadUpTo(at[other], {root_nid: at[answer]})),
        (later, READ, other.event_id, ReadUpTo(at[other], {root_nid: at[answer], other_nid: at[later]})),
        (answer, READ, None, ReadUpTo(at[answer], {other_nid: at[later]})),
        (later, READ_PRIVATE, None, ReadUpTo(at[later])),
    ]
    assert await desk.positions(room) == ReadUpTo()
    reads = desk.store.reads
    for event, type, thread, expected in steps:
        await desk.set(room, event, type=type, thread=thread)
        assert await desk.positions(room) == expected
        assert await desk.positions(room) is await desk.positions(room)
        assert await (await start()).positions(room) == expected
    assert desk.store.reads == reads
    assert await desk.positions(room, ALICE) == ReadUpTo()


@pytest.mark.parametrize("is_read_again", [False, True])
async def test_positions_that_change_while_they_are_read(
    engine: Engine, room: RoomInfo, desk: Desk, is_read_again: bool
) -> None:
    first, second = await say(engine, room), await say(engine, room)
    await desk.set(room, first)
    held = asyncio.Event()
    desk.store.held = held
    readers = [asyncio.create_task(desk.positions(room))]
    await desk.store.entered.get()
    desk.store.held = None
    await desk.set(room, second)
    if is_read_again:
        # A reader that comes after the change must not make the one before it look true.
        desk.store.held = held
        readers.append(asyncio.create_task(desk.positions(room)))
        await desk.store.entered.get()
    held.set()
    for found in await asyncio.gather(*readers):
        assert found.unthreaded == second.stream_ordering
    assert (await desk.positions(room)).unthreaded == second.stream_ordering


async def test_events_of_elsewhere_are_refused(engine: Engine, room: RoomInfo, desk: Desk) -> None:
    other = await make_room(engine)
    event = await say(engine, other)
    with pytest.raises(NotFound):
        await desk.set(room, event)
    with pytest.raises(InvalidParam):
        await desk.set(other, event, thread=event.event_id)
    assert desk.receipts.current == 0


async def test_a_large_room_is_told_its_newest_receipts(engine: Engine, room: RoomInfo, desk: Desk) -> None:
    early, event = await say(engine, room), await say(engine, room)
    await desk.set(room, early, ALICE)
    await desk.set(room, early, ALICE, READ_PRIVATE)
    users = [f"@{number}:hs.test" for number in range(MAX_TOLD + MAX_BATCH)]
    await asyncio.gather(*(desk.set(room, event, user) for user in users))
    assert max(len(news.receipts) for news in desk.transactions) == MAX_BATCH
    told = await desk.told(room, ALICE)
    own = {(early.event_id, READ, ALICE, None), (early.event_id, READ_PRIVATE, ALICE, None)}
    assert own < told
    assert {user for _, _, user, _ in told - own} == set(users[-MAX_TOLD:])
    assert len(await desk.told(room, BOB)) == MAX_TOLD
    # Memory knows them all.
    assert len(await desk.told(room, ALICE, 0)) == len(users) + 2
    assert desk.store.reads == 2


async def test_after_a_restart_the_database_knows(
    engine: Engine, room: RoomInfo, desk: Desk, start: Callable[[], Any]
) -> None:
    events = [await say(engine, room) for _ in range(2)]
    await desk.set(room, events[0])
    middle = desk.receipts.current
    await desk.set(room, events[0], CAROL, READ_PRIVATE)
    private = desk.receipts.current
    await desk.set(room, events[1], ALICE)
    again: Desk = await start()
    assert again.receipts.current == desk.receipts.current
    alice = (events[1].event_id, READ, ALICE, None)
    assert await again.told(room, BOB, middle) == {alice}
    assert await again.told(room, CAROL, middle) == {alice, (events[0].event_id, READ_PRIVATE, CAROL, None)}
    rooms = [room.room_nid]
    assert await again.receipts.list_rooms_since(CAROL, rooms, middle, private) == rooms
    assert await again.receipts.list_rooms_since(BOB, rooms, middle, private) == []
    # From here on it is remembered again.
    reads, since = again.store.reads, again.receipts.current
    await again.set(room, events[1])
    assert await again.told(room, ALICE, since) == {(events[1].event_id, READ, BOB, None)}
    assert again.store.reads == reads


async def test_memory_and_database_agree(
    engine: Engine, room: RoomInfo, desk: Desk, start: Callable[[], Any]
) -> None:
    """Random plays: a server that has seen it all and one that has just been started answer the same."""
    dice = random.Random(7)
    rooms = [room, await make_room(engine), await make_room(engine)]
    events = {one.room_nid: [await say(engine, one) for _ in range(6)] for one in rooms}
    users = [ALICE, BOB, CAROL]
    tokens = [0]
    for _ in range(60):
        one, user = dice.choice(rooms), dice.choice(users)
        event, type = dice.choice(events[one.room_nid]), dice.choice([READ, READ_PRIVATE])
        await desk.set(one, event, user, type, dice.choice([None, MAIN]))
        tokens.append(desk.receipts.current)
    again: Desk = await start()
    nids = [one.room_nid for one in rooms]
    for user in users:
        assert await desk.receipts.read_positions(user, nids) == await again.receipts.read_positions(
            user, nids
        )
        for since in dice.sample(tokens, 15):
            upto = desk.receipts.current
            events_of = [
                {nid: parse(event) for nid, event in found.items()}
                for found in (
                    await desk.receipts.list_events(user, nids, since, upto),
                    await again.receipts.list_events(user, nids, since, upto),
                )
            ]
            assert events_of[0] == events_of[1]
            for known in (desk, again):
                found = await known.receipts.list_rooms_since(user, nids, since, upto)
                assert set(found) == set(events_of[0])


def test_recent_receipts_are_bounded_and_never_wrong() -> None:
    dice = random.Random(11)
    recent = RecentReceipts(0, max_receipts=30, max_of_room=8)
    stored: dict[tuple[int, str, str, str], Receipt] = {}
    forgotten = 0
    answered = 0
    for stream_id in range(1, 1500):
        room_nid = dice.choice([1, 1, 1, 2, 2, *range(3, 9)])
        receipt = Receipt(room_nid, f"@{dice.randrange(12)}:x", READ, "", 0, "$e", stream_id, 0, stream_id)
        recent.add(receipt)
        stored[receipt.key] = receipt
        if dice.random() < 0.005:
            forgotten = stream_id
            recent.forget(stream_id)
        assert len(recent) <= 30
        since = max(0, stream_id - dice.choice([0, 1, 3, 10, 40]))
        upto = dice.randint(since, stream_id)
        wanted = {dice.randrange(1, 9) for _ in range(dice.choice([1, 3, 9]))}
        found = recent.list_rooms_since(wanted, since)
        if found is not None:
            answered += 1
            newest = {key[0] for key, one in stored.items() if one.stream_id > max(since, 0)}
            assert set(found) == {nid for nid in wanted if nid in newest}
            assert since >= forgotten
        for nid in wanted:
            receipts = recent.list_since(nid, since, upto)
            if receipts is not None:
                expected = [
                    one for key, one in stored.items() if key[0] == nid and since < one.stream_id <= upto
                ]
                assert receipts == sorted(expected, key=lambda one: one.stream_id)
    assert answered > 500


async def test_one_event_read_in_two_threads(
    engine: Engine, room: RoomInfo, desk: Desk, start: Callable[[], Any]
) -> None:
    """Each thread has its own receipt, though an m.receipt event has one place for a user at an event."""
    root, other = await say(engine, room), await say(engine, room)
    await say(engine, room, root.event_id)
    await say(engine, room, other.event_id)
    for event, type in ((root, READ), (other, READ), (other, READ_PRIVATE)):
        for thread in (MAIN, event.event_id):
            await desk.set(room, event, type=type, thread=thread)
    again: Desk = await start()

    async def check(expected: Told) -> None:
        for known in (desk, again):
            for since in (0, None):
                assert await known.told(room, BOB, since) == expected
                public = {one for one in expected if one[1] == READ}
                assert await known.told(room, ALICE, since) == public

    in_threads = {
        (other.event_id, type, BOB, thread)
        for type in (READ, READ_PRIVATE)
        for thread in (MAIN, other.event_id)
    }
    # The receipt of the main timeline has moved on to the second root.
    await check({(root.event_id, READ, BOB, root.event_id), *in_threads})
    # MSC4102: an unthreaded receipt says all that threaded ones at the same event say.
    await desk.set(room, other)
    for known in (desk, await start()):
        assert {one for one in await known.told(room, ALICE) if one[0] == other.event_id} == {
            (other.event_id, READ, BOB, None)
        }


async def test_reading_is_activity(engine: Engine, readers: Readers) -> None:
    room = await make_room(engine)
    event = await say(engine, room)
    states = readers.presence._states
    with readers.presence.syncing(ALICE, "PHONE", "online"):
        await readers.presence.settle()
        user = states.users[ALICE]
        clock = states._clock
        assert isinstance(clock, TurnableClock)
        for _ in range(IDLE_AFTER_MS // TICK_MS + 1):
            clock.time_ms += TICK_MS
            readers.presence.look()
        assert user.state == "unavailable"
        await readers.receipts.set(room, ALICE, READ_PRIVATE, event.event_id, None)
        assert user.state == "online"
        await readers.presence.settle()


async def test_filters_choose_rooms(engine: Engine, readers: Readers) -> None:
    rooms = [await make_room(engine) for _ in range(3)]
    client = Client(readers.sync, ALICE)
    await client.sync()

    async def ephemeral(filter: dict[str, Any]) -> set[int]:
        for one in rooms:
            event = await say(engine, one)
            await readers.receipts.set(one, ALICE, READ, event.event_id, None)
            # Until the next message.
            readers.typing.start(one.room_nid, ALICE)
        joined = (await client.sync({"room": {"ephemeral": filter}}))["rooms"]["join"]
        assert len(joined) == 3
        types = [[e["type"] for e in joined[one.room_id]["ephemeral"]["events"]] for one in rooms]
        assert all(found in ([], ["m.typing", "m.receipt"]) for found in types)
        return {n for n, found in enumerate(types) if found}

    first, second, _ = [one.room_id for one in rooms]
    assert await ephemeral({}) == {0, 1, 2}
    assert await ephemeral({"rooms": [first, second]}) == {0, 1}
    assert await ephemeral({"not_rooms": [first]}) == {1, 2}
    assert await ephemeral({"rooms": [first, second], "not_rooms": [first]}) == {1}
    assert await ephemeral({"rooms": []}) == set()
    # Nor do the others wake anybody; that one's own counts have changed does.
    event = await say(engine, rooms[2])
    await client.sync()
    readers.typing.start(rooms[2].room_nid, ALICE)
    await readers.receipts.set(rooms[2], BOB, READ, event.event_id, None)
    not_third = {"room": {"ephemeral": {"not_rooms": [rooms[2].room_id]}}}
    assert (await client.sync(not_third))["rooms"]["join"] == {}
    await readers.receipts.set(rooms[2], ALICE, READ, event.event_id, None)
    joined = (await client.sync(not_third))["rooms"]["join"]
    assert joined[rooms[2].room_id]["ephemeral"]["events"] == []
    readers.typing.close()
