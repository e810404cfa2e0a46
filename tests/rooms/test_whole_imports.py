"""Rooms that are given whole: stored a part at a time, in an order that lets each event rest on what is stored."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from signedjson.key import generate_signing_key, get_verify_key

from hs.engine import Engine
from hs.matrix.keys import ServerKey, key_id_of
from hs.rooms.checks import PduChecker
from hs.rooms.whole_imports import WholeImports
from hs.storage.rooms import RoomInfo
from tests.remote_room import RemoteRoom, with_bad_signature
from tests.room_builder import BuiltEvent

FAR = "far.test"
KEY = generate_signing_key("k")
ALICE = f"@alice:{FAR}"


class Keys:
    """The keys of one server."""

    def __init__(self) -> None:
        self.asked: list[Mapping[str, Mapping[str, int]]] = []

    async def get_keys(
        self, wanted: Mapping[str, Mapping[str, int]]
    ) -> Mapping[str, Mapping[str, ServerKey]]:
        self.asked.append(wanted)
        return {FAR: {key_id_of(KEY): ServerKey(key_id_of(KEY), get_verify_key(KEY), 2**53)}}


def raw(events: Sequence[BuiltEvent | dict[str, Any]]) -> list[msgspec.Raw]:
    pdus = [event.pdu if isinstance(event, BuiltEvent) else event for event in events]
    return [msgspec.Raw(msgspec.json.encode(pdu)) for pdu in pdus]


@pytest.fixture
def room() -> RemoteRoom:
    """Twenty members, who have all renamed themselves, and power levels that came in between."""
    room = RemoteRoom.make("12", ALICE, {FAR: KEY})
    for number in range(20):
        room.member(f"@u{number}:{FAR}", f"@u{number}:{FAR}", "join")
        if number % 5 == 0:
            room.send("m.room.power_levels", ALICE, {"users": {}, "ban": 50 + number}, state_key="")
    for number in range(20):
        user_id = f"@u{number}:{FAR}"
        room.member(user_id, user_id, "join", content={"displayname": f"{number}"})
    return room


async def store(
    engine: Engine, room: RemoteRoom, state: Sequence[msgspec.Raw], chain: Sequence[msgspec.Raw]
) -> set[str]:
    """The ids of the events that the state consists of then; seven are stored at a time."""
    keys = Keys()
    imports = WholeImports(PduChecker(keys), engine.outliers, engine.outlier_store, at_once=7)
    [room_nid] = await engine.room_nids.take(1)
    info = await engine.rooms.enter_proven(room.room_id, room.version, room_nid)
    found = await imports.store(info, state, chain)
    # Servers that are gone take their time not to answer: nobody is asked twice.
    assert [wanted.keys() for wanted in keys.asked] == [{FAR}]
    return await ids_of(engine, info, found.values())


async def ids_of(engine: Engine, info: RoomInfo, nids: Any) -> set[str]:
    return {record.event_id for record in (await engine.events.get_many(list(nids))).values()}


@pytest.mark.parametrize("seed", range(3))
async def test_the_order_of_an_answer_does_not_matter(engine: Engine, room: RemoteRoom, seed: int) -> None:
    state = list(room.current.values())
    chain = room.auth_chain(state)
    random.Random(seed).shuffle(state)
    random.Random(seed).shuffle(chain)
    assert await store(engine, room, raw(state), raw(chain)) == {event.event_id for event in state}


async def test_a_second_try_finds_what_the_first_has_stored(engine: Engine, room: RemoteRoom) -> None:
    state = list(room.current.values())
    chain = room.auth_chain(state)
    some = [event for event in chain if event.nid < 20]
    await store(engine, room, [], raw(some))
    assert await store(engine, room, raw(state), raw(chain)) == {event.event_id for event in state}


async def test_depths_may_lie(engine: Engine) -> None:
    """Events that say that they are older than what they rest on come in after it."""
    room = RemoteRoom.make("12", ALICE, {FAR: KEY})
    for number in range(20):
        user_id = f"@u{number}:{FAR}"
        levels = {"users": {}, "ban": 50 + number}
        room.send("m.room.power_levels", ALICE, levels, state_key="", depth=1000 - 2 * number)
        room.member(user_id, user_id, "join", depth=1 + number)
    state = list(room.current.values())
    chain = room.auth_chain(state)
    assert await store(engine, room, raw(state), raw(chain)) == {event.event_id for event in state}


async def test_what_cannot_be_verified_is_left_out_with_what_rests_on_it(
    engine: Engine, room: RemoteRoom
) -> None:
    state = list(room.current.values())
    chain = room.auth_chain(state)
    spoilt = room.by_id[chain[-1].event_id]
    resting = {event.event_id for event in state if spoilt in event.auth} | {spoilt.event_id}
    assert len(resting) > 1
    pdus = [with_bad_signature(event.pdu) if event is spoilt else event.pdu for event in chain]
    odd = [msgspec.Raw(b"5"), msgspec.Raw(b"{}"), msgspec.Raw(b'{"sender":"@x:y","depth":"x"}')]
    found = await store(engine, room, [*raw(state), *odd], [*odd, *raw(pdus)])
    assert found == {event.event_id for event in state} - resting


async def test_events_that_rest_on_nothing_are_left_out(engine: Engine, room: RemoteRoom) -> None:
    state = list(room.current.values())
    chain = room.auth_chain(state)
    nowhere = room.forge(ALICE, "m.room.topic", state_key="", auth_events=["$" + "x" * 43])
    found = await store(engine, room, [*raw(state), *raw([nowhere])], raw(chain))
    assert found == {event.event_id for event in state}
