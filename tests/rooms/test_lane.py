"""The room lane: order, and every moment at which a task can be cancelled."""

import asyncio

import pytest

from hs.rooms.lane import Lanes

ROOM = 7


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)


def spawn(
    lanes: Lanes, name: str, log: list[str], gate: asyncio.Event, room: int = ROOM
) -> asyncio.Task[None]:
    async def visit() -> None:
        async with lanes.turn(room):
            log.append(name)
            await gate.wait()

    return asyncio.create_task(visit())


async def test_turns_are_taken_in_the_order_of_coming() -> None:
    lanes, log, gate = Lanes(), [], asyncio.Event()
    tasks = [spawn(lanes, name, log, gate) for name in "abcde"]
    await settle()
    assert log == ["a"]
    gate.set()
    await asyncio.gather(*tasks)
    assert log == list("abcde")
    assert len(lanes) == 0


async def test_rooms_do_not_wait_for_each_other() -> None:
    lanes, log, gate = Lanes(), [], asyncio.Event()
    tasks = [spawn(lanes, str(room), log, gate, room) for room in range(3)]
    await settle()
    assert log == ["0", "1", "2"]
    gate.set()
    await asyncio.gather(*tasks)


async def test_a_cancelled_holder_passes_the_turn_on() -> None:
    lanes, log, gate = Lanes(), [], asyncio.Event()
    first, second = spawn(lanes, "a", log, gate), spawn(lanes, "b", log, gate)
    await settle()
    first.cancel()
    await settle()
    assert log == ["a", "b"]
    gate.set()
    await second
    assert first.cancelled()
    assert len(lanes) == 0


async def test_a_cancelled_waiter_leaves_the_line() -> None:
    lanes, log, gate = Lanes(), [], asyncio.Event()
    tasks = [spawn(lanes, name, log, gate) for name in "abc"]
    await settle()
    tasks[1].cancel()
    await settle()
    gate.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert log == ["a", "c"]
    assert len(lanes) == 0


async def test_a_waiter_cancelled_just_as_it_is_woken_passes_the_turn_on() -> None:
    lanes, log = Lanes(), []
    gate_a, gate = asyncio.Event(), asyncio.Event()
    first = spawn(lanes, "a", log, gate_a)
    second, third = spawn(lanes, "b", log, gate), spawn(lanes, "c", log, gate)
    await settle()
    gate_a.set()
    # One step lets `a` leave and wake `b`; `b` has not run yet when it is cancelled.
    await asyncio.sleep(0)
    second.cancel()
    await first
    await settle()
    assert second.cancelled()
    assert log == ["a", "c"]
    gate.set()
    await third
    assert len(lanes) == 0


async def test_a_holder_that_fails_passes_the_turn_on() -> None:
    lanes = Lanes()
    with pytest.raises(RuntimeError, match="broken"):
        async with lanes.turn(ROOM):
            raise RuntimeError("broken")
    async with lanes.turn(ROOM):
        assert len(lanes) == 1
    assert len(lanes) == 0


async def test_holder_and_all_waiters_cancelled_at_once_leave_nothing_behind() -> None:
    lanes, log, gate = Lanes(), [], asyncio.Event()
    tasks = [spawn(lanes, str(i), log, gate) for i in range(50)]
    await settle()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(lanes) == 0
    gate.set()
    await spawn(lanes, "next", log, gate)
    assert log[-1] == "next"
