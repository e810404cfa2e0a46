"""Servers that do not answer are left alone, over restarts, until they speak."""

import asyncio

import pytest

from hs.matrix.destinations import FIRST_RETRY_MS, LAST_RETRY_MS, SPREAD
from hs.net.backoff import Backoff
from hs.net.errors import Unreachable
from hs.storage.database import Database
from hs.storage.destinations import DestinationStore
from tests.net.house import Clock

A, B = "a.example", "b.example"
LONGEST_FIRST_S = FIRST_RETRY_MS * (1 + SPREAD / 2) / 1000
LONGEST_S = LAST_RETRY_MS * (1 + SPREAD / 2) / 1000


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def backoff_of(database: Database, clock: Clock) -> Backoff:
    made = Backoff(DestinationStore(database), clock.now_ms)
    await made.load()
    return made


async def test_a_failing_server_is_left_alone_and_tried_again(database: Database, clock: Clock) -> None:
    backoff = await backoff_of(database, clock)
    backoff.check(A)
    started = clock.now_ms()
    await asyncio.gather(*(backoff.failed(A, started) for _ in range(9)))
    with pytest.raises(Unreachable):
        backoff.check(A)
    backoff.check(B)
    # Requests that failed together count once.
    assert backoff.retry_ts(A) - started <= LONGEST_FIRST_S * 1000 + 1000
    since = backoff.failing_since(A)
    clock.advance(LONGEST_FIRST_S)
    backoff.check(A)
    await backoff.failed(A, clock.now_ms())
    assert backoff.retry_ts(A) - clock.now_ms() > FIRST_RETRY_MS * 2 * (1 - SPREAD / 2) - 1000
    assert backoff.failing_since(A) == since


async def test_a_restart_remembers(database: Database, clock: Clock) -> None:
    backoff = await backoff_of(database, clock)
    for _ in range(20):
        await backoff.failed(A, clock.now_ms())
        clock.advance(LONGEST_S)
    await backoff.failed(A, clock.now_ms())
    again = await backoff_of(database, clock)
    assert again.retry_ts(A) == backoff.retry_ts(A) > 0
    assert again.failing_since(A) == backoff.failing_since(A)
    # Some hours at most; and who is not wanted for a week starts anew.
    assert again.retry_ts(A) - clock.now_ms() <= LONGEST_S * 1000
    clock.advance(8 * 24 * 3600)
    assert (await backoff_of(database, clock)).failing_since(A) is None


async def test_who_answers_is_forgotten(database: Database, clock: Clock) -> None:
    backoff = await backoff_of(database, clock)
    await backoff.failed(A, clock.now_ms())
    await backoff.succeeded(A)
    await backoff.succeeded(B)
    backoff.check(A)
    assert (await backoff_of(database, clock)).failing_since(A) is None


async def test_who_speaks_is_asked_at_once_but_not_each_time(database: Database, clock: Clock) -> None:
    backoff = await backoff_of(database, clock)
    woken: list[str] = []
    backoff.on_woken(woken.append)
    for _ in range(8):
        await backoff.failed(A, clock.now_ms())
        clock.advance(LONGEST_S)
    await backoff.failed(A, clock.now_ms())
    backoff.woken(A)
    assert woken == []
    # Who does not fail may have refused something.
    backoff.woken(B)
    assert woken == [B]
    clock.advance(6)
    backoff.woken(A)
    backoff.woken(A)
    assert woken == [B, A]
    backoff.check(A)
    # It speaks, but does not answer.
    await backoff.failed(A, clock.now_ms())
    backoff.woken(A)
    with pytest.raises(Unreachable):
        backoff.check(A)
