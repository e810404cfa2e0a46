"""Answers from elsewhere that are remembered for as long as they are good, and asked for once at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from cachetools import LRUCache

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Entry(Generic[V]):
    """What was found, when, and until when it is good; milliseconds."""

    value: V
    found_ts: int
    until_ts: int


class Remembered(Generic[K, V]):
    """At most `size` answers, the least used go first.

    `find(key, last)` finds a new one and says for how many seconds it is good; `last` is what was known before.
    It must not raise: what fails is an answer, too. Whoever waits may go, the answer is finished for the others.
    """

    def __init__(
        self,
        size: int,
        now_ms: Callable[[], int],
        find: Callable[[K, Entry[V] | None], Awaitable[tuple[V, float]]],
    ) -> None:
        self._entries: LRUCache[K, Entry[V]] = LRUCache(size)
        self._under_way: dict[K, asyncio.Task[V]] = {}
        self._now_ms = now_ms
        self._find = find

    async def get(self, key: K) -> V:
        """The answer, old or new."""
        entry = self._entries.get(key)
        if entry is not None and self._now_ms() < entry.until_ts:
            return entry.value
        task = self._under_way.get(key)
        if task is None:
            task = asyncio.create_task(self._renew(key, entry), name="look-up")
            self._under_way[key] = task
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
        return await asyncio.shield(task)

    def peek(self, key: K) -> Entry[V] | None:
        """What is remembered, also if it is good no more."""
        return self._entries.get(key)

    def expire(self, key: K, min_age_s: float) -> None:
        """Ask again when it is wanted next, if it is older than this."""
        entry = self._entries.get(key)
        if entry is not None and self._now_ms() - entry.found_ts >= min_age_s * 1000:
            self._entries[key] = Entry(entry.value, entry.found_ts, 0)

    async def close(self) -> None:
        """End what is under way."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _renew(self, key: K, last: Entry[V] | None) -> V:
        value, good_s = await self._find(key, last)
        now_ts = self._now_ms()
        self._entries[key] = Entry(value, now_ts, now_ts + round(good_s * 1000))
        return value
