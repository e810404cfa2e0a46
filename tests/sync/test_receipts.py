"""Receipts without HTTP: what memory and database say, group commits, what happens when a commit fails."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import msgspec
import pytest

from hs.engine import Engine
from hs.matrix.errors import InvalidParam, NotFound
from hs.readers import Readers
from hs.rooms.drafts import Draft, SentEvent
from hs.storage.database import Database, Writer
from hs.storage.receipts import (
    MAIN,
    MAX_TOLD,
    READ,
    READ_PRIVATE,
    ReadUpTo,
    Receipt,
    ReceiptStore,
    load_receipt_stream,
)
from hs.storage.rooms import RoomInfo
from hs.sync.presence_states import IDLE_AFTER_MS, TICK_MS
from hs.sync.receipt_writer import MAX_BATCH, ReceiptNews, ReceiptWriter
from hs.sync.receipts import Receipts
from hs.sync.recent_receipts import RecentReceipts
from tests.rooms.conftest import ALICE, BOB, CAROL, TurnableClock
from tests.rooms.making import make_room, message
from tests.sync.conftest import Client

Told = set[tuple[str, str, str, str | None]]


class WatchedStore(ReceiptStore):
    """Counts reads; a write or a read of positions can be held up, or lose its connection."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.reads = 0
        # Looks at what is stored, before a write.
        self.looks = 0
        self.held: asyncio.Event | None = None
        self.entered: asyncio.Queue[None] = asyncio.Queue()
        self.breaks = False

    async def list_rooms_since(self, *args: Any) -> list[int]:
        self.reads += 1
        return await super().list_rooms_since(*args)

    async def list_receipts(self, *args: Any) -> list[Receipt]:
        self.reads += 1
        return await super().list_receipts(*args)

    async def find_read(self, *args: Any) -> ReadUpTo:
        self.reads += 1
        found = await super().find_read(*args)
        await self._hold()
        return found

    async def list_ahead(self, receipts: Any) -> list[Receipt]:
        self.looks += 1
        return await super().list_ahead(receipts)

    async def set_receipts(self, writer: Writer, receipts: Any) -> None:
        await self._hold()
        if self.breaks:
            await writer.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        await super().set_receipts(writer, receipts)

    async def _hold(self) -> None:
        if self.held is not None:
            self.entered.put_nowait(None)
            await self.held.wait()


class LossyDatabase(Database):
    """Its commits may be carried out without an answer."""

    loses_answers = False

    @asynccontextmanager
    async def write_once(self) -> AsyncIterator[Writer]:
        async with super().write_once() as writer:
            yield writer
        if self.loses_answers:
            raise ConnectionResetError("the connection was lost")


class Desk:
    """Receipts of a server, as it is running or has just been started."""

    def __init__(self, database: Database) -> None:
        self.database = LossyDatabase(database._pool)
        self.store = WatchedStore(database)
        self.woken_rooms: list[int] = []
        self.woken_users: list[str] = []
        self.read: list[tuple[str, int]] = []
        self.transactions: list[ReceiptNews] = []
        self.crowd = 0
        self.wakes: asyncio.Queue[int] = asyncio.Queue()
        self.receipts: Receipts

    async def start(self) -> "Desk":
        stream = await load_receipt_stream(self.database)
        writer = ReceiptWriter(self.database, self.store, stream)
        writer.on_receipts(self.transactions.append)
        self.receipts = Receipts(
            self.store,
            writer,
            stream,
            TurnableClock(),
            self._wake_room,
            self.woken_users.append,
            lambda room_nid: self.crowd,
        )
        self.receipts.on_read(lambda user_id, room_nid: self.read.append((user_id, room_nid)))
        return self

    def _wake_room(self, room_nid: int) -> None:
        self.woken_rooms.append(room_nid)
        self.wakes.put_nowait(room_nid)

    async def set(
        self,
        room: RoomInfo,
        event: SentEvent,
        user_id: str = BOB,
        type: str = READ,
        thread: str | None = None,
    ) -> None:
        await self.receipts.set(room, user_id, type, event.event_id, thread)

    async def told(
        self, room: RoomInfo, user_id: str, since: int | None = None, upto: int | None = None
    ) -> Told:
        """What a sync tells of the room; whether it is looked at must agree with that."""
        upto = self.receipts.current if upto is None else upto
        events = await self.receipts.list_events(user_id, [room.room_nid], since, upto)
        if since is not None:
            rooms = await self.receipts.list_rooms_since(user_id, [room.room_nid], since, upto)
            assert set(events) <= set(rooms)
        return parse(events.get(room.room_nid))

    async def positions(self, room: RoomInfo, user_id: str = BOB) -> ReadUpTo:
        return (await self.receipts.read_positions(user_id, [room.room_nid]))[room.room_nid]


def parse(event: bytes | None) -> Told:
    """(event id, type, user, thread) of m.receipt events; each is told once."""
    if event is None:
        return set()
    decoded = msgspec.json.decode(b"[%b]" % event)
    found = [one for each in decoded for one in parse_one(each)]
    assert len(set(found)) == len(found)
    return set(found)


def parse_one(event: Any) -> Told:
    assert event["type"] == "m.receipt"
    assert event["content"]
    return {
        (event_id, type, user_id, entry.get("thread_id"))
        for event_id, types in event["content"].items()
        for type, users in types.items()
        for user_id, entry in users.items()
    }


@pytest.fixture
async def start(database: Database) -> AsyncIterator[Callable[[], Any]]:
    """Starts a server's receipts on the database."""
    desks: list[Desk] = []

    async def start() -> Desk:
        desk = await Desk(database).start()
        desks.append(desk)
        return desk

    yield start
    for desk in desks:
        await desk.receipts.close()


@pytest.fixture
async def desk(start: Callable[[], Any]) -> Desk:
    """Receipts; there are none yet."""
    made: Desk = await start()
    return made


@pytest.fixture
async def room(engine: Engine) -> RoomInfo:
    """Alice's room."""
    return await make_room(engine)


async def say(engine: Engine, room: RoomInfo, root: str | None = None) -> SentEvent:
    draft = message()
    if root is not None:
        relation = {"rel_type": "m.thread", "event_id": root}
        draft = Draft("m.room.message", ALICE, {**draft.content, "m.relates_to": relation})
    return await engine.writer.send(room, draft)


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
        for room in rooms:
            event = await say(engine, room)
            await readers.receipts.set(room, ALICE, READ, event.event_id, None)
        joined = (await client.sync({"room": {"ephemeral": filter}}))["rooms"]["join"]
        assert len(joined) == 3
        return {n for n, room in enumerate(rooms) if joined[room.room_id]["ephemeral"]["events"]}

    first, second, _ = [room.room_id for room in rooms]
    assert await ephemeral({}) == {0, 1, 2}
    assert await ephemeral({"rooms": [first, second]}) == {0, 1}
    assert await ephemeral({"not_rooms": [first]}) == {1, 2}
    assert await ephemeral({"rooms": [first, second], "not_rooms": [first]}) == {1}
    assert await ephemeral({"rooms": []}) == set()
