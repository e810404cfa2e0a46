"""How receipts are written: in groups, in one statement; what happens when that fails."""

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from hs.engine import Engine
from hs.storage.receipts import (
    READ,
)
from hs.storage.rooms import RoomInfo
from tests.rooms.conftest import ALICE, BOB, CAROL
from tests.sync.receipt_desk import Desk, desk, room, say, start

__all__ = ["desk", "room", "start"]


async def test_older_receipts_leave_no_trace(
    engine: Engine, room: RoomInfo, desk: Desk, start: Callable[[], Any]
) -> None:
    first, second = await say(engine, room), await say(engine, room)
    await desk.set(room, second)
    after = desk.receipts.current
    for event in (first, second, first):
        await desk.set(room, event)
    # A token must never be ahead of what is stored: ids after it would be used again after a restart.
    assert desk.receipts.current == after == (await start()).receipts.current
    assert desk.woken_rooms == [room.room_nid]


async def test_receipts_that_come_together_are_committed_together(
    engine: Engine, room: RoomInfo, desk: Desk
) -> None:
    events = [await say(engine, room) for _ in range(3)]
    for event in events:
        await desk.receipts.check_event(room, event.event_id)  # known from here on
    desk.store.held = held = asyncio.Event()
    first = asyncio.create_task(desk.set(room, events[0]))
    await desk.store.entered.get()
    users = [f"@{number}:hs.test" for number in range(30)]
    rest = [asyncio.create_task(desk.set(room, event, user)) for user in users for event in reversed(events)]
    # Whoever gives up is not waited for; the receipt is written all the same.
    await asyncio.sleep(0)
    rest[0].cancel()
    assert not first.done()
    held.set()
    await first
    done = await asyncio.gather(*rest, return_exceptions=True)
    assert [type(one) for one in done] == [asyncio.CancelledError] + [type(None)] * (len(rest) - 1)
    assert [len(news.receipts) for news in desk.transactions] == [1, len(users)]
    assert await desk.told(room, ALICE, 0) == {
        (events[0].event_id, READ, BOB, None),
        *((events[2].event_id, READ, user, None) for user in users),
    }


async def test_a_lost_connection(engine: Engine, room: RoomInfo, desk: Desk) -> None:
    first, second = await say(engine, room), await say(engine, room)
    await desk.set(room, first)
    assert (await desk.positions(room)).unthreaded == first.stream_ordering
    since = desk.receipts.current
    desk.store.breaks = True
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await desk.set(room, second)
    # Perhaps it was committed: everybody looks anew, and the database is asked.
    assert desk.woken_rooms == [room.room_nid] * 2
    assert desk.transactions[-1].is_uncertain
    assert desk.receipts.current == since
    reads = desk.store.reads
    assert (await desk.positions(room)).unthreaded == first.stream_ordering
    assert await desk.told(room, ALICE, since) == set()
    assert desk.store.reads > reads
    desk.store.breaks = False
    await desk.set(room, second)
    assert await desk.told(room, ALICE, since) == {(second.event_id, READ, BOB, None)}
    assert (await desk.positions(room)).unthreaded == second.stream_ordering


async def test_a_commit_whose_answer_is_lost(engine: Engine, room: RoomInfo, desk: Desk) -> None:
    first, second = await say(engine, room), await say(engine, room)
    await desk.set(room, first)
    assert (await desk.positions(room)).unthreaded == first.stream_ordering
    since = desk.receipts.current
    desk.database.loses_answers = True
    with pytest.raises(ConnectionResetError):
        await desk.set(room, second)
    assert (await desk.positions(room)).unthreaded == second.stream_ordering
    desk.database.loses_answers = False
    # It is told with the next one at the latest.
    await desk.set(room, first, CAROL)
    assert await desk.told(room, ALICE, since) == {
        (second.event_id, READ, BOB, None),
        (first.event_id, READ, CAROL, None),
    }


async def test_all_who_wait_hear_of_a_failure_and_the_next_batch_is_written(
    engine: Engine, room: RoomInfo, desk: Desk, start: Callable[[], Any]
) -> None:
    event = await say(engine, room)
    desk.store.breaks = True
    users = [f"@{number}:hs.test" for number in range(5)]
    done = await asyncio.gather(*(desk.set(room, event, user) for user in users), return_exceptions=True)
    assert all(isinstance(one, asyncpg.PostgresError | asyncpg.InterfaceError | OSError) for one in done)
    assert [len(news.receipts) for news in desk.transactions] == [len(users)]
    desk.store.breaks = False
    # What failed is not taken for written.
    await asyncio.gather(*(desk.set(room, event, user) for user in users))
    expected = {(event.event_id, READ, user, None) for user in users}
    assert await desk.told(room, ALICE, 0) == expected
    assert await (await start()).told(room, ALICE) == expected


async def test_closing_waits_for_what_is_being_written(
    engine: Engine, room: RoomInfo, desk: Desk, start: Callable[[], Any]
) -> None:
    first, second = await say(engine, room), await say(engine, room)
    for event in (first, second):
        await desk.receipts.check_event(room, event.event_id)  # known from here on
    desk.store.held = held = asyncio.Event()
    writes = [asyncio.create_task(desk.set(room, first))]
    await desk.store.entered.get()
    writes.append(asyncio.create_task(desk.set(room, second, CAROL)))
    await asyncio.sleep(0)
    closing = asyncio.create_task(desk.receipts.close())
    await asyncio.sleep(0)
    assert not closing.done()
    held.set()
    await closing
    assert await (await start()).told(room, ALICE) == {
        (first.event_id, READ, BOB, None),
        (second.event_id, READ, CAROL, None),
    }
    await asyncio.gather(*writes)


async def test_a_receipt_is_one_round_trip(engine: Engine, room: RoomInfo, desk: Desk) -> None:
    events = [await say(engine, room) for _ in range(4)]
    await desk.set(room, events[0])
    assert desk.store.looks == 1
    # From here on it is known where Bob is: older ones are not even looked up.
    for event in (events[2], events[1], events[0], events[2], events[3]):
        await desk.set(room, event)
    assert desk.store.looks == 1
    assert [len(news.receipts) for news in desk.transactions] == [1, 1, 1]
    # After a failure nothing is known any more.
    desk.database.loses_answers = True
    last = await say(engine, room)
    with pytest.raises(ConnectionResetError):
        await desk.set(room, last)
    desk.database.loses_answers = False
    await desk.set(room, last)
    assert desk.store.looks == 2
    assert (await desk.positions(room)).unthreaded == last.stream_ordering


async def test_a_crowd_is_told_together(engine: Engine, room: RoomInfo, desk: Desk) -> None:
    event = await say(engine, room)
    desk.crowd = 150
    await desk.set(room, event)
    first = desk.receipts.current
    users = [f"@{number}:hs.test" for number in range(5)]
    for user in users:
        await desk.set(room, event, user)
        # Committed, and known to whoever counts what the user has not read.
        assert (await desk.positions(room, user)).unthreaded == event.stream_ordering
    assert desk.receipts.current == first
    assert desk.woken_rooms == [room.room_nid]
    async with asyncio.timeout(10):
        for _ in range(2):
            await desk.wakes.get()
    assert desk.receipts.current == first + len(users)
    assert await desk.told(room, ALICE, first) == {(event.event_id, READ, user, None) for user in users}
    assert desk.woken_rooms == [room.room_nid] * 2
