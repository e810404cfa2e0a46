"""First syncs are not done twice for a client that has lost its connection."""

import asyncio

import pytest

from hs.sync.first_syncs import FirstSyncs


class Work:
    """Long work that is counted."""

    def __init__(self) -> None:
        self.begun = 0
        self.may_end = asyncio.Event()

    async def build(self) -> bytes:
        """The number of the run."""
        self.begun += 1
        number = self.begun
        await self.may_end.wait()
        return str(number).encode()


async def begin(first: FirstSyncs, work: Work, request: str = "alice") -> asyncio.Task[bytes]:
    task = asyncio.create_task(first.run(request, work.build))
    begun = work.begun
    while work.begun == begun and not task.done() and len(first) == 0:  # noqa: ASYNC110
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


async def give_up(task: asyncio.Task[bytes]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_who_comes_back_finds_the_work_going_on() -> None:
    first, work = FirstSyncs(), Work()
    await give_up(await begin(first, work))
    again = await begin(first, work)
    work.may_end.set()
    assert await again == b"1"
    assert work.begun == 1
    assert len(first) == 0


async def test_who_comes_back_finds_the_work_done() -> None:
    first, work = FirstSyncs(), Work()
    await give_up(await begin(first, work))
    work.may_end.set()
    while len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert await first.run("alice", work.build) == b"1"
    # What was handed over is gone: the next one is new.
    assert await first.run("alice", work.build) == b"2"
    assert len(first) == 0


async def test_other_requests_are_other_work() -> None:
    first, work = FirstSyncs(), Work()
    work.may_end.set()
    assert {await first.run("alice", work.build), await first.run("bob", work.build)} == {b"1", b"2"}


async def test_a_failure_is_told_and_not_kept() -> None:
    first = FirstSyncs()

    async def fail() -> bytes:
        raise ValueError("no luck")

    with pytest.raises(ValueError, match="no luck"):
        await first.run("alice", fail)
    assert len(first) == 0


async def test_only_so_many_are_built_at_once() -> None:
    first, work = FirstSyncs(), Work()
    tasks = [asyncio.create_task(first.run(number, work.build)) for number in range(20)]
    while work.begun < 8:  # noqa: ASYNC110
        await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)
    assert work.begun == 8
    work.may_end.set()
    await asyncio.gather(*tasks)
    assert work.begun == 20
    await first.close()
