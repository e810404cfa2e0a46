"""What is newer never comes before what is older, however long it takes to find out where it goes."""

from typing import Any

import pytest

from hs.engine import Engine
from tests.outbound.outhouse import OutHouse, idle
from tests.rooms.conftest import ALICE, BOB
from tests.rooms.making import make_room

pytestmark = pytest.mark.timeout(120)

THERE, ELSEWHERE = "there.example", "elsewhere.example"


def entry(state: str, user_id: str = ALICE) -> dict[str, Any]:
    """What a user is, as in m.presence."""
    return {"user_id": user_id, "presence": state}


def states(house: OutHouse, server: str, user_id: str = ALICE) -> list[str]:
    """What the server was told that a user is, in order."""
    told = house.receivers.edus(server, "m.presence")
    return [one["presence"] for content in told for one in content["push"] if one["user_id"] == user_id]


async def test_the_newest_presence_is_told_last(house: OutHouse, engine: Engine) -> None:
    known, unknown = await make_room(engine), await make_room(engine)
    await house.add_members(known, THERE)
    await house.add_members(unknown, THERE, ELSEWHERE)
    # Of one room it must be looked up who is in it, of the other it is known.
    await house.room_servers.list_servers(known)
    house.ephemeral.on_presence([entry("online")], {ALICE: [known.room_nid, unknown.room_nid]})
    house.ephemeral.on_presence([entry("unavailable")], {ALICE: [known.room_nid]})
    for server in (THERE, ELSEWHERE):
        await house.receivers.wait_until(lambda server=server: "unavailable" in states(house, server))
    await idle(house.deliveries)
    assert states(house, THERE)[-1] == states(house, ELSEWHERE)[-1] == "unavailable"


async def test_who_begins_and_stops_typing_at_once_is_not_typing(house: OutHouse, engine: Engine) -> None:
    room = await make_room(engine)
    await house.add_members(room, THERE)
    for is_typing in (True, False, True, False):
        house.ephemeral.on_typing(room.room_nid, ALICE, is_typing)
    house.ephemeral.on_typing(room.room_nid, BOB, is_typing=True)
    await house.receivers.wait_until(
        lambda: any(one["user_id"] == BOB for one in house.receivers.edus(THERE, "m.typing"))
    )
    told = [one["typing"] for one in house.receivers.edus(THERE, "m.typing") if one["user_id"] == ALICE]
    assert told[-1] is False


async def test_a_server_that_comes_into_a_room_is_told_who_is_there(house: OutHouse, engine: Engine) -> None:
    room = await make_room(engine)
    await house.add_members(room, THERE, ELSEWHERE)
    house.ephemeral.on_new_server(THERE, [entry("online"), entry("online", f"@bob:{ELSEWHERE}")])
    house.ephemeral.on_presence([entry("unavailable")], {ALICE: [room.room_nid]})
    await house.receivers.wait_until(lambda: states(house, THERE) and states(house, ELSEWHERE))
    await idle(house.deliveries)
    # The newest state is everybody's, and what others' users are is not ours to tell.
    assert states(house, THERE)[-1] == states(house, ELSEWHERE)[-1] == "unavailable"
    assert not states(house, THERE, f"@bob:{ELSEWHERE}")
