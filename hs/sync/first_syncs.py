"""First syncs, which are long work: few at a time, and not done again for a client that gave up waiting.

A client whose connection broke asks once more for the same. It finds the work going on, or done.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable

# First syncs that are built at the same time; the others wait, and live traffic gets its share.
_AT_ONCE = 8
# How long an answer waits for its client to come back.
_KEPT_S = 60.0


class FirstSyncs:
    """Runs first syncs in tasks of their own, by what was asked for."""

    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Task[bytes]] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)

    def __len__(self) -> int:
        """How many are running or wait for their client."""
        return len(self._running)

    async def run(self, request: Hashable, build: Callable[[], Awaitable[bytes]]) -> bytes:
        """The answer: of the same request before, where nobody has got that yet, or a new one."""
        task = self._running.get(request)
        if task is None:
            task = self._running[request] = asyncio.create_task(self._build(build), name="first sync")
            task.add_done_callback(lambda done: self._keep_for_a_while(request, done))
        answer = await asyncio.shield(task)
        self._drop(request, task)
        return answer

    async def close(self) -> None:
        """Give up what is running."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _build(self, build: Callable[[], Awaitable[bytes]]) -> bytes:
        async with self._turns:
            return await build()

    def _keep_for_a_while(self, request: Hashable, task: asyncio.Task[bytes]) -> None:
        # Asking for the exception keeps asyncio quiet where nobody is left to raise it for.
        if task.cancelled() or task.exception() is not None:
            self._drop(request, task)
        else:
            asyncio.get_running_loop().call_later(_KEPT_S, self._drop, request, task)

    def _drop(self, request: Hashable, task: asyncio.Task[bytes]) -> None:
        if self._running.get(request) is task:
            del self._running[request]
