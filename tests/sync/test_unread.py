"""Unread counts: from the database and brought up to date in memory, which must agree."""

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from hs.engine import Engine
from hs.matrix.push_rules import RuleBody, delete_rule, put_rule
from hs.rooms.drafts import Committed, Draft, SentEvent
from hs.storage.database import Database, Writer
from hs.storage.notifications import NotificationStore, ReadMark
from hs.storage.rooms import RoomInfo
from hs.storage.streams import StreamIds
from hs.storage.user_data import AccountDataStore
from hs.sync import judged_events, unread
from hs.sync.unread import NOTHING_UNREAD, RoomUnread, UnreadCounts
from tests.rooms.conftest import ALICE, BOB, CAROL
from tests.rooms.making import make_room, message, redaction, topic

BOB_IS_CALLED: dict[str, Any] = {"m.mentions": {"user_ids": [BOB]}}


@dataclass(frozen=True)
class Positions:
    """How far somebody has read."""

    unthreaded: int = 0
    by_thread: Mapping[int, int] = field(default_factory=dict)


class Marks:
    """What was read, as a test says."""

    def __init__(self) -> None:
        self.positions: dict[tuple[str, int], Positions] = {}

    async def read_positions(self, user_id: str, room_nids: Collection[int]) -> dict[int, Positions]:
        """As Receipts answers."""
        return {nid: self.positions[user_id, nid] for nid in room_nids if (user_id, nid) in self.positions}

    def read(self, room: RoomInfo, sent: SentEvent, thread: int | None = None, user_id: str = BOB) -> None:
        """The user has seen the event."""
        known = self.positions.get((user_id, room.room_nid), Positions())
        if thread is None:
            known = replace(known, unthreaded=sent.stream_ordering)
        else:
            known = replace(known, by_thread={**known.by_thread, thread: sent.stream_ordering})
        self.positions[user_id, room.room_nid] = known


class CountingStore(NotificationStore):
    """Knows how often it was asked."""

    asked = 0

    async def count_unread(self, requests: Any) -> Any:
        """The counts."""
        self.asked += 1
        return await super().count_unread(requests)


class Reader:
    """Counts as a running server has them, and as one does that has just been started."""

    def __init__(self, engine: Engine, database: Database) -> None:
        self.store = CountingStore(database)
        self.marks = Marks()
        self.engine = engine
        self.counts = self.make()
        engine.committer.on_commit(self.counts.on_commit)

    def make(self) -> UnreadCounts:
        """Counts without any memory."""
        return UnreadCounts(self.store, self.marks, lambda: self.engine.stream.current)

    async def get(self, room: RoomInfo, user_id: str = BOB) -> RoomUnread:
        """What the user has not read."""
        remembered = (await self.counts.get_many(user_id, [room.room_nid]))[room.room_nid]
        anew = (await self.make().get_many(user_id, [room.room_nid]))[room.room_nid]
        assert remembered == anew
        return remembered

    async def get_silently(self, room: RoomInfo, user_id: str = BOB) -> RoomUnread:
        """The same, without a query."""
        before = self.store.asked
        found = (await self.counts.get_many(user_id, [room.room_nid]))[room.room_nid]
        assert self.store.asked == before
        return found


@pytest.fixture
def reader(engine: Engine, database: Database) -> Reader:
    """Counts that hear of the engine's commits."""
    return Reader(engine, database)


@pytest.fixture
def rules(engine: Engine, database: Database) -> AccountDataStore:
    """Push rules whose changes the engine hears of."""
    store = AccountDataStore(database, StreamIds(0), lambda user_id, stream_id: None)
    store.on_rules(engine.judge.on_rules)
    return store


@pytest.fixture
async def room(engine: Engine) -> RoomInfo:
    """A room of Alice's with Bob in it."""
    room = await make_room(engine, preset="public_chat")
    await engine.writer.send(room, message())
    await engine.memberships.join(room, BOB)
    return room


def call(sender: str = ALICE) -> Draft:
    """A message that mentions Bob."""
    return Draft("m.room.message", sender, {"msgtype": "m.text", "body": "Bob!", **BOB_IS_CALLED})


def reply(root: SentEvent, sender: str = ALICE, **content: Any) -> Draft:
    """A message in a thread."""
    relation = {"rel_type": "m.thread", "event_id": root.event_id}
    content |= {"msgtype": "m.text", "body": "reply", "m.relates_to": relation}
    return Draft("m.room.message", sender, content)


async def test_what_was_said_since_the_join_is_unread(engine: Engine, room: RoomInfo, reader: Reader) -> None:
    assert await reader.get(room) == NOTHING_UNREAD
    await engine.writer.send(room, message())
    await engine.writer.send(room, call())
    await engine.writer.send(room, topic("no news"))
    assert await reader.get(room) == RoomUnread(2, 1)
    assert await reader.get(room, ALICE) == NOTHING_UNREAD


async def test_a_new_name_does_not_read_anything(engine: Engine, room: RoomInfo, reader: Reader) -> None:
    await engine.writer.send(room, message())
    content = {"membership": "join", "displayname": "Robert"}
    await engine.writer.send(room, Draft("m.room.member", BOB, content, state_key=BOB))
    assert await reader.get(room) == RoomUnread(1, 0)


async def test_who_comes_back_counts_from_there(engine: Engine, room: RoomInfo, reader: Reader) -> None:
    first = await engine.writer.send(room, call())
    reader.marks.read(room, first)
    await engine.writer.send(room, call())
    assert await reader.get(room) == RoomUnread(1, 1)
    await engine.memberships.leave(room, BOB)
    await engine.writer.send(room, call())
    await engine.memberships.join(room, BOB)
    assert await reader.get(room) == NOTHING_UNREAD
    await engine.writer.send(room, message())
    assert await reader.get(room) == RoomUnread(1, 0)


async def test_a_receipt_reads_up_to_its_event(engine: Engine, room: RoomInfo, reader: Reader) -> None:
    sent = [await engine.writer.send(room, call()) for _ in range(4)]
    assert await reader.get(room) == RoomUnread(4, 4)
    reader.marks.read(room, sent[1])
    assert await reader.get(room) == RoomUnread(2, 2)
    reader.marks.read(room, sent[3])
    assert await reader.get(room) == NOTHING_UNREAD


async def test_writing_reads_what_came_before_in_that_thread(
    engine: Engine, room: RoomInfo, reader: Reader
) -> None:
    root = await engine.writer.send(room, message())
    await engine.writer.send(room, reply(root))
    await engine.writer.send(room, reply(root, BOB))
    assert await reader.get(room) == RoomUnread(1, 0)
    await engine.writer.send(room, reply(root))
    await engine.writer.send(room, message(BOB))
    assert await reader.get(room) == RoomUnread(0, 0, {root.event_id: (1, 0)})
    await engine.writer.send(room, message())
    await engine.writer.send(room, Draft("m.reaction", BOB, {}))
    assert await reader.get(room) == RoomUnread(0, 0, {root.event_id: (1, 0)})


async def test_threads_are_counted_and_read_on_their_own(
    engine: Engine, room: RoomInfo, reader: Reader
) -> None:
    roots = [await engine.writer.send(room, message()) for _ in range(2)]
    replies = [await engine.writer.send(room, reply(root)) for root in roots]
    last = await engine.writer.send(room, reply(roots[1], **BOB_IS_CALLED))
    threads = {roots[0].event_id: (1, 0), roots[1].event_id: (2, 1)}
    assert await reader.get(room) == RoomUnread(2, 0, threads)
    assert (await reader.get(room)).total == (5, 1)
    reader.marks.read(room, last, 0)
    assert await reader.get(room) == RoomUnread(0, 0, threads)
    reader.marks.read(room, replies[1], roots[1].event_nid)
    assert await reader.get(room) == RoomUnread(0, 0, threads | {roots[1].event_id: (1, 1)})
    # Without a thread: everything up to there.
    reader.marks.read(room, replies[0])
    assert await reader.get(room) == RoomUnread(0, 0, {roots[1].event_id: (1, 1)})
    reader.marks.read(room, last)
    assert await reader.get(room) == NOTHING_UNREAD


async def test_a_muted_room_counts_only_mentions_while_it_is_muted(
    engine: Engine, room: RoomInfo, reader: Reader, rules: AccountDataStore
) -> None:
    await engine.writer.send(room, message())
    assert await reader.get(room) == RoomUnread(1, 0)
    await rules.change_push_rules(BOB, lambda r: put_rule(r, "room", room.room_id, RuleBody([])))
    await engine.writer.send(room, message())
    await engine.writer.send(room, call())
    assert await reader.get(room) == RoomUnread(2, 1)
    await rules.change_push_rules(BOB, lambda r: delete_rule(r, "room", room.room_id))
    await engine.writer.send(room, message())
    assert await reader.get(room) == RoomUnread(3, 1)


async def test_a_keyword_counts_as_highlight_and_a_notice_may_count(
    engine: Engine, room: RoomInfo, reader: Reader, rules: AccountDataStore
) -> None:
    body = RuleBody(["notify", {"set_tweak": "highlight"}], pattern="cake")
    await rules.change_push_rules(BOB, lambda r: put_rule(r, "content", "cake", body))
    await engine.writer.send(room, message(body="cake"))
    await engine.writer.send(room, message(body="bread"))
    notices = RuleBody(["notify"], [{"kind": "event_match", "key": "content.msgtype", "pattern": "m.notice"}])
    await rules.change_push_rules(BOB, lambda r: put_rule(r, "override", "notices", notices))
    await engine.writer.send(room, Draft("m.room.message", ALICE, {"msgtype": "m.notice", "body": "beep"}))
    assert await reader.get(room) == RoomUnread(3, 1)


async def test_what_is_redacted_is_not_unread(engine: Engine, room: RoomInfo, reader: Reader) -> None:
    sent = [await engine.writer.send(room, call()) for _ in range(3)]
    assert await reader.get(room) == RoomUnread(3, 3)
    await engine.writer.send(room, redaction(sent[1].event_id))
    assert await reader.get(room) == RoomUnread(2, 2)
    # What was said and redacted since the last look.
    last = await engine.writer.send(room, call())
    await engine.writer.send(room, redaction(last.event_id))
    assert await reader.get(room) == RoomUnread(2, 2)


async def test_a_busy_room_asks_the_database_nothing(engine: Engine, room: RoomInfo, reader: Reader) -> None:
    assert await reader.get(room) == NOTHING_UNREAD
    for number in range(1, 6):
        sent = await engine.writer.send(room, message())
        assert await reader.get_silently(room) == RoomUnread(number, 0)
    reader.marks.read(room, sent)
    assert await reader.get_silently(room) == NOTHING_UNREAD
    root = await engine.writer.send(room, message())
    await engine.writer.send(room, reply(root))
    assert await reader.get_silently(room) == RoomUnread(1, 0, {root.event_id: (1, 0)})
    reader.marks.read(room, root, 0)
    assert await reader.get_silently(room) == RoomUnread(0, 0, {root.event_id: (1, 0)})
    # Redactions of what nobody counts cost nothing either.
    await engine.writer.send(room, message(BOB))
    reader.marks.read(room, await engine.writer.send(room, message()))
    await engine.writer.send(room, redaction(sent.event_id))
    assert await reader.get_silently(room) == NOTHING_UNREAD


async def test_more_than_is_remembered_is_asked_for(
    engine: Engine, room: RoomInfo, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judged_events, "_EVENTS", 5)
    monkeypatch.setattr(judged_events, "_ROOMS", 1)
    sent = [await engine.writer.send(room, message()) for _ in range(3)]
    assert await reader.get(room) == RoomUnread(3, 0)
    sent += [await engine.writer.send(room, message()) for _ in range(7)]
    assert await reader.get(room) == RoomUnread(10, 0)
    reader.marks.read(room, sent[2])
    assert await reader.get(room) == RoomUnread(7, 0)
    await engine.writer.send(room, message())
    await make_room(engine)
    assert await reader.get(room) == RoomUnread(8, 0)


async def test_a_commit_in_doubt_is_looked_up(engine: Engine, room: RoomInfo, reader: Reader) -> None:
    async def refuse(writer: Writer, room: RoomInfo) -> None:
        raise RuntimeError("no")

    heard: list[Committed] = []
    engine.committer.on_commit(heard.append)
    assert await reader.get(room) == NOTHING_UNREAD
    with pytest.raises(RuntimeError):
        await engine.writer.send(room, message(), refuse)
    assert heard[-1].is_uncertain
    await engine.writer.send(room, message())
    asked = reader.store.asked
    assert await reader.get(room) == RoomUnread(1, 0)
    assert reader.store.asked == asked + 2


async def test_many_rooms_are_one_query(engine: Engine, reader: Reader) -> None:
    rooms = [await make_room(engine, preset="public_chat") for _ in range(5)]
    for number, room in enumerate(rooms):
        await engine.memberships.join(room, BOB)
        for _ in range(number):
            await engine.writer.send(room, message())
    found = await reader.counts.get_many(BOB, [room.room_nid for room in rooms])
    assert [found[room.room_nid].notify for room in rooms] == [0, 1, 2, 3, 4]
    assert reader.store.asked == 1


async def test_read_exceptions_are_deleted(
    engine: Engine, database: Database, room: RoomInfo, rules: AccountDataStore
) -> None:
    store = NotificationStore(database)
    await rules.change_push_rules(BOB, lambda r: put_rule(r, "sender", ALICE, RuleBody([])))
    await rules.change_push_rules(BOB, lambda r: put_rule(r, "content", "x", RuleBody([], pattern="x")))
    await rules.change_push_rules(BOB, lambda r: delete_rule(r, "sender", ALICE))
    first = await engine.writer.send(room, call())
    second = await engine.writer.send(room, message(body="x"))
    third = await engine.writer.send(room, message(body="x"))

    async def left() -> list[int]:
        rows = await database.fetch("SELECT stream_ordering FROM push_exceptions ORDER BY stream_ordering")
        return [row["stream_ordering"] for row in rows]

    assert await left() == [first.stream_ordering, second.stream_ordering, third.stream_ordering]
    await store.delete_read([ReadMark(BOB, room.room_nid, second.stream_ordering, 0)], 0)
    assert await left() == [first.stream_ordering, third.stream_ordering]
    marks = [ReadMark(BOB, room.room_nid, 0, third.stream_ordering)]
    await store.delete_read(marks, first.stream_ordering)
    assert await left() == []


async def test_reading_leads_to_deletion_now_and_then(
    engine: Engine,
    database: Database,
    room: RoomInfo,
    reader: Reader,
    rules: AccountDataStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unread, "_READS_PER_CLEANING", 1)
    await rules.change_push_rules(BOB, lambda r: put_rule(r, "content", "x", RuleBody([], pattern="x")))
    sent = await engine.writer.send(room, message(body="x"))
    assert await database.fetch("SELECT FROM push_exceptions")
    reader.marks.read(room, sent)
    assert await reader.counts.get_many(BOB, [room.room_nid]) == {room.room_nid: NOTHING_UNREAD}
    await reader.counts.close()
    assert not await database.fetch("SELECT FROM push_exceptions")


@pytest.mark.parametrize("seed", range(6))
async def test_memory_and_database_agree_whatever_happens(
    engine: Engine,
    room: RoomInfo,
    reader: Reader,
    rules: AccountDataStore,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(judged_events, "_EVENTS", 20)
    chance = random.Random(seed)
    await engine.memberships.join(room, CAROL)
    roots = [await engine.writer.send(room, message()) for _ in range(3)]
    sent = list(roots)
    users = [ALICE, BOB, CAROL]

    async def step() -> None:
        sender, kind = chance.choice(users), chance.random()
        if kind < 0.3:
            sent.append(await engine.writer.send(room, chance.choice([message(sender), call(sender)])))
        elif kind < 0.5:
            content = chance.choice([{}, BOB_IS_CALLED])
            sent.append(await engine.writer.send(room, reply(chance.choice(roots), sender, **content)))
        elif kind < 0.55:
            relation = {"rel_type": "m.annotation", "event_id": chance.choice(sent).event_id}
            await engine.writer.send(room, Draft("m.reaction", sender, {"m.relates_to": relation}))
        elif kind < 0.6:
            await engine.writer.send(room, redaction(chance.choice(sent).event_id))
        elif kind < 0.8:
            _advance(reader.marks, room, chance, sent, roots, chance.choice([BOB, CAROL]))
        elif kind < 0.85:
            await rules.change_push_rules(BOB, lambda r: put_rule(r, "room", room.room_id, RuleBody([])))
        elif kind < 0.9:
            await rules.change_push_rules(
                BOB, lambda r: delete_rule(r, "room", room.room_id) if r.room else r
            )
        elif sender == CAROL:
            await engine.memberships.leave(room, CAROL)
            await engine.memberships.join(room, CAROL)

    for _ in range(120):
        await step()
        if chance.random() < 0.5:
            for user_id in (BOB, CAROL):
                await reader.get(room, user_id)


def _advance(
    marks: Marks,
    room: RoomInfo,
    chance: random.Random,
    sent: list[SentEvent],
    roots: list[SentEvent],
    user_id: str,
) -> None:
    """A receipt that is ahead of the one before, as Receipts makes sure of."""
    known = marks.positions.get((user_id, room.room_nid), Positions())
    thread = chance.choice([None, 0, *(root.event_nid for root in roots)])
    at = chance.choice(sent)
    before = known.unthreaded if thread is None else known.by_thread.get(thread, 0)
    if at.stream_ordering > before:
        marks.read(room, at, thread, user_id)
