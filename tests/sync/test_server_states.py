"""What other servers read, over a real engine: states a few at a time, and memberships of a server's many users."""

import asyncio
from dataclasses import dataclass

import msgspec
import pytest

from hs.engine import Engine
from hs.matrix.errors import Forbidden, LimitExceeded
from hs.rooms.drafts import Draft
from hs.rooms.resident import RoomDoors
from hs.rooms.server_acls import ServerAcls
from hs.rooms.whole_states import WholeStates
from hs.storage.database import Database
from hs.storage.history import HistoryStore, PduStore
from hs.storage.rooms import RoomInfo
from hs.sync.server_access import ServerAccess
from hs.sync.server_states import ServerStates
from hs.sync.server_visibility import ServerVisibility
from tests.rooms.conftest import ALICE
from tests.rooms.making import make_room, message

FAR = "far.test"


@dataclass
class Reading:
    """What a server reads with, and one room of ours."""

    engine: Engine
    room: RoomInfo
    visibility: ServerVisibility
    access: ServerAccess
    states: ServerStates

    async def member(self, n: int, membership: str) -> str:
        """The id of the event with which a user of the far server came or went."""
        user_id = f"@user{n}:{FAR}"
        draft = Draft("m.room.member", user_id, {"membership": membership}, state_key=user_id)
        return (await self.engine.writer.send(self.room, draft)).event_id

    async def say(self, text: str = "hello") -> str:
        """The id of a new message."""
        return (await self.engine.writer.send(self.room, message(body=text))).event_id


@pytest.fixture
async def reading(engine: Engine, database: Database) -> Reading:
    """A public room."""
    store, pdus = HistoryStore(database), PduStore(database)
    visibility = ServerVisibility(engine.states, engine.events, store)
    doors = RoomDoors(engine.rooms, engine.participation, ServerAcls(engine.states, engine.events))
    access = ServerAccess(doors, engine.rooms, engine.events, visibility, store)
    whole = WholeStates(engine.states, pdus, engine.graphs)
    states = ServerStates(access, engine.states, whole, engine.events, store)
    return Reading(engine, await make_room(engine, preset="public_chat"), visibility, access, states)


async def test_a_server_that_asks_for_many_states_at_once_is_told_to_wait(reading: Reading) -> None:
    await reading.member(1, "join")
    event_id = await reading.say()
    asked = [reading.states.state(FAR, reading.room.room_id, event_id) for _ in range(40)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, LimitExceeded)]
    served = [answer for answer in answers if isinstance(answer, bytes)]
    assert len(refused) + len(served) == 40
    assert refused
    assert len({*served}) == 1
    assert await reading.states.state(FAR, reading.room.room_id, event_id) == served[0]


async def test_ids_of_a_state_are_made_once(reading: Reading) -> None:
    await reading.member(1, "join")
    first, second = await reading.say(), await reading.say()
    one = await reading.states.state_ids(FAR, reading.room.room_id, first)
    assert await reading.states.state_ids(FAR, reading.room.room_id, second) is one
    join = await reading.member(2, "join")
    third = await reading.say()
    other = await reading.states.state_ids(FAR, reading.room.room_id, third)
    before, after = (set(msgspec.json.decode(answer)["pdu_ids"]) for answer in (one, other))
    assert after - before == {join}
    at_join = await reading.states.state_ids(FAR, reading.room.room_id, join)
    assert set(msgspec.json.decode(at_join)["pdu_ids"]) == before


async def test_one_of_many_users_of_a_server_is_enough(reading: Reading) -> None:
    room_id = reading.room.room_id
    draft = Draft("m.room.history_visibility", ALICE, {"history_visibility": "joined"}, state_key="")
    await reading.engine.writer.send(reading.room, draft)
    nobody = await reading.say()
    with pytest.raises(Forbidden):
        await reading.access.get_event(FAR, nobody)
    for n in range(130):
        await reading.member(n, "join")
    for n in range(129):
        await reading.member(n, "leave")
    one_left = await reading.say()
    assert (await reading.access.get_event(FAR, one_left)).event_id == one_left
    await reading.member(129, "leave")
    gone = await reading.say()
    # Of what it was there for it may still ask.
    assert (await reading.access.get_event(FAR, one_left)).event_id == one_left
    for event_id in (nobody, gone):
        with pytest.raises(Forbidden):
            await reading.access.get_event(FAR, event_id)
        with pytest.raises(Forbidden):
            await reading.access.open_at(FAR, room_id, event_id)
    # Nor does it help to be called nearly the same.
    for other in ("ar.test", "FAR.TEST", "%", "far.test:8448"):
        with pytest.raises(Forbidden):
            await reading.access.get_event(other, one_left)
