"""Upgrades: what happens when they are interrupted, and how much they copy."""

import asyncio

import asyncpg
import pytest

from hs.engine import Engine
from hs.rooms.drafts import Draft
from hs.rooms.upgrade import MAX_BANS
from hs.storage.aliases import DirectoryStore
from hs.storage.database import Database
from tests.rooms.conftest import ALICE
from tests.rooms.making import make_room, state_content


async def test_a_caller_that_goes_away_does_not_interrupt_it(engine: Engine) -> None:
    room = await make_room(engine, room_version="9")
    caller = asyncio.create_task(engine.upgrader.upgrade(room, ALICE, "11"))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await engine.upgrader.close()
    tombstone = await state_content(engine, room, "m.room.tombstone")
    assert tombstone is not None
    # Whoever asks again hears of the room that was made.
    assert await engine.upgrader.upgrade(room, ALICE, "11") == tombstone["replacement_room"]


async def test_the_old_room_and_its_aliases_change_together_or_not_at_all(
    engine: Engine, database: Database
) -> None:
    directory = DirectoryStore(database)
    room = await make_room(engine, room_version="9")
    await directory.insert_alias("#den:hs.test", room.room_nid, ALICE, 1)
    await directory.set_published(room.room_nid, 1)
    levels = await state_content(engine, room, "m.room.power_levels")
    async with database.write() as writer:
        await writer.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'disk is full'; END $$"
        )
        await writer.execute(
            "CREATE TRIGGER refuse BEFORE UPDATE ON room_aliases FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
    with pytest.raises(asyncpg.RaiseError):
        await engine.upgrader.upgrade(room, ALICE, "11")
    assert await state_content(engine, room, "m.room.tombstone") is None
    assert await state_content(engine, room, "m.room.power_levels") == levels
    assert await directory.find_alias_room("#den:hs.test") == room.room_nid
    assert await directory.is_published(room.room_nid)

    async with database.write() as writer:
        await writer.execute("DROP TRIGGER refuse ON room_aliases")
    new = await engine.rooms.get(await engine.upgrader.upgrade(room, ALICE, "11"))
    assert await directory.find_alias_room("#den:hs.test") == new.room_nid
    assert not await directory.is_published(room.room_nid)
    assert await directory.is_published(new.room_nid)


async def test_the_newest_bans_are_copied(engine: Engine) -> None:
    room = await make_room(engine, room_version="9")
    people = [f"@{number}:elsewhere.example" for number in range(MAX_BANS + 5)]
    # In the order of their names, the first would be 0, 1, 10, 100.
    bans = [Draft("m.room.member", ALICE, {"membership": "ban"}, state_key=user) for user in people]
    await engine.writer.send_all(room, bans)
    new = await engine.rooms.get(await engine.upgrader.upgrade(room, ALICE, "12"))
    copied = [await state_content(engine, new, "m.room.member", user) for user in people]
    assert copied == [None] * 5 + [{"membership": "ban"}] * MAX_BANS
