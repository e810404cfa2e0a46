"""Receipts without HTTP, for tests: a store to be watched, commits that fail."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from hs.engine import Engine
from hs.rooms.drafts import Draft, SentEvent
from hs.storage.database import Database, Writer
from hs.storage.receipts import (
    READ,
    ReadUpTo,
    Receipt,
    ReceiptStore,
    load_receipt_stream,
)
from hs.storage.rooms import RoomInfo
from hs.sync.receipt_writer import ReceiptNews, ReceiptWriter
from hs.sync.receipts import Receipts
from tests.rooms.conftest import ALICE, BOB, TurnableClock
from tests.rooms.making import make_room, message

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
