"""Requests that are joined: one is enough for all, and nobody depends on it."""

import asyncio

import pytest

from hs.net.errors import RemoteError
from hs.rooms import flights
from hs.rooms.flights import Flights


class Asked:
    """Requests that wait for the test, by who made them."""

    def __init__(self) -> None:
        self.by: dict[str, asyncio.Future[str]] = {}

    async def ask(self, name: str) -> str:
        """Wait."""
        self.by[name] = asyncio.get_running_loop().create_future()
        return await self.by[name]


async def get(joined: Flights[str, str], asked: Asked, name: str) -> str:
    """What one caller is given in the end."""
    return await joined.join("key") or await joined.run("key", lambda: asked.ask(name))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Nobody loses patience."""
    monkeypatch.setattr(flights, "PATIENCE_S", 60.0)
    return Asked()


async def settle() -> None:
    """Let everybody get as far as they can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_many_wait_for_one_answer(asked: Asked) -> None:
    joined: Flights[str, str] = Flights()
    callers = [asyncio.create_task(get(joined, asked, name)) for name in "abc"]
    await settle()
    asked.by["a"].set_result("answer")
    assert await asyncio.gather(*callers) == ["answer"] * 3
    assert list(asked.by) == ["a"]
    # It is not kept.
    again = asyncio.create_task(get(joined, asked, "d"))
    await settle()
    asked.by["d"].set_result("other answer")
    assert await again == "other answer"


async def test_where_one_fails_the_next_asks_and_the_others_join_it(asked: Asked) -> None:
    joined: Flights[str, str] = Flights()
    callers = [asyncio.create_task(get(joined, asked, name)) for name in "abcd"]
    await settle()
    asked.by["a"].set_exception(RemoteError("a is down"))
    with pytest.raises(RemoteError):
        await callers[0]
    await settle()
    assert list(asked.by) == ["a", "b"]
    asked.by["b"].set_result("answer")
    assert await asyncio.gather(*callers[1:]) == ["answer"] * 3


async def test_who_goes_away_ends_nothing_for_the_others(asked: Asked) -> None:
    joined: Flights[str, str] = Flights()
    callers = [asyncio.create_task(get(joined, asked, name)) for name in "abc"]
    await settle()
    for gone in callers[:2]:
        gone.cancel()
    await asyncio.wait(callers[:2])
    asked.by["a"].set_result("answer")
    assert await callers[2] == "answer"
    assert list(asked.by) == ["a"]


async def test_what_nobody_waits_for_ends(asked: Asked) -> None:
    joined: Flights[str, str] = Flights()
    caller = asyncio.create_task(get(joined, asked, "a"))
    await settle()
    caller.cancel()
    await asyncio.wait([caller])
    assert asked.by["a"].cancelled()
    assert caller.cancelled()


async def test_who_loses_patience_asks_for_himself(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    joined: Flights[str, str] = Flights()
    slow = asyncio.create_task(get(joined, asked, "slow"))
    await settle()
    monkeypatch.setattr(flights, "PATIENCE_S", 0.0)
    quick = asyncio.create_task(get(joined, asked, "quick"))
    await settle()
    # A timer of no time takes a turn of its own.
    await asyncio.sleep(0.01)
    await settle()
    asked.by["quick"].set_result("first")
    assert await quick == "first"
    asked.by["slow"].set_result("second")
    assert await slow == "second"
