"""Work is done once for all who ask, by one task at a time, and again where it failed."""

import asyncio
import logging

import pytest

from hs.rooms.worker import Worker


class Work:
    """What is to be done, and how often it was."""

    def __init__(self) -> None:
        self.begun = 0
        self.done = 0
        self.failures = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.changed = asyncio.Condition()

    async def __call__(self) -> None:
        self.begun += 1
        await self._tell()
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise ZeroDivisionError("a bug")
        self.done += 1
        await self._tell()

    async def until(self, begun: int = 0, done: int = 0) -> None:
        async with asyncio.timeout(15), self.changed:
            await self.changed.wait_for(lambda: self.begun >= begun and self.done >= done)

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()


async def test_many_who_ask_are_served_together() -> None:
    work = Work()
    worker = Worker("work", work, delay_s=0.01)
    for _ in range(100):
        worker.wake()
    assert worker.is_planned
    await work.until(done=1)
    await worker.settle()
    assert (work.done, worker.is_working, worker.is_planned) == (1, False, False)


async def test_who_asks_while_it_works_is_served_after_that() -> None:
    work = Work()
    work.gate.clear()
    worker = Worker("work", work)
    worker.wake()
    await work.until(begun=1)
    for _ in range(3):
        worker.wake()
        worker.hurry()
    work.gate.set()
    await worker.settle()
    assert work.done == 2


async def test_who_is_in_a_hurry_does_not_wait() -> None:
    work = Work()
    worker = Worker("work", work, delay_s=1000)
    worker.wake()
    worker.hurry()
    await worker.settle()
    assert (work.done, worker.is_planned) == (1, False)


async def test_what_fails_is_in_the_log_and_done_again(caplog: pytest.LogCaptureFixture) -> None:
    work = Work()
    work.failures = 2
    worker = Worker("the work", work, retry_after_s=0.01)
    with caplog.at_level(logging.ERROR):
        worker.wake()
        await work.until(done=1)
    assert work.begun == 3
    # With where it came from: a bug is not to be overlooked.
    assert [record.exc_info is not None for record in caplog.records] == [True, True]
    assert "the work" in caplog.text
    await worker.settle()
    assert not worker.is_planned


async def test_who_waits_and_goes_away_does_not_end_it() -> None:
    work = Work()
    work.gate.clear()
    worker = Worker("work", work)
    worker.wake()
    waiting = asyncio.create_task(worker.settle())
    await work.until(begun=1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    work.gate.set()
    await worker.settle()
    assert work.done == 1


@pytest.mark.parametrize("waits", [True, False])
async def test_after_the_end_nothing_is_done(waits: bool) -> None:
    work = Work()
    work.gate.clear()
    worker = Worker("work", work)
    worker.wake()
    await work.until(begun=1)
    worker.wake()
    closing = asyncio.create_task(worker.close(waits=waits))
    await asyncio.sleep(0)
    work.gate.set()
    await closing
    worker.wake()
    worker.hurry()
    assert (work.begun, work.done) == (1, 1 if waits else 0)
    assert not worker.is_working
    assert not worker.is_planned
