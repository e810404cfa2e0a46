"""One commit for several jobs: each job's outcome is its own, whatever becomes of the others."""

import asyncio
from typing import Any

import asyncpg
import pytest

from hs.engine import Engine
from hs.matrix.errors import Forbidden, InvalidParam
from hs.rooms.build import Signer
from hs.rooms.create import CreateRoom
from hs.rooms.drafts import Committed, Draft, SentEvent
from hs.storage.database import Database, Writer
from hs.storage.room_heads import HeadStore
from hs.storage.room_writes import MemberRow, RoomBatch, StateDelta, insert_batch
from hs.storage.rooms import RoomInfo
from tests.rooms.conftest import ALICE, BOB, make_engine
from tests.rooms.making import make_room, message, state_content, topic


class Trap(dict[str, Any]):
    """Content that a bug of ours stumbles over."""

    def get(self, *_: object) -> Any:
        raise KeyError("a bug")


async def refuse(*_: object) -> None:
    raise InvalidParam("no")


async def test_a_refused_job_that_numbered_new_keys_leaves_the_numbers_to_the_next(
    engine: Engine, database: Database, signer: Signer
) -> None:
    room = await make_room(engine)

    def keyed(name: str) -> Draft:
        return Draft("org.test", ALICE, {"name": name}, state_key=name)

    jobs = [[keyed("a")], [keyed("b"), keyed("c"), message(BOB)], [keyed("d")], [keyed("b")]]
    first, refused, third, fourth = await asyncio.gather(
        *(engine.writer.send_all(room, job) for job in jobs), return_exceptions=True
    )
    assert isinstance(refused, Forbidden)
    assert not any(isinstance(outcome, BaseException) for outcome in (first, third, fourth))
    for each in (engine, await make_engine(database, signer)):
        for name in "abd":
            assert await state_content(each, room, "org.test", name) == {"name": name}
        assert await state_content(each, room, "org.test", "c") is None
    numbers = await database.fetch("SELECT key_ix FROM state_keys ORDER BY key_ix")
    assert [row["key_ix"] for row in numbers] == list(range(len(numbers)))


async def test_what_was_refused_because_of_a_job_that_failed_is_judged_again(engine: Engine) -> None:
    room = await make_room(engine, preset="public_chat")
    await engine.memberships.join(room, BOB)
    ban = Draft("m.room.member", ALICE, {"membership": "ban"}, state_key=BOB)
    banned, said = await asyncio.gather(
        engine.writer.send(room, ban, on_write=refuse),
        engine.writer.send(room, message(BOB)),
        return_exceptions=True,
    )
    assert isinstance(banned, InvalidParam)
    # Told that it is in the room or that it is not: never the one while the other is true.
    assert isinstance(said, SentEvent)
    assert (await engine.events.get(said.event_nid)).sender == BOB


async def test_a_refused_job_is_not_sent_after_all_when_the_commit_is_tried_again(
    engine: Engine, database: Database
) -> None:
    room = await make_room(engine, preset="public_chat")
    await engine.memberships.join(room, BOB)
    ban = Draft("m.room.member", ALICE, {"membership": "ban"}, state_key=BOB)
    outcomes = await asyncio.gather(
        engine.writer.send(room, ban, on_write=refuse),
        engine.writer.send(room, message(BOB, "told no")),
        engine.writer.send(room, message(ALICE)),
        return_exceptions=True,
    )
    stored = await database.fetchval(
        "SELECT count(*) FROM events WHERE sender = $1 AND state_key IS NULL", BOB
    )
    assert stored == sum(isinstance(outcome, SentEvent) for outcome in outcomes[1:2])


async def test_a_job_that_breaks_while_it_is_built_fails_alone(engine: Engine) -> None:
    room = await make_room(engine)
    broken = Draft("m.room.redaction", ALICE, Trap())
    good, bad, fine = await asyncio.gather(
        *(engine.writer.send(room, draft) for draft in (message(), broken, message())),
        return_exceptions=True,
    )
    assert isinstance(good, SentEvent)
    assert isinstance(fine, SentEvent)
    assert isinstance(bad, KeyError)


@pytest.mark.parametrize("bad", ["\x00", "\ud800"])
async def test_text_that_the_database_cannot_hold_is_the_clients_error(engine: Engine, bad: str) -> None:
    room = await make_room(engine)
    drafts = [
        Draft(f"org.{bad}", ALICE, {}),
        Draft("org.test", ALICE, {}, state_key=bad),
        Draft("m.room.redaction", ALICE, {}, redacts=f"${bad}"),
        message(txn_id=bad),
    ]
    for draft in drafts:
        with pytest.raises(InvalidParam):
            await engine.writer.send(room, draft)


async def test_one_bit_of_state_is_not_the_number_one(engine: Engine) -> None:
    room = await make_room(engine)
    for value in (1, True, 0, False):
        await engine.writer.send(room, Draft("org.test", ALICE, {"on": value}, state_key=""))
        content = await state_content(engine, room, "org.test")
        assert content is not None
        assert content["on"] is value


async def test_a_listener_that_breaks_keeps_no_sender_waiting(engine: Engine) -> None:
    room = await make_room(engine)
    heard: list[Committed] = []

    def break_down(_: Committed) -> None:
        raise ValueError("a bug of the listener")

    engine.committer.on_commit(break_down)
    engine.committer.on_commit(heard.append)
    async with asyncio.timeout(5):
        await engine.writer.send(room, message())
    assert len(heard) == 1


async def test_a_last_act_without_news_uses_no_place_in_the_stream(
    engine: Engine, database: Database, signer: Signer
) -> None:
    room = await make_room(engine)
    done = await engine.writer.send(room, topic("t"))
    acts: list[RoomInfo] = []

    async def act(_: Writer, room: RoomInfo) -> None:
        acts.append(room)

    assert await engine.writer.send(room, topic("t"), on_write=act) == done
    assert acts == [room]
    # A token beyond the last event would hide the event that gets that place after a restart.
    assert engine.stream.current == (await make_engine(database, signer)).stream.current


async def test_a_caller_that_goes_away_during_the_commit_has_sent_its_event(
    engine: Engine, database: Database
) -> None:
    room = await make_room(engine)
    writing, going_on = asyncio.Event(), asyncio.Event()

    async def pause(*_: object) -> None:
        writing.set()
        await going_on.wait()

    sender = asyncio.create_task(engine.writer.send(room, message(body="late", txn_id="1"), on_write=pause))
    await writing.wait()
    queued = asyncio.create_task(engine.writer.send(room, message(body="never")))
    await asyncio.sleep(0)
    sender.cancel()
    queued.cancel()
    await asyncio.gather(sender, queued, return_exceptions=True)
    going_on.set()
    again = await engine.writer.send(room, message(body="late", txn_id="1"))
    assert (await engine.events.get(again.event_nid)).content["body"] == "late"
    assert await database.fetchval("SELECT count(*) FROM events WHERE type = 'm.room.message'") == 1


async def test_a_queue_that_grows_while_its_worker_commits_is_worked_off_in_order(
    engine: Engine, database: Database
) -> None:
    room = await make_room(engine)
    writing, going_on = asyncio.Event(), asyncio.Event()

    async def pause(*_: object) -> None:
        writing.set()
        await going_on.wait()

    jobs = [asyncio.create_task(engine.writer.send(room, message(body="0"), on_write=pause))]
    await writing.wait()
    jobs += [asyncio.create_task(engine.writer.send(room, message(body=str(i)))) for i in range(1, 251)]
    await asyncio.sleep(0)
    going_on.set()
    closing = asyncio.create_task(engine.writer.close())
    sent = await asyncio.gather(*jobs)
    await closing
    streams = [each.stream_ordering for each in sent]
    assert streams == list(range(streams[0], streams[0] + 251))
    assert await database.fetchval("SELECT count(*) FROM events WHERE type = 'm.room.message'") == 251


async def test_closing_waits_for_rooms_that_are_being_made(engine: Engine, database: Database) -> None:
    writing, going_on = asyncio.Event(), asyncio.Event()

    async def pause(*_: object) -> None:
        writing.set()
        await going_on.wait()

    maker = asyncio.create_task(engine.creator.create(ALICE, CreateRoom(), on_write=pause))
    await writing.wait()
    maker.cancel()
    await asyncio.gather(maker, return_exceptions=True)
    closing = asyncio.create_task(engine.writer.close())
    await asyncio.sleep(0)
    assert not closing.done()
    going_on.set()
    await closing
    assert await database.fetchval("SELECT count(*) FROM rooms") == 1


async def test_a_connection_lost_while_a_room_is_made_leaves_nothing_of_it(
    engine: Engine, database: Database
) -> None:
    async def cut(writer: Writer, _: RoomInfo) -> None:
        await writer.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await engine.creator.create(ALICE, CreateRoom(name="lost"), on_write=cut)
    for table in ("rooms", "events", "state_nodes", "memberships", "local_memberships", "current_state"):
        assert await database.fetchval(f"SELECT count(*) FROM {table}") == 0
    room = await make_room(engine, name="kept")
    assert await state_content(engine, room, "m.room.name") == {"name": "kept"}


async def test_a_batch_with_many_changes_of_one_key_keeps_the_last(
    engine: Engine, database: Database, signer: Signer
) -> None:
    room = await make_room(engine)
    sent = await engine.writer.send_all(room, [topic(str(n)) for n in range(20)])
    for each in (engine, await make_engine(database, signer)):
        assert await state_content(each, room, "m.room.topic") == {"topic": "19"}
    row = await database.fetchrow(
        "SELECT event_nid FROM current_state WHERE room_nid = $1 AND type = 'm.room.topic'", room.room_nid
    )
    assert row is not None
    assert row["event_nid"] == sent[-1].event_nid
    deltas = await database.fetch(
        "SELECT event_nid, replaced_nid FROM current_state_deltas WHERE room_nid = $1 "
        "AND stream_ordering >= $2 ORDER BY stream_ordering",
        room.room_nid,
        sent[0].stream_ordering,
    )
    nids = [each.event_nid for each in sent]
    assert [tuple(row) for row in deltas] == list(zip(nids, [0, *nids], strict=False))


async def test_old_transaction_ids_are_forgotten(engine: Engine, database: Database) -> None:
    room = await make_room(engine)
    old = await engine.writer.send(room, message(txn_id="old"))
    new = await engine.writer.send(room, message(txn_id="new"))
    async with database.write() as writer:
        await writer.execute(
            "UPDATE event_transactions SET created_ts = 0 WHERE event_nid = $1", old.event_nid
        )
    await HeadStore(database).delete_transactions()
    rows = await database.fetch("SELECT event_nid FROM event_transactions")
    assert [row["event_nid"] for row in rows] == [new.event_nid]
    assert (await engine.writer.send(room, message(txn_id="new"))) == new


async def test_a_member_who_comes_and_goes_in_one_commit_is_gone(engine: Engine, database: Database) -> None:
    room = await make_room(engine)
    [alice] = await database.fetch("SELECT * FROM memberships WHERE user_id = $1", ALICE)
    event_nid = alice["event_nid"]
    row = MemberRow(ALICE, "join", event_nid, ALICE, 1000, "alice", None, is_local=True)
    deltas = [
        StateDelta("m.room.member", ALICE, 1, event_nid, event_nid, 1000, 1),
        StateDelta("m.room.member", ALICE, 1, 0, event_nid, 1001, 1),
    ]
    batch = RoomBatch(
        room.room_nid, [], [], [], deltas=deltas, members=[row], gone_members=[ALICE], state_id=1
    )
    async with database.write() as writer:
        await insert_batch(writer, batch)
    for table in ("memberships", "local_memberships", "current_state WHERE type = 'm.room.member'"):
        assert await database.fetchval(f"SELECT count(*) FROM {table}") == 0
