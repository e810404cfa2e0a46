"""Memberships: restricted rooms, news of a profile, lists that must not bring anybody back."""

import asyncio

import pytest

from hs.engine import Engine
from hs.matrix.errors import Forbidden, InvalidParam, UnableToAuthoriseJoin
from hs.rooms.create import CreateRoom, InitialState
from hs.rooms.drafts import Draft
from hs.storage.database import Database, Writer
from hs.storage.memberships import MembershipStore
from hs.storage.rooms import RoomInfo
from tests.rooms.conftest import ALICE, BOB, CAROL
from tests.rooms.making import make_room, state_content

_VOUCHED = "join_authorised_via_users_server"


async def make_restricted(engine: Engine, allowed: list[str]) -> RoomInfo:
    """A room that members of others may join."""
    allow = [{"type": "m.room_membership", "room_id": room_id} for room_id in allowed]
    rules = InitialState("m.room.join_rules", {"join_rule": "restricted", "allow": allow})
    return await engine.rooms.get(await engine.creator.create(ALICE, CreateRoom(initial_state=[rules])))


async def test_a_restricted_join_repeated_is_no_new_event(engine: Engine) -> None:
    club = await make_room(engine, preset="public_chat")
    await engine.memberships.join(club, BOB)
    room = await make_restricted(engine, [club.room_id])
    first = await engine.memberships.join(room, BOB, {_VOUCHED: CAROL})
    assert (await state_content(engine, room, "m.room.member", BOB) or {})[_VOUCHED] == ALICE
    assert await engine.memberships.join(room, BOB) == first


async def test_a_new_profile_in_a_restricted_room_names_nobody_who_vouched(engine: Engine) -> None:
    club = await make_room(engine, preset="public_chat")
    await engine.memberships.join(club, BOB)
    room = await make_restricted(engine, [club.room_id])
    await engine.memberships.join(room, BOB, {"reason": "curious", "displayname": "Robert", "org.test": 1})
    await engine.memberships.set_profile_fields(room, BOB)
    present = await state_content(engine, room, "m.room.member", BOB)
    assert present == {"membership": "join", "displayname": "bob", "org.test": 1}


async def test_rules_with_room_ids_that_cannot_be_are_no_server_error(engine: Engine) -> None:
    room = await make_restricted(engine, ["!\x00:hs.test"])
    with pytest.raises(UnableToAuthoriseJoin):
        await engine.memberships.join(room, BOB)


async def test_a_new_profile_does_not_bring_back_who_leaves(engine: Engine, database: Database) -> None:
    room = await make_room(engine, preset="public_chat")
    await engine.memberships.join(room, BOB)
    writing, going_on = asyncio.Event(), asyncio.Event()

    async def pause(_: Writer, __: RoomInfo) -> None:
        writing.set()
        await going_on.wait()

    leave = Draft("m.room.member", BOB, {"membership": "leave"}, state_key=BOB)
    leaving = asyncio.create_task(engine.writer.send(room, leave, on_write=pause))
    await writing.wait()
    # As seen from here Bob is in the room still.
    draft = Draft("m.room.member", BOB, {"membership": "join"}, state_key=BOB, needs_membership=True)
    updating = asyncio.create_task(engine.writer.send(room, draft))
    await asyncio.sleep(0)
    going_on.set()
    await leaving
    with pytest.raises(Forbidden):
        await updating
    with pytest.raises(Forbidden):
        await engine.memberships.set_profile_fields(room, BOB)
    assert await MembershipStore(database).find_membership(room.room_nid, BOB) == "leave"


async def test_forgetting_holds_until_the_next_membership(engine: Engine, database: Database) -> None:
    room = await make_room(engine, preset="public_chat")
    await engine.memberships.join(room, BOB)
    await engine.memberships.leave(room, BOB)
    await engine.memberships.forget(room, BOB)
    forgotten = "SELECT forgotten FROM local_memberships WHERE user_id = $1"
    assert await database.fetchval(forgotten, BOB) is True
    await engine.memberships.join(room, BOB)
    assert await database.fetchval(forgotten, BOB) is False


async def test_who_is_in_the_room_cannot_be_invited(engine: Engine) -> None:
    room = await make_room(engine, preset="public_chat")
    await engine.memberships.join(room, BOB)
    with pytest.raises(Forbidden):
        await engine.memberships.invite(room, ALICE, BOB)


@pytest.mark.parametrize("target", ["garbage", "@bob", "@a:\x00"])
async def test_initial_state_invites_only_users(engine: Engine, target: str) -> None:
    invite = InitialState("m.room.member", {"membership": "invite"}, target)
    with pytest.raises(InvalidParam):
        await engine.creator.create(ALICE, CreateRoom(initial_state=[invite]))
