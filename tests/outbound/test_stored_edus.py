"""EDUs that must arrive do: in order, with what caused them or not at all, over outages and crashes."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from hs.engine import Engine
from hs.storage.outbound_edus import OutboundEduStore
from tests.outbound.outhouse import OutHouse, idle
from tests.rooms.making import make_room

pytestmark = pytest.mark.timeout(120)

THERE, ELSEWHERE = "there.example", "elsewhere.example"
KIND = "m.direct_to_device"


def content(number: int) -> dict[str, Any]:
    """One that is told apart by its id."""
    return {
        "message_id": f"m{number}",
        "messages": {},
        "sender": "@alice:hs.test",
        "type": "org.example.kind",
    }


async def add(house: OutHouse, numbers: Sequence[int], *servers: str) -> None:
    """Have these wait for the servers, each in a transaction of its own."""
    for number in numbers:
        async with house.database.write() as writer:
            await house.stored_edus.add(writer, servers, KIND, content(number))


def taken(house: OutHouse, server: str) -> list[int]:
    """The numbers of those that the server has taken, in order."""
    return [int(one["message_id"][1:]) for one in house.receivers.edus(server, KIND)]


async def count_stored(house: OutHouse) -> int:
    count: int = await house.database.fetchval("SELECT count(*) FROM outbound_edus")
    return count


async def test_all_arrive_in_order_and_are_forgotten_then(house: OutHouse) -> None:
    await add(house, range(250), THERE, "no server", "hs.test")
    await add(house, [250], THERE, ELSEWHERE)
    await house.receivers.wait_until(lambda: len(taken(house, THERE)) >= 251 and taken(house, ELSEWHERE))
    assert (taken(house, THERE), taken(house, ELSEWHERE)) == ([*range(251)], [250])
    assert all(len(sent.body["edus"]) <= 100 for sent in house.receivers.taken[THERE])
    await idle(house.deliveries)
    assert await count_stored(house) == 0
    assert house.deliveries.counts == (0, 0, 0)
    assert not house.stored_edus.servers


async def test_what_is_rolled_back_is_not_sent(house: OutHouse) -> None:
    with pytest.raises(ZeroDivisionError):
        async with house.database.write() as writer:
            await house.stored_edus.add(writer, [THERE], KIND, content(1))
            raise ZeroDivisionError
    await add(house, [2], THERE)
    await house.receivers.wait_until(lambda: taken(house, THERE))
    await idle(house.deliveries)
    assert taken(house, THERE) == [2]


async def test_they_go_with_the_events_of_a_server_that_was_away(house: OutHouse, engine: Engine) -> None:
    room = await make_room(engine)
    await house.add_members(room, THERE)
    house.receivers.down.add(THERE)
    await house.say(room, "missed")
    await idle(house.deliveries)
    await house.fail_until_given_up()
    await add(house, range(3), THERE)
    # Of a server that does not answer nothing is in memory but its name.
    assert house.deliveries.counts == (0, 0, 0)
    house.receivers.down.clear()
    house.clock.time_ms += 3_600_000
    house.deliveries.look()
    await house.receivers.wait_until(lambda: taken(house, THERE))
    await idle(house.deliveries)
    assert (house.receivers.texts(THERE), taken(house, THERE)) == (["missed"], [0, 1, 2])
    assert await count_stored(house) == 0


async def test_a_server_that_is_down_for_these_alone_is_tried_again(house: OutHouse) -> None:
    house.receivers.down.add(THERE)
    await add(house, range(3), THERE)
    await idle(house.deliveries)
    await house.fail_until_given_up()
    assert await count_stored(house) == 3
    house.receivers.down.clear()
    house.clock.time_ms += 6_000
    house.backoff.woken(THERE)
    await house.receivers.wait_until(lambda: len(taken(house, THERE)) == 3)
    await idle(house.deliveries)
    assert await count_stored(house) == 0


async def test_a_crash_loses_none_and_what_comes_twice_is_recognised(house: OutHouse) -> None:
    house.receivers.stalled.add(THERE)
    await add(house, [1], THERE)
    await house.receivers.wait_until(lambda: house.receivers.stalling)
    await add(house, [2, 3], THERE)
    # The first was sent, and nobody here will ever hear that it has arrived.
    await house.crash()
    await house.receivers.release(THERE)
    await house.receivers.wait_until(lambda: taken(house, THERE) == [1])
    await house.start()
    await house.receivers.wait_until(lambda: 3 in taken(house, THERE))
    await idle(house.deliveries)
    assert taken(house, THERE) == [1, 1, 2, 3]
    assert await count_stored(house) == 0


async def test_a_server_that_refuses_many_gets_fewer_at_once(house: OutHouse) -> None:
    house.receivers.refusing.add(THERE)
    await add(house, range(100), THERE)
    await house.receivers.wait_until(lambda: house.receivers.attempts)
    await idle(house.deliveries)
    house.receivers.refusing.clear()
    house.clock.time_ms += 61_000
    house.deliveries.look()
    await house.receivers.wait_until(lambda: len(taken(house, THERE)) >= 100)
    await idle(house.deliveries)
    assert len(house.receivers.taken[THERE][0].body["edus"]) <= 50
    assert taken(house, THERE) == [*range(100)]


async def test_beyond_the_bound_the_oldest_are_dropped(house: OutHouse) -> None:
    store = OutboundEduStore(house.database)
    for number in range(5):
        async with house.database.write() as writer:
            await store.insert(writer, [ELSEWHERE, THERE] if number % 2 else [THERE], b"%d" % number, keep=3)
    assert [one.edu for one in await store.list_next(THERE, 10, 1_000)] == [b"2", b"3", b"4"]
    assert [one.edu for one in await store.list_next(ELSEWHERE, 10, 1_000)] == [b"1", b"3"]
    # One at least, however long it is.
    assert len(await store.list_next(THERE, 10, 0)) == 1
    assert await store.list_servers() == [ELSEWHERE, THERE]


async def test_who_writes_later_comes_later(house: OutHouse) -> None:
    store = OutboundEduStore(house.database)
    async with asyncio.TaskGroup() as tasks, house.database.write() as writer:
        await store.insert(writer, [THERE], b"first", keep=10)

        async def follow() -> None:
            async with house.database.write() as other:
                await store.insert(other, [THERE], b"second", keep=10)

        following = tasks.create_task(follow())
        # It waits for the first, whose transaction is open.
        await _wait_for_a_lock(house)
        assert not following.done()
        assert await store.list_next(THERE, 10, 1_000) == []
    assert [one.edu for one in await store.list_next(THERE, 10, 1_000)] == [b"first", b"second"]


async def _wait_for_a_lock(house: OutHouse) -> None:
    """Return once somebody waits for one."""
    query = (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database ="
        " (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    for _ in range(10_000):
        if await house.database.fetchval(query):
            return
    raise AssertionError("nobody waits")
