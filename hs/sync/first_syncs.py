"""First syncs, which are long work: few at a time, and not done again for a client that gave up waiting.

A client whose connection broke asks once more for the same. It finds the work going on, or done. What nobody
waits for is bounded: the last request of each device, and so many bytes of all.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass

# First syncs that are built at the same time; the others wait, and live traffic gets its share.
_AT_ONCE = 8
# How long an answer waits for its client to come back, and how much of answers waits; the newest does in any case.
_KEPT_S = 60.0
MAX_KEPT_BYTES = 64 * 1024 * 1024


@dataclass(eq=False, slots=True)
class _Work:
    """One first sync, and how many requests wait for it."""

    device: Hashable
    task: asyncio.Task[bytes]
    waiting: int = 0
    # While it runs the timer holds the answer: it ends with it.
    timer: asyncio.TimerHandle | None = None


class FirstSyncs:
    """Runs first syncs in tasks of their own, by what was asked for."""

    def __init__(self, max_kept_bytes: int = MAX_KEPT_BYTES) -> None:
        self._max_kept_bytes = max_kept_bytes
        self._works: dict[Hashable, _Work] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)
        # By device: the request that it has given up last.
        self._given_up: dict[Hashable, Hashable] = {}
        # Sizes of the answers that wait for their clients, oldest first.
        self._kept: dict[Hashable, int] = {}

    def __len__(self) -> int:
        """How many are running or wait for their client."""
        return len(self._works)

    async def run(self, device: Hashable, request: Hashable, build: Callable[[], Awaitable[bytes]]) -> bytes:
        """The answer: of the same request before, where nobody has got that yet, or a new one.

        What the device asked for before, and does not wait for any longer, is given up.
        """
        work = self._works.get(request)
        if work is None:
            task = asyncio.create_task(self._build(build), name="first sync")
            work = self._works[request] = _Work(device, task)
            task.add_done_callback(lambda _: self._keep_for_a_while(request, work))
        work.waiting += 1
        try:
            answer = await asyncio.shield(work.task)
        except asyncio.CancelledError:
            work.waiting -= 1
            self._give_up(request, work)
            raise
        except BaseException:
            work.waiting -= 1
            raise
        work.waiting -= 1
        self._drop(request, work)
        return answer

    async def close(self) -> None:
        """Give up what is running."""
        tasks = [work.task for work in self._works.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _build(self, build: Callable[[], Awaitable[bytes]]) -> bytes:
        async with self._turns:
            return await build()

    def _give_up(self, request: Hashable, work: _Work) -> None:
        """Nobody may be waiting any longer: keep it, and not what the same device has given up before."""
        if work.waiting or self._works.get(request) is not work:
            return
        before = self._given_up.get(work.device)
        self._given_up[work.device] = request
        if before is not None and before != request:
            other = self._works.get(before)
            if other is not None and not other.waiting:
                self._drop(before, other)
                other.task.cancel()

    def _keep_for_a_while(self, request: Hashable, work: _Work) -> None:
        # Asking for the exception keeps asyncio quiet where nobody is left to raise it for.
        if work.task.cancelled() or work.task.exception() is not None:
            self._drop(request, work)
        elif self._works.get(request) is work:
            self._kept[request] = len(work.task.result())
            work.timer = asyncio.get_running_loop().call_later(_KEPT_S, self._drop, request, work)
            while len(self._kept) > 1 and sum(self._kept.values()) > self._max_kept_bytes:
                oldest = next(iter(self._kept))
                self._drop(oldest, self._works[oldest])

    def _drop(self, request: Hashable, work: _Work) -> None:
        if self._works.get(request) is work:
            del self._works[request]
            self._kept.pop(request, None)
            if work.timer is not None:
                work.timer.cancel()
            if self._given_up.get(work.device) == request:
                del self._given_up[work.device]
