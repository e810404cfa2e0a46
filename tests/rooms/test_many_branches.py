"""Rooms with more forward extremities than a new event may join."""

import pytest

from hs.engine import Engine
from hs.matrix.errors import Forbidden
from hs.rooms.build import MAX_PREV_EVENTS, Signer
from hs.rooms.drafts import Draft
from hs.storage.database import Database
from hs.storage.rooms import RoomInfo
from tests.rooms.conftest import ALICE, BOB, make_engine
from tests.rooms.making import make_room, message, state_content, topic


async def branch_out(database: Database, room: RoomInfo, event_nids: list[int], state_nid: int) -> None:
    """These events become the room's extremities, and the state after one of them its current state."""
    async with database.write() as writer:
        await writer.execute("DELETE FROM forward_extremities WHERE room_nid = $1", room.room_nid)
        await writer.execute(
            "INSERT INTO forward_extremities (room_nid, event_nid) SELECT $1, unnest($2::bigint[])",
            room.room_nid,
            event_nids,
        )
        await writer.execute(
            "UPDATE rooms r SET state_id = e.state_id FROM events e "
            "WHERE r.room_nid = $1 AND e.room_nid = $1 AND e.event_nid = $2",
            room.room_nid,
            state_nid,
        )


async def head_of(database: Database, room: RoomInfo) -> int:
    """The room's only extremity."""
    [row] = await database.fetch(
        "SELECT event_nid FROM forward_extremities WHERE room_nid = $1", room.room_nid
    )
    nid: int = row["event_nid"]
    return nid


@pytest.mark.parametrize("version", ["1", "6", "11", "12"])
async def test_state_can_be_set_while_there_are_too_many_branches(
    engine: Engine, database: Database, signer: Signer, version: str
) -> None:
    room = await make_room(engine, room_version=version, topic="old")
    sent = await engine.writer.send_all(room, [message(body=str(n)) for n in range(MAX_PREV_EVENTS + 5)])
    await branch_out(database, room, [each.event_nid for each in sent], sent[-1].event_nid)
    restarted = await make_engine(database, signer)
    drafts = [topic("new"), Draft("org.test", ALICE, {"n": 1}, state_key="key"), topic("newer"), message()]
    await restarted.writer.send_all(room, drafts)
    for each in (restarted, await make_engine(database, signer)):
        assert await state_content(each, room, "m.room.topic") == {"topic": "newer"}
        assert await state_content(each, room, "org.test", "key") == {"n": 1}


async def test_who_is_banned_on_a_branch_that_is_not_joined_cannot_speak(
    engine: Engine, database: Database, signer: Signer
) -> None:
    room = await make_room(engine, preset="public_chat")
    await engine.memberships.join(room, BOB)
    before = await head_of(database, room)
    ban = await engine.memberships.ban(room, ALICE, BOB)
    await branch_out(database, room, [before], before)
    elsewhere = await make_engine(database, signer)
    sent = await elsewhere.writer.send_all(room, [message(body=str(n)) for n in range(MAX_PREV_EVENTS + 5)])
    # The ban is on the shallowest of the branches.
    branches = [ban.event_nid, *(each.event_nid for each in sent[2:])]
    await branch_out(database, room, branches, ban.event_nid)
    restarted = await make_engine(database, signer)
    with pytest.raises(Forbidden):
        await restarted.writer.send(room, message(BOB))
    await restarted.writer.send(room, message(ALICE))
