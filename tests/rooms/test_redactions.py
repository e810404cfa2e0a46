"""Redactions through the lane: what they hide, of what, and who may."""

import asyncio

import pytest

from hs.engine import Engine
from hs.matrix.errors import BadJson, Forbidden, InvalidParam
from hs.matrix.room_versions import ROOM_VERSIONS
from hs.rooms.build import Signer
from hs.rooms.drafts import Draft
from hs.storage.database import Database
from hs.storage.members import MemberStore
from tests.rooms.conftest import ALICE, BOB, make_engine
from tests.rooms.making import make_room, message, redaction, state_content, topic


async def test_a_redacted_member_event_takes_the_name_off_the_member_list(
    engine: Engine, database: Database
) -> None:
    room = await make_room(engine, preset="public_chat")
    joined = await engine.memberships.join(room, BOB)
    await engine.writer.send(room, redaction(joined.event_id))
    assert await state_content(engine, room, "m.room.member", BOB) == {"membership": "join"}
    profiles = await MemberStore(database).list_joined_profiles(room.room_nid)
    assert profiles == [(ALICE, "alice", None), (BOB, None, None)]


async def test_a_redacted_older_member_event_leaves_the_present_name(
    engine: Engine, database: Database
) -> None:
    room = await make_room(engine, preset="public_chat")
    first = await engine.memberships.join(room, BOB)
    await engine.memberships.join(room, BOB, {"reason": "again"})
    await engine.writer.send(room, redaction(first.event_id))
    profiles = await MemberStore(database).list_joined_profiles(room.room_nid)
    assert profiles == [(ALICE, "alice", None), (BOB, "bob", None)]


async def test_of_two_redactions_in_one_commit_the_first_counts(
    engine: Engine, database: Database, signer: Signer
) -> None:
    room = await make_room(engine)
    target = await engine.writer.send(room, message(body="secret"))
    first, _ = await engine.writer.send_all(room, [redaction(target.event_id), redaction(target.event_id)])
    restarted = await make_engine(database, signer)
    for each in (engine, restarted):
        assert (await each.events.get(target.event_nid)).redacted_by_nid == first.event_nid


@pytest.mark.parametrize("version", ROOM_VERSIONS)
async def test_a_redacted_redaction_still_redacts_but_names_nothing_before_v11(
    engine: Engine, version: str
) -> None:
    room = await make_room(engine, room_version=version)
    target = await engine.writer.send(room, message(body="secret"))
    first = await engine.writer.send(room, redaction(target.event_id))
    await engine.writer.send(room, redaction(first.event_id))
    assert (await engine.events.get(target.event_nid)).content == {}
    redacted = await engine.events.get(first.event_nid)
    # Since v11 `redacts` is among the keys of the content that a redaction leaves.
    assert redacted.redacts == (target.event_id if room.version.redacts_in_content else None)


@pytest.mark.parametrize("version", ROOM_VERSIONS)
async def test_redacted_state_stays_state_without_what_it_said(engine: Engine, version: str) -> None:
    room = await make_room(engine, room_version=version)
    sent = await engine.writer.send(room, topic("secret"))
    await engine.writer.send(room, redaction(sent.event_id))
    assert await state_content(engine, room, "m.room.topic") == {}
    again = await engine.writer.send(room, topic("secret"))
    assert again.event_id != sent.event_id


@pytest.mark.parametrize("version", ROOM_VERSIONS)
async def test_without_the_level_only_ones_own_events_can_be_redacted(engine: Engine, version: str) -> None:
    room = await make_room(engine, room_version=version, preset="public_chat")
    await engine.memberships.join(room, BOB)
    hers, his = await engine.writer.send_all(room, [message(ALICE), message(BOB)])
    with pytest.raises(Forbidden):
        await engine.writer.send(room, redaction(hers.event_id, BOB))
    await engine.writer.send(room, redaction(his.event_id, BOB))
    assert (await engine.events.get(his.event_nid)).content == {}
    assert (await engine.events.get(hers.event_nid)).content != {}
    await engine.writer.send(room, redaction(hers.event_id, ALICE))


async def test_an_event_of_another_room_cannot_be_redacted(engine: Engine) -> None:
    room, other = await make_room(engine), await make_room(engine)
    target = await engine.writer.send(other, message())
    await engine.writer.send(room, redaction(target.event_id))
    assert not (await engine.events.get(target.event_nid)).redacted_by_nid


@pytest.mark.parametrize("version", ["1", "10", "11", "12"])
async def test_a_redaction_cannot_pose_as_state(engine: Engine, version: str) -> None:
    room = await make_room(engine, room_version=version, preset="public_chat")
    await engine.memberships.join(room, BOB)
    hers = await engine.writer.send(room, message(ALICE))
    levels = await state_content(engine, room, "m.room.power_levels")
    assert levels is not None
    levels["events"]["m.room.redaction"] = 0
    await engine.writer.send(room, Draft("m.room.power_levels", ALICE, levels, state_key=""))
    content = {"redacts": hers.event_id}
    with pytest.raises(Forbidden):
        await engine.writer.send(room, Draft("m.room.redaction", BOB, content, state_key=""))
    for content in ({}, {"redacts": 1}):
        with pytest.raises(BadJson):
            await engine.writer.send(room, Draft("m.room.redaction", ALICE, content, state_key=""))
    with pytest.raises(InvalidParam):
        await engine.writer.send(room, Draft("m.room.redaction", ALICE, {"redacts": "$\x00"}, state_key=""))
    assert (await engine.events.get(hers.event_nid)).content != {}


async def test_a_redaction_and_its_target_can_be_asked_for_at_once(engine: Engine) -> None:
    room = await make_room(engine)
    target = await engine.writer.send(room, message(body="secret"))
    await asyncio.gather(
        *(engine.writer.send(room, redaction(target.event_id)) for _ in range(5)),
        *(engine.events.get(target.event_nid) for _ in range(5)),
    )
    assert (await engine.events.get(target.event_nid)).content == {}
