"""What relates to what is known without asking, and never out of date."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from hs._fast.event_record import EventRecord
from hs.engine import Engine
from hs.rooms.create import CreateRoom
from hs.rooms.drafts import Draft, Transaction
from hs.storage.database import Database
from hs.storage.relations import Parent, RelationStore, Summary
from hs.storage.rooms import RoomInfo
from hs.sync.relation_summaries import RelationSummaries
from tests.rooms.conftest import ALICE


class CountingStore(RelationStore):
    """Counts its queries, and lets something happen between a read and its answer."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.asked: list[int] = []
        self.asked_rooms = 0
        self.is_read = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.room_is_read = asyncio.Event()
        self.may_answer_rooms = asyncio.Event()
        self.may_answer_rooms.set()

    async def list_summaries(self, parents: Sequence[Parent], *arguments: Any) -> list[Summary | None]:
        self.asked.append(len(parents))
        found = await super().list_summaries(parents, *arguments)
        self.is_read.set()
        await self.may_answer.wait()
        return found

    async def list_parents(self, room_nids: Sequence[int], limit: int) -> dict[int, set[str]]:
        self.asked_rooms += len(room_nids)
        found = await super().list_parents(room_nids, limit)
        self.room_is_read.set()
        await self.may_answer_rooms.wait()
        return found


class Reader:
    """Summaries of one room's events."""

    def __init__(self, engine: Engine, store: CountingStore) -> None:
        self.engine = engine
        self.store = store
        self.summaries = RelationSummaries(store)
        engine.committer.on_commit(self.summaries.on_commit)
        engine.events.on_written(self.summaries.on_written)
        self._count = 0
        self.room: RoomInfo

    async def say(self, *, from_device: bool = True, **content: Any) -> str:
        """The id of a message."""
        self._count += 1
        transaction = Transaction("DEVICE", "send", f"{self._count}") if from_device else None
        draft = Draft("m.room.message", ALICE, {"body": "x", **content}, transaction=transaction)
        return (await self.engine.writer.send(self.room, draft)).event_id

    async def refer(self, event_id: str) -> str:
        """The id of a reference."""
        return await self.say(**{"m.relates_to": {"rel_type": "m.reference", "event_id": event_id}})

    async def redact(self, event_id: str) -> None:
        """Redact an event."""
        await self.engine.writer.send(self.room, Draft("m.room.redaction", ALICE, {}, redacts=event_id))

    async def records(self, *event_ids: str) -> list[EventRecord]:
        """The events."""
        nids = await self.engine.events.find_nids(self.room.room_nid, event_ids)
        found = await self.engine.events.get_many(list(nids.values()))
        return [found[nids[event_id]] for event_id in event_ids]

    async def references(self, *event_ids: str) -> list[tuple[str, ...]]:
        """What refers to each of the events."""
        records = await self.records(*event_ids)
        found = await self.summaries.get_many(records)
        return [found.get(record.event_nid, Summary()).references for record in records]


@pytest.fixture
async def reader(engine: Engine, database: Database) -> Reader:
    """Summaries of a new room."""
    made = Reader(engine, CountingStore(database))
    made.room = await engine.rooms.get(await engine.creator.create(ALICE, CreateRoom()))
    return made


async def test_fresh_events_are_known_to_have_none(reader: Reader) -> None:
    events = [await reader.say() for _ in range(5)]
    assert await reader.references(*events) == [()] * 5
    assert reader.store.asked == []


async def test_a_room_without_relations_is_asked_about_once(reader: Reader) -> None:
    events = [await reader.say(from_device=False) for _ in range(5)]
    again = [await reader.say(from_device=False)]
    assert await asyncio.gather(reader.references(*events), reader.references(*again)) == [[()] * 5, [()]]
    assert reader.store.asked_rooms == 1
    assert await reader.references(*events, *again) == [()] * 6
    assert (reader.store.asked_rooms, reader.store.asked) == (1, [])


async def test_only_events_with_relations_are_asked_for_once_and_together(reader: Reader) -> None:
    events = [await reader.say(from_device=False) for _ in range(5)]
    children = [await reader.refer(event) for event in events[:2]]
    assert await asyncio.gather(reader.references(*events[:2]), reader.references(*events[1:])) == [
        [(child,) for child in children],
        [(children[1],), (), (), ()],
    ]
    assert reader.store.asked == [3]
    assert await reader.references(*events) == [*((child,) for child in children), (), (), ()]
    assert reader.store.asked == [3]


async def test_rooms_with_many_relations_are_asked_about_event_by_event(reader: Reader) -> None:
    events = [await reader.say(from_device=False) for _ in range(3)]
    await reader.references(*events)
    children = [await reader.refer(f"${number}") for number in range(200)]
    assert await reader.references(*events) == [()] * 3
    assert reader.store.asked == []
    child = await reader.refer(events[0])
    assert await reader.references(*events) == [(child,), (), ()]
    assert reader.store.asked == [3]
    # Read anew, it is the same.
    await reader.redact(children[0])
    other = await reader.refer("$201")
    assert await reader.references(*events, other) == [(child,), (), (), ()]
    assert (reader.store.asked_rooms, len(reader.store.asked)) == (2, 2)


async def test_a_new_relation_and_its_redaction_are_heard_of(reader: Reader) -> None:
    event = await reader.say()
    assert await reader.references(event) == [()]
    child = await reader.refer(event)
    assert await reader.references(event, child) == [(child,), ()]
    assert reader.store.asked == [1]
    await reader.redact(child)
    assert await reader.references(event) == [()]


async def test_what_changes_while_it_is_read_is_read_again(reader: Reader) -> None:
    event = await reader.say(from_device=False)
    first = await reader.refer(event)
    reader.store.may_answer.clear()
    early = asyncio.create_task(reader.references(event))
    await reader.store.is_read.wait()
    second = await reader.refer(event)
    reader.store.may_answer.set()
    assert await early == [(first,)]
    [found] = await reader.references(event)
    assert set(found) == {first, second}


async def test_the_first_relation_of_a_room_is_not_missed_while_it_is_read(reader: Reader) -> None:
    event = await reader.say(from_device=False)
    reader.store.may_answer_rooms.clear()
    early = asyncio.create_task(reader.references(event))
    await reader.store.room_is_read.wait()
    child = await reader.refer(event)
    reader.store.may_answer_rooms.set()
    assert await early == [(child,)]
    assert await reader.references(event) == [(child,)]


async def test_a_redaction_while_it_is_read_is_not_missed(reader: Reader) -> None:
    event = await reader.say(from_device=False)
    child = await reader.refer(event)
    reader.store.may_answer.clear()
    early = asyncio.create_task(reader.references(event))
    await reader.store.is_read.wait()
    await reader.redact(child)
    reader.store.may_answer.set()
    assert await early == [(child,)]
    assert await reader.references(event) == [()]


async def test_a_room_takes_a_bounded_place(reader: Reader) -> None:
    event = await reader.say(from_device=False)
    child = await reader.refer(event)
    assert await reader.references(event) == [(child,)]
    for _ in range(200):
        await reader.say()
    assert reader.store.asked == [1]
    assert await reader.references(event) == [(child,)]
    assert reader.store.asked == [1, 1]
