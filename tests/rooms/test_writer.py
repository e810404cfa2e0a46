"""Local events through the lane: places, refusals, idempotence, batches, restarts."""

import asyncio

import asyncpg
import pytest

from hs.engine import Engine
from hs.matrix.errors import BadJson, Forbidden, InvalidParam, NotFound, TooLarge
from hs.matrix.room_versions import ROOM_VERSIONS
from hs.rooms.build import Signer
from hs.rooms.drafts import Committed, Draft
from hs.storage.database import Database, Writer
from hs.storage.rooms import RoomInfo
from tests.rooms.conftest import ALICE, BOB, make_engine
from tests.rooms.making import make_room, message, state_content


@pytest.mark.parametrize("version", ROOM_VERSIONS)
async def test_every_room_version_can_be_created_and_talked_in(engine: Engine, version: str) -> None:
    room = await make_room(engine, room_version=version, name="A room", preset="public_chat")
    assert await state_content(engine, room, "m.room.name") == {"name": "A room"}
    await engine.memberships.join(room, BOB)
    sent = await engine.writer.send(room, message(BOB))
    assert (await engine.events.get(sent.event_nid)).content["body"] == "hello"


async def test_an_event_refers_to_the_one_before_it_and_goes_deeper(engine: Engine) -> None:
    room = await make_room(engine)
    first = await engine.writer.send(room, message())
    second = await engine.writer.send(room, message())
    before, after = await engine.events.get(first.event_nid), await engine.events.get(second.event_nid)
    assert after.prev_event_ids == (before.event_id,)
    assert after.depth == before.depth + 1
    assert after.stream_ordering == before.stream_ordering + 1


async def test_a_stranger_cannot_speak(engine: Engine) -> None:
    room = await make_room(engine)
    with pytest.raises(Forbidden):
        await engine.writer.send(room, message(BOB))


async def test_a_repeated_transaction_is_answered_with_the_first_event(engine: Engine) -> None:
    room = await make_room(engine)
    first = await engine.writer.send(room, message(txn_id="1"))
    assert await engine.writer.send(room, message(txn_id="1")) == first
    twins = await asyncio.gather(*(engine.writer.send(room, message(txn_id="2")) for _ in range(5)))
    assert len({sent.event_id for sent in twins}) == 1
    assert twins[0].event_id != first.event_id


async def test_a_transaction_is_remembered_across_restarts(
    engine: Engine, database: Database, signer: Signer
) -> None:
    room = await make_room(engine)
    first = await engine.writer.send(room, message(txn_id="1"))
    restarted = await make_engine(database, signer)
    assert await restarted.writer.send(room, message(txn_id="1")) == first
    later = await restarted.writer.send(room, message(txn_id="2"))
    assert later.stream_ordering > first.stream_ordering


async def test_a_batch_with_repeats_among_new_requests(
    engine: Engine, database: Database, signer: Signer
) -> None:
    room = await make_room(engine)
    known = [await engine.writer.send(room, message(txn_id=f"{n}")) for n in range(3)]
    restarted = await make_engine(database, signer)
    heard: list[Committed] = []
    restarted.committer.on_commit(heard.append)
    sent = await asyncio.gather(
        *(
            restarted.writer.send(room, message(txn_id=txn_id))
            for txn_id in ("new", "0", "newer", "2", "1", "2")
        )
    )
    assert [sent[1], sent[4], sent[3]] == known
    assert sent[5] == sent[3]
    assert len({one.event_id for one in sent}) == 5
    # The database has taken the first try back for certain: nobody needs to doubt what they remember.
    assert not any(committed.is_uncertain for committed in heard)
    count = "SELECT count(*) FROM events WHERE room_nid = $1 AND type = 'm.room.message'"
    assert await database.fetchval(count, room.room_nid) == 5


async def test_a_repeat_is_answered_when_it_would_not_be_allowed_any_more(
    engine: Engine, database: Database, signer: Signer
) -> None:
    room = await make_room(engine, preset="public_chat")
    await engine.memberships.join(room, BOB)
    said = await engine.writer.send(room, message(BOB, txn_id="1"))
    await engine.memberships.ban(room, ALICE, BOB)
    restarted = await make_engine(database, signer)
    assert await restarted.writer.send(room, message(BOB, txn_id="1")) == said
    with pytest.raises(Forbidden):
        await restarted.writer.send(room, message(BOB, txn_id="2"))


async def test_the_same_state_again_is_no_new_event(engine: Engine) -> None:
    room = await make_room(engine)
    topic = Draft("m.room.topic", ALICE, {"topic": "t"}, state_key="")
    first = await engine.writer.send(room, topic)
    assert await engine.writer.send(room, topic) == first
    changed = await engine.writer.send(room, Draft("m.room.topic", ALICE, {"topic": "u"}, state_key=""))
    assert changed.event_id != first.event_id
    assert (await engine.events.get(changed.event_nid)).replaces_nid == first.event_nid


async def test_a_refused_job_takes_only_its_own_events_back(engine: Engine) -> None:
    room = await make_room(engine)
    drafts = [message(), message(BOB), message()]
    first, refused, third = await asyncio.gather(
        *(engine.writer.send(room, draft) for draft in drafts), return_exceptions=True
    )
    assert isinstance(refused, Forbidden)
    assert not isinstance(first, BaseException)
    assert not isinstance(third, BaseException)
    assert (await engine.events.get(third.event_nid)).prev_event_ids == (first.event_id,)


async def test_drafts_sent_together_stand_or_fall_together(engine: Engine) -> None:
    room = await make_room(engine)
    topic = Draft("m.room.topic", ALICE, {"topic": "half"}, state_key="")
    with pytest.raises(Forbidden):
        await engine.writer.send_all(room, [topic, message(BOB)])
    assert await state_content(engine, room, "m.room.topic") is None


async def test_queued_work_is_committed_together(engine: Engine) -> None:
    room = await make_room(engine)
    commits: list[Committed] = []
    engine.committer.on_commit(commits.append)
    await asyncio.gather(*(engine.writer.send(room, message(body=str(i))) for i in range(50)))
    assert sum(len(commit.records) for commit in commits) == 50
    assert len(commits) < 10
    bodies = [record.content["body"] for commit in commits for record in commit.records]
    assert bodies == [str(i) for i in range(50)]


async def test_a_caller_that_goes_away_leaves_the_room_usable(engine: Engine) -> None:
    room = await make_room(engine)
    senders = [asyncio.create_task(engine.writer.send(room, message(body=str(i)))) for i in range(20)]
    await asyncio.sleep(0)
    for task in senders[::2]:
        task.cancel()
    await asyncio.gather(*senders, return_exceptions=True)
    sent = await engine.writer.send(room, message(body="after"))
    assert (await engine.events.get(sent.event_nid)).content["body"] == "after"


async def test_a_last_act_that_fails_takes_the_commit_back(engine: Engine) -> None:
    room = await make_room(engine)

    async def refuse(*_: object) -> None:
        raise InvalidParam("no")

    with pytest.raises(InvalidParam):
        await engine.writer.send(
            room, Draft("m.room.topic", ALICE, {"topic": "lost"}, state_key=""), on_write=refuse
        )
    assert await state_content(engine, room, "m.room.topic") is None
    await engine.writer.send(room, message())


async def test_redactions_apply_on_read(engine: Engine) -> None:
    room = await make_room(engine)
    target = await engine.writer.send(room, message(body="secret"))
    redaction = await engine.writer.send(
        room, Draft("m.room.redaction", ALICE, {"reason": "oops"}, redacts=target.event_id)
    )
    record = await engine.events.get(target.event_nid)
    assert record.content == {}
    assert record.redacted_by_nid == redaction.event_nid
    assert (await engine.events.get(redaction.event_nid)).redacts == target.event_id


async def test_others_events_need_the_level_to_redact(engine: Engine) -> None:
    room = await make_room(engine, preset="public_chat")
    await engine.memberships.join(room, BOB)
    target = await engine.writer.send(room, message(ALICE))
    with pytest.raises(Forbidden):
        await engine.writer.send(room, Draft("m.room.redaction", BOB, {}, redacts=target.event_id))
    with pytest.raises(NotFound):
        await engine.writer.send(room, Draft("m.room.redaction", BOB, {}, redacts="$nowhere"))


async def test_an_event_of_more_than_64_kib_is_refused(engine: Engine) -> None:
    room = await make_room(engine)
    with pytest.raises(TooLarge):
        await engine.writer.send(room, message(body="x" * 65_536))
    with pytest.raises((BadJson, TooLarge)):
        await engine.writer.send(room, Draft("t" * 256, ALICE, {}))
    with pytest.raises(BadJson):
        await engine.writer.send(room, Draft("m.float", ALICE, {"pi": 3.14}))


async def test_state_of_ten_thousand_keys_survives_a_restart(
    engine: Engine, database: Database, signer: Signer
) -> None:
    room = await make_room(engine)
    wanted = [Draft("org.test.key", ALICE, {"n": n}, state_key=str(n)) for n in range(10_000)]
    for start in range(0, len(wanted), 1000):
        await engine.writer.send_all(room, wanted[start : start + 1000])
    restarted = await make_engine(database, signer)
    root = await restarted.states.current(room.room_nid)
    assert len(await restarted.states.list_nids(room.room_nid, root)) > 10_000
    assert await state_content(restarted, room, "org.test.key", "9999") == {"n": 9999}


async def test_the_state_before_an_event_is_what_it_was(engine: Engine) -> None:
    room = await make_room(engine, topic="old")
    sent = await engine.writer.send(room, Draft("m.room.topic", ALICE, {"topic": "new"}, state_key=""))
    record = await engine.events.get(sent.event_nid)
    before, after = await engine.states.before(record), engine.states.after(record)
    [(_, old, new)] = await engine.states.diff(room.room_nid, before, after)
    assert new == sent.event_nid
    assert (await engine.events.get(old)).content["topic"] == "old"


async def test_a_lost_connection_fails_the_commit_and_nothing_else(engine: Engine) -> None:
    room = await make_room(engine)
    commits: list[Committed] = []
    engine.committer.on_commit(commits.append)

    async def cut(writer: Writer, _: RoomInfo) -> None:
        await writer.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    topic = Draft("m.room.topic", ALICE, {"topic": "lost"}, state_key="")
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await engine.writer.send(room, topic, on_write=cut)
    sent = await engine.writer.send(room, message())
    assert await state_content(engine, room, "m.room.topic") is None
    # Readers are told that they cannot rely on what they remember of the room.
    assert [commit.is_uncertain for commit in commits] == [True, False]
    assert commits[1].records[0].event_id == sent.event_id


async def test_forks_are_resolved_and_joined_by_the_next_event(
    engine: Engine, database: Database, signer: Signer
) -> None:
    room = await make_room(engine, topic="trunk")
    root = await database.fetch("SELECT event_nid FROM forward_extremities")
    first = await engine.writer.send(room, Draft("m.room.topic", ALICE, {"topic": "branch"}, state_key=""))
    # Another branch, as if from another server: the room's head before the topic is one of its heads again.
    async with database.write() as writer:
        await writer.execute(
            "INSERT INTO forward_extremities (room_nid, event_nid) VALUES ($1, $2)",
            room.room_nid,
            root[0]["event_nid"],
        )
    restarted = await make_engine(database, signer)
    joined = await restarted.writer.send(room, message())
    record = await restarted.events.get(joined.event_nid)
    assert len(record.prev_event_ids) == 2
    assert first.event_id in record.prev_event_ids
    assert await state_content(restarted, room, "m.room.topic") == {"topic": "branch"}
    assert len(await database.fetch("SELECT event_nid FROM forward_extremities")) == 1
