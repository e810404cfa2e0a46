"""Work that outlives its client."""

import asyncio

import pytest

from hs.accounts.finishing import Finisher


async def test_a_cancelled_caller_does_not_stop_the_work(caplog: pytest.LogCaptureFixture) -> None:
    finisher, started, go_on, done = Finisher(), asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        started.set()
        await go_on.wait()
        done.set()
        raise RuntimeError("too late to tell")

    caller = asyncio.create_task(finisher.finish(work(), "work"))
    await started.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    go_on.set()
    await done.wait()
    await asyncio.sleep(0)  # the task ends one turn after its last line
    assert "too late to tell" in caplog.text


async def test_who_waits_hears_of_a_failure() -> None:
    async def work() -> None:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        await Finisher().finish(work(), "work")
