"""Reads of one kind that are asked for in the same turn of the event loop, done as one query.

A sync reads its rooms side by side, and many users sync at once: what each of them asks for by a key of
its own costs one round trip for all.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Batcher(Generic[K, V]):
    """Collects keys and loads them together.

    `load` is given different keys, at most `max_size`, and answers for those that it finds. It runs in a
    task of its own: a caller that gives up cancels nobody else.
    """

    def __init__(self, load: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]], max_size: int = 200) -> None:
        self._load = load
        self._max_size = max_size
        self._waiting: dict[K, list[asyncio.Future[V | None]]] = {}
        self._runs: set[asyncio.Task[None]] = set()

    async def get(self, key: K) -> V | None:
        """What was loaded for the key, None where nothing was found. Raises what the load raised."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._start)
        answer: asyncio.Future[V | None] = loop.create_future()
        self._waiting.setdefault(key, []).append(answer)
        return await answer

    def _start(self) -> None:
        waiting, self._waiting = list(self._waiting.items()), {}
        for first in range(0, len(waiting), self._max_size):
            run = asyncio.create_task(self._run(dict(waiting[first : first + self._max_size])))
            self._runs.add(run)
            run.add_done_callback(self._runs.discard)

    async def _run(self, waiting: dict[K, list[asyncio.Future[V | None]]]) -> None:
        try:
            found = await self._load(list(waiting))
        except BaseException as error:
            for answer in _open(waiting):
                if isinstance(error, asyncio.CancelledError):
                    answer.cancel()
                else:
                    answer.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        for key, answers in waiting.items():
            for answer in answers:
                if not answer.done():
                    answer.set_result(found.get(key))


def _open(waiting: Mapping[K, Sequence[asyncio.Future[V | None]]]) -> list[asyncio.Future[V | None]]:
    return [answer for answers in waiting.values() for answer in answers if not answer.done()]
