"""First syncs are not done twice for a client that has lost its connection."""

import asyncio
import gc
import weakref

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


async def begin(
    first: FirstSyncs, work: Work, request: str = "alice", device: str = "phone"
) -> asyncio.Task[bytes]:
    task = asyncio.create_task(first.run(device, request, work.build))
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
    assert await first.run("phone", "alice", work.build) == b"1"
    # What was handed over is gone: the next one is new.
    assert await first.run("phone", "alice", work.build) == b"2"
    assert len(first) == 0


async def test_other_requests_are_other_work() -> None:
    first, work = FirstSyncs(), Work()
    work.may_end.set()
    assert {await first.run("phone", "alice", work.build), await first.run("phone", "bob", work.build)} == {
        b"1",
        b"2",
    }


async def test_a_failure_is_told_and_not_kept() -> None:
    first = FirstSyncs()

    async def fail() -> bytes:
        raise ValueError("no luck")

    with pytest.raises(ValueError, match="no luck"):
        await first.run("phone", "alice", fail)
    assert len(first) == 0


async def test_only_so_many_are_built_at_once() -> None:
    first, work = FirstSyncs(), Work()
    tasks = [asyncio.create_task(first.run(number, number, work.build)) for number in range(20)]
    while work.begun < 8:  # noqa: ASYNC110
        await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)
    assert work.begun == 8
    work.may_end.set()
    await asyncio.gather(*tasks)
    assert work.begun == 20
    await first.close()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_of_what_a_device_gives_up_only_the_last_goes_on() -> None:
    first, work = FirstSyncs(), Work()
    for number in range(100):
        await give_up(await begin(first, work, f"filter {number}"))
    await give_up(await begin(first, work, "filter 0", "tablet"))
    await settle()
    assert len(first) == 2
    work.may_end.set()
    again = [first.run("phone", "filter 99", work.build), first.run("tablet", "filter 0", work.build)]
    begun = work.begun
    assert len(set(await asyncio.gather(*again))) == 2
    assert work.begun == begun
    assert len(first) == 0


async def test_what_somebody_waits_for_is_not_given_up() -> None:
    first, work = FirstSyncs(), Work()
    waiting = await begin(first, work, "a")
    second = asyncio.create_task(first.run("phone", "a", work.build))
    await settle()
    await give_up(second)
    await give_up(await begin(first, work, "b"))
    await give_up(await begin(first, work, "c"))
    work.may_end.set()
    assert await waiting == b"1"


async def test_only_so_many_bytes_wait_for_their_clients() -> None:
    first, work = FirstSyncs(max_kept_bytes=5), Work()
    for number in range(10):
        await give_up(await begin(first, work, "all", f"device {number}"))
    requests = [
        asyncio.create_task(first.run(f"device {number}", number, work.build)) for number in range(20)
    ]
    await settle()
    for task in requests:
        await give_up(task)
    work.may_end.set()
    while work.begun < 21:  # noqa: ASYNC110
        await asyncio.sleep(0)
    await settle()
    assert 0 < len(first) <= 5
    await first.close()


async def test_an_answer_that_was_handed_over_is_not_held() -> None:
    first, work = FirstSyncs(), Work()
    client = await begin(first, work)
    [built] = [weakref.ref(task) for task in asyncio.all_tasks() if task.get_name() == "first sync"]
    work.may_end.set()
    await client
    await settle()
    gc.collect()
    assert built() is None
