"""Nothing that a server is to have is lost: not by outages, crashes or full queues; and servers wait for nobody."""

import asyncio

import pytest

from hs.engine import Engine
from hs.matrix.tokens import RoomPosition
from hs.outbound.queues import MAX_WAITING
from hs.rooms.commit import INSTANCE
from hs.rooms.drafts import Committed, Draft
from hs.storage.rooms import RoomInfo
from tests.outbound.outhouse import OutHouse, idle
from tests.rooms.conftest import ALICE
from tests.rooms.making import make_room, message

pytestmark = pytest.mark.timeout(120)

THERE, ELSEWHERE = "there.example", "elsewhere.example"


async def count_rows(house: OutHouse, table: str) -> int:
    """How many rows a table has."""
    count: int = await house.database.fetchval(f"SELECT count(*) FROM {table}")
    return count


async def set_membership(engine: Engine, room: RoomInfo, user_id: str, membership: str) -> None:
    """Alice invites somebody or wants them out."""
    draft = Draft("m.room.member", ALICE, {"membership": membership}, state_key=user_id)
    await engine.writer.send(room, draft)


async def forget_what_arrived(house: OutHouse) -> None:
    """Let THERE go on with a request that its sender has given up, and forget all requests."""
    await house.receivers.release(THERE)
    await house.receivers.wait_until(lambda: house.receivers.texts(THERE))
    house.receivers.taken.clear()


async def test_an_event_goes_to_five_hundred_servers_and_writes_no_row_for_each(
    house: OutHouse, engine: Engine
) -> None:
    room = await make_room(engine)
    servers = [f"s{number}.example" for number in range(500)]
    await house.add_members(room, *servers)
    await house.say(room, "to all")
    await house.receivers.wait_until(lambda: len(house.receivers.taken) == 500)
    assert all(house.receivers.texts(name) == ["to all"] for name in servers)
    await idle(house.deliveries)
    assert house.deliveries.counts == (0, 0, 0)
    await house.progress.save()
    assert await house.behind() == {}
    assert await count_rows(house, "outbound_rooms") == 1
    position = await house.database.fetchval("SELECT stream_ordering FROM outbound_position")
    assert position == engine.stream.current


async def test_a_server_that_was_down_for_an_hour_catches_up_newest_room_first(
    house: OutHouse, engine: Engine
) -> None:
    rooms = [await make_room(engine) for _ in range(3)]
    for room in rooms:
        await house.add_members(room, THERE)
    house.receivers.down.add(THERE)
    for number in range(5):
        for index, room in enumerate(rooms):
            await house.say(room, f"{index}: {number}")
    await idle(house.deliveries)
    await house.fail_until_given_up()
    # Nothing is kept of it but how far it has come, and nothing more is written for what it misses now.
    assert house.deliveries.counts == (0, 0, 0)
    await house.progress.save()
    before = await house.behind()
    await house.say(rooms[0], "0: newest")
    await house.progress.save()
    assert await house.behind() == before
    assert set(before) == {THERE}
    assert house.deliveries.counts == (0, 0, 0)

    house.clock.time_ms += 3_600_000
    house.receivers.down.clear()
    house.deliveries.look()
    await house.receivers.wait_until(lambda: "1: 4" in house.receivers.texts(THERE))
    assert house.receivers.texts(THERE) == ["0: newest", "2: 4", "1: 4"]
    await idle(house.deliveries)
    await house.progress.save()
    assert await house.behind() == {}
    await house.say(rooms[1], "live again")
    await house.receivers.wait_until(lambda: house.receivers.texts(THERE)[-1] == "live again")
    assert len(house.receivers.texts(THERE)) == 4


async def test_a_server_that_speaks_to_us_is_tried_at_once(house: OutHouse, engine: Engine) -> None:
    room = await make_room(engine)
    await house.add_members(room, THERE)
    house.receivers.down.add(THERE)
    await house.say(room, "missed")
    await idle(house.deliveries)
    await house.fail_until_given_up()
    house.receivers.down.clear()
    house.clock.time_ms += 5_000
    house.backoff.woken(THERE)
    await house.receivers.wait_until(lambda: house.receivers.texts(THERE) == ["missed"])


async def test_a_transaction_that_failed_keeps_its_id(house: OutHouse, engine: Engine) -> None:
    room = await make_room(engine)
    await house.add_members(room, THERE)
    house.receivers.stalled.add(THERE)
    house.receivers.down.add(THERE)
    await house.say(room, "first")
    [queue] = house.deliveries.queues
    await house.receivers.wait_until(lambda: house.receivers.stalling)
    failed = queue.transaction
    assert failed is not None
    await house.receivers.release(THERE)
    await idle(house.deliveries)
    await house.say(room, "second")
    house.receivers.down.clear()
    house.clock.time_ms += 15_000
    house.deliveries.look()
    await house.receivers.wait_until(lambda: "second" in house.receivers.texts(THERE))
    first, second = house.receivers.taken[THERE]
    assert (first.txn_id, first.texts, second.texts) == (failed.txn_id, ["first"], ["second"])
    assert first.txn_id != second.txn_id


async def test_what_was_not_sent_before_a_crash_is_sent_after_it(house: OutHouse, engine: Engine) -> None:
    rooms = [await make_room(engine) for _ in range(2)]
    for room in rooms:
        await house.add_members(room, THERE, ELSEWHERE)
    house.receivers.stalled.add(THERE)
    for room in rooms:
        await house.say(room, f"said in {room.room_nid}")
    await house.receivers.wait_until(
        lambda: len(house.receivers.texts(ELSEWHERE)) == 2 and house.receivers.stalling
    )
    await house.progress.save()
    # And one that nobody has even looked at.
    house.is_deaf = True
    await engine.writer.send(rooms[0], message(body="the last"))
    await house.crash()
    await forget_what_arrived(house)
    house.is_deaf = False
    await house.start()
    for name in (THERE, ELSEWHERE):
        await house.receivers.wait_until(lambda name=name: "the last" in house.receivers.texts(name))
    await idle(house.deliveries)
    assert house.receivers.texts(THERE) == ["the last", f"said in {rooms[1].room_nid}"]
    await house.progress.save()
    assert await house.behind() == {}


async def test_who_was_kicked_before_a_crash_hears_of_it_after_it(house: OutHouse, engine: Engine) -> None:
    room = await make_room(engine)
    await house.add_members(room, THERE)
    house.is_deaf = True
    await set_membership(engine, room, f"@bob:{THERE}", "leave")
    await house.crash()
    house.is_deaf = False
    await house.start()
    await house.receivers.wait_until(lambda: house.receivers.taken.get(THERE))
    [pdu] = house.receivers.taken[THERE][0].body["pdus"]
    assert (pdu["state_key"], pdu["content"]["membership"]) == (f"@bob:{THERE}", "leave")
    await idle(house.deliveries)
    assert await count_rows(house, "outbound_farewells") == 0


async def test_who_is_kicked_while_their_server_is_down_hears_of_it_later(
    house: OutHouse, engine: Engine
) -> None:
    room = await make_room(engine)
    await set_membership(engine, room, f"@bob:{THERE}", "invite")
    await house.add_members(room, THERE)
    house.receivers.down.add(THERE)
    await house.say(room, "before")
    await idle(house.deliveries)
    await house.fail_until_given_up()
    await set_membership(engine, room, f"@bob:{THERE}", "leave")
    await house.say(room, "after")
    house.receivers.down.clear()
    house.clock.time_ms += 3_600_000
    house.deliveries.look()
    await house.receivers.wait_until(lambda: house.receivers.taken.get(THERE))
    await idle(house.deliveries)
    pdus = [pdu for sent in house.receivers.taken[THERE] for pdu in sent.body["pdus"]]
    assert [pdu["content"].get("membership") for pdu in pdus] == ["leave"]
    await house.progress.save()
    assert await house.behind() == {}


async def test_a_clean_end_writes_down_who_lacks_what(house: OutHouse, engine: Engine) -> None:
    room = await make_room(engine)
    await house.add_members(room, THERE, ELSEWHERE)
    house.receivers.stalled.add(THERE)
    await house.say(room, "hello")
    await house.receivers.wait_until(lambda: house.receivers.texts(ELSEWHERE) and house.receivers.stalling)
    # Its answer may be on its way.
    await asyncio.gather(*(task for task in house.deliveries._tasks if task.get_name().endswith(ELSEWHERE)))
    await house.sender.close()
    assert set(await house.behind()) == {THERE}
    await forget_what_arrived(house)
    await house.start()
    await house.receivers.wait_until(lambda: house.receivers.texts(THERE) == ["hello"])
    await idle(house.deliveries)
    # Who had it is not sent it again.
    assert not house.receivers.texts(ELSEWHERE)


async def test_a_server_that_is_too_slow_gets_the_newest(house: OutHouse, engine: Engine) -> None:
    room = await make_room(engine)
    await house.add_members(room, THERE)
    house.receivers.stalled.add(THERE)
    await house.say(room, "first")
    await house.receivers.wait_until(lambda: house.receivers.stalling)
    for number in range(MAX_WAITING + 20):
        await engine.writer.send(room, message(body=f"{number}"))
    await house.sender.settle()
    assert house.deliveries.counts[1] < MAX_WAITING
    await house.receivers.release(THERE)
    last = f"{MAX_WAITING + 19}"
    await house.receivers.wait_until(lambda: last in house.receivers.texts(THERE))
    assert house.receivers.texts(THERE)[0] == "first"
    assert len(house.receivers.texts(THERE)) < MAX_WAITING
    await idle(house.deliveries)
    await house.progress.save()
    assert await house.behind() == {}


async def test_a_commit_of_which_nobody_knows_is_looked_up(house: OutHouse, engine: Engine) -> None:
    room = await make_room(engine)
    await house.add_members(room, THERE)
    house.is_deaf = True
    await engine.writer.send(room, message(body="perhaps"))
    lost = Committed(room, RoomPosition(INSTANCE, engine.stream.current), 0, (), is_uncertain=True)
    house.sender.on_commit(lost)
    await house.receivers.wait_until(lambda: house.receivers.texts(THERE) == ["perhaps"])


async def test_a_server_that_refuses_is_not_asked_again_and_again(house: OutHouse, engine: Engine) -> None:
    room = await make_room(engine)
    await house.add_members(room, THERE)
    house.receivers.refusing.add(THERE)
    for number in range(5):
        await house.say(room, f"{number}")
        await idle(house.deliveries)
    assert house.receivers.attempts == 1
    house.receivers.refusing.clear()
    house.clock.time_ms += 61_000
    house.deliveries.look()
    await house.receivers.wait_until(lambda: house.receivers.texts(THERE) == ["4"])


async def test_a_server_that_has_refused_is_tried_when_it_speaks_a_minute_later(
    house: OutHouse, engine: Engine
) -> None:
    room = await make_room(engine)
    await house.add_members(room, THERE)
    house.receivers.refusing.add(THERE)
    await house.say(room, "0")
    for _ in range(6):
        await idle(house.deliveries)
        house.clock.time_ms += 3600_000
        house.deliveries.look()
    await idle(house.deliveries)
    assert house.receivers.attempts == 7
    house.receivers.refusing.clear()
    # Next it would be asked in an hour. A server that starts anew may refuse a thing or two.
    house.clock.time_ms += 50_000
    house.backoff.woken(THERE)
    await idle(house.deliveries)
    assert house.receivers.attempts == 7
    house.clock.time_ms += 11_000
    house.backoff.woken(THERE)
    await house.receivers.wait_until(lambda: house.receivers.texts(THERE) == ["0"])


async def test_what_is_no_server_name_is_passed_over(house: OutHouse, engine: Engine) -> None:
    room = await make_room(engine)
    await house.add_members(room, "", "no server", "a:b:c", THERE)
    await house.say(room, "hello")
    await house.receivers.wait_until(lambda: house.receivers.texts(THERE) == ["hello"])
    await house.crash()
    await house.start()
    await house.say(room, "again")
    await house.receivers.wait_until(lambda: "again" in house.receivers.texts(THERE))
    await idle(house.deliveries)
    assert set(house.receivers.taken) == {THERE}
    await house.progress.save()
    assert await house.behind() == {}
