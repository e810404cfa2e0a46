"""Aliases and the published list, without HTTP; tests/client_api/test_directory.py has the rest."""

from dataclasses import dataclass
from typing import Any

import pytest

from hs.directory.aliases import AliasDirectory, RoomFacts
from hs.directory.public_rooms import ListBody, ListFilter, PublicRooms, build_entry
from hs.engine import Engine
from hs.matrix.errors import Forbidden, InvalidParam, NotFound, RoomInUse
from hs.rooms.create import CreateRoom
from hs.rooms.drafts import Draft
from hs.storage.aliases import DirectoryStore
from hs.storage.database import Database
from hs.storage.memberships import MembershipStore
from hs.storage.rooms import RoomInfo
from tests.rooms.conftest import ALICE, BOB, SERVER, TurnableClock


@dataclass
class Place:
    engine: Engine
    aliases: AliasDirectory
    public_rooms: PublicRooms
    count: int = 0

    async def create(self, alias: str | None = None, **request: Any) -> RoomInfo:
        # The clock stands, and a room of version 12 is named by the hash of its create event.
        self.count += 1
        body = CreateRoom(creation_content={"number": self.count}, **request)
        on_write = self.aliases.on_create(ALICE, alias, body.visibility == "public")
        room_id = await self.engine.creator.create(ALICE, body, alias=alias, on_write=on_write)
        return await self.engine.rooms.get(room_id)

    async def shown(self, term: str | None = None) -> list[str]:
        page = await self.public_rooms.list_wanted(ListBody(filter=ListFilter(term)))
        return [entry["room_id"] for entry in page["chunk"]]


@pytest.fixture
def place(engine: Engine, database: Database) -> Place:
    store = DirectoryStore(database)
    facts = RoomFacts(engine.states, engine.events, MembershipStore(database))
    aliases = AliasDirectory(store, engine.rooms, facts, engine.writer, TurnableClock(), SERVER)
    return Place(engine, aliases, PublicRooms(store, engine.rooms, engine.events))


async def test_a_room_whose_alias_is_taken_is_not_made_at_all(place: Place, database: Database) -> None:
    alias = place.aliases.full_alias("pub")
    room = await place.create(alias, visibility="public")
    assert await place.aliases.resolve(alias) == room
    rooms_before = await database.fetchval("SELECT count(*) FROM rooms")
    with pytest.raises(RoomInUse):
        await place.create(alias, visibility="public")
    assert await database.fetchval("SELECT count(*) FROM rooms") == rooms_before
    assert await place.shown() == [room.room_id]


async def test_an_alias_goes_when_somebody_who_may_removes_it(place: Place) -> None:
    room = await place.create()
    alias = f"#den:{SERVER}"
    with pytest.raises(Forbidden):
        await place.aliases.insert(BOB, alias, room.room_id)
    await place.aliases.insert(ALICE, alias, room.room_id)
    with pytest.raises(Forbidden):
        await place.aliases.delete(BOB, False, alias)
    await place.aliases.delete(BOB, True, alias)
    with pytest.raises(NotFound):
        await place.aliases.resolve(alias)


async def test_an_entry_follows_the_state_without_being_told(place: Place) -> None:
    room = await place.create(visibility="public", name="Before")
    assert await place.shown("before") == [room.room_id]
    draft = Draft("m.room.name", ALICE, {"name": "After"}, state_key="")
    await place.engine.writer.send(room, draft)
    assert await place.shown("before") == []
    assert await place.shown("AFTER") == [room.room_id]


async def test_an_unpublished_or_empty_room_is_not_shown(place: Place) -> None:
    room = await place.create(visibility="public")
    await place.aliases.set_visibility(ALICE, False, room, False)
    assert await place.shown() == []
    await place.aliases.set_visibility(ALICE, False, room, True)
    assert await place.shown() == [room.room_id]
    await place.engine.memberships.leave(room, ALICE)
    assert await place.shown() == []


@pytest.mark.parametrize("since", ["x", "n1", "p1.", "n1.2.3", "n-1.2", "n9" + "9" * 30 + ".1"])
async def test_a_token_of_another_list_is_refused(place: Place, since: str) -> None:
    with pytest.raises(InvalidParam):
        await place.public_rooms.list_wanted(ListBody(since=since))


def test_what_a_state_event_should_not_hold_is_not_shown() -> None:
    contents: dict[str, Any] = {
        "m.room.name": {"name": 5},
        "m.room.topic": {"topic": ""},
        "m.room.canonical_alias": {"alias": None},
        "m.room.create": {"type": ["m.space"]},
        "m.room.join_rules": {"join_rule": {}},
        "m.room.guest_access": {},
    }
    assert build_entry("!room:hs.test", contents) == {
        "room_id": "!room:hs.test",
        "join_rule": "invite",
        "world_readable": False,
        "guest_can_join": False,
    }
