"""Requests under way: who wants what somebody else is just being given waits for that, for a while."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

# Who asks a slow server must not hold up those who could ask another one.
PATIENCE_S: Final = 2.0


@dataclass(eq=False, slots=True)
class _Flight(Generic[T]):
    task: asyncio.Task[T]
    waiting: int = 0


class Flights(Generic[K, T]):
    """Joins requests by what they ask for; as many are remembered as are under way."""

    def __init__(self) -> None:
        self._under_way: dict[K, _Flight[T]] = {}

    async def join(self, key: K) -> T | None:
        """What others are given who ask for it now.

        None where nobody does, or where that fails or takes too long: then it is for the caller to ask. Of many who
        wait, the first to go on may `run` its own request, and the others join that one.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + PATIENCE_S
        while (flight := self._under_way.get(key)) is not None:
            flight.waiting += 1
            try:
                await asyncio.wait({flight.task}, timeout=until - loop.time())
            finally:
                await _leave(flight)
            task = flight.task
            if not task.done():
                return None
            if not task.cancelled() and task.exception() is None:
                return task.result()
        return None

    async def run(self, key: K, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What `ask` returns or raises; others may join it.

        Who is cancelled leaves it to those who have joined. Where nobody is left it ends.
        """
        flight = self._under_way[key] = _Flight(asyncio.create_task(ask(), name=f"request {key}"))
        flight.waiting = 1
        flight.task.add_done_callback(lambda _: self._end(key, flight))
        try:
            return await asyncio.shield(flight.task)
        finally:
            await _leave(flight)

    def _end(self, key: K, flight: _Flight[T]) -> None:
        if self._under_way.get(key) is flight:
            del self._under_way[key]


async def _leave(flight: _Flight[Any]) -> None:
    flight.waiting -= 1
    if not flight.waiting and not flight.task.done():
        flight.task.cancel()
        # Nothing goes on behind the back of who is the last to leave.
        await asyncio.wait({flight.task})
