"""Servers that do not answer are left alone, for longer each time; what they say to us ends that at once.

Only failing servers are in memory and in the database, so a restart forgets none and idle ones cost nothing.
"""

import logging
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from cachetools import LRUCache

from hs.matrix.destinations import LAST_RETRY_MS, MIN_WAIT_MS, Failing, fail_again
from hs.net.errors import Unreachable

logger = logging.getLogger(__name__)

# 300 bytes each; one that falls out is tried once more than it need be.
MAX_REMEMBERED: Final = 50_000
# After this long without anybody wanting something of it, a server that failed starts again as a new one.
_FORGOTTEN_MS: Final = 7 * 24 * 3600 * 1000


class Destinations(Protocol):
    """Where failing servers are kept."""

    async def list_failing(self, limit: int) -> list[Failing]:
        """Those that wait longest first, `limit` of them."""

    async def set_failing(self, failing: Failing) -> None:
        """Keep a failure."""

    async def delete_failing(self, server_name: str) -> None:
        """It answers again."""

    async def delete_forgotten(self, before_ts: int) -> None:
        """Drop those that nobody has wanted anything of since they could be asked again, long before."""


class Backoff:
    """Knows whom to leave alone, and until when. `load` before use."""

    def __init__(
        self,
        destinations: Destinations,
        now_ms: Callable[[], int],
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._destinations = destinations
        self._now_ms = now_ms
        self._dice = dice
        self._failing: LRUCache[str, Failing] = LRUCache(MAX_REMEMBERED)
        self._listeners: list[Callable[[str], None]] = []

    async def load(self) -> None:
        """Read who was failing when this server ended."""
        await self._destinations.delete_forgotten(self._now_ms() - _FORGOTTEN_MS)
        # The clock may have been wrong when they were written.
        last_ts = self._now_ms() + 2 * LAST_RETRY_MS
        for failing in await self._destinations.list_failing(MAX_REMEMBERED):
            retry_ts = min(failing.retry_ts, last_ts)
            self._failing[failing.server_name] = replace(failing, retry_ts=retry_ts)

    def on_woken(self, listener: Callable[[str], None]) -> None:
        """Have `listener` called with the name of each server that speaks to us, and may be asked."""
        self._listeners.append(listener)

    def retry_ts(self, server_name: str) -> int:
        """When the server may be asked again, in milliseconds; 0 where it may be now."""
        failing = self._failing.get(server_name)
        if failing is None or failing.retry_ts <= self._now_ms():
            return 0
        return failing.retry_ts

    def failing_since(self, server_name: str) -> int | None:
        """Since when it has not answered, in milliseconds; None where it has, or was not asked."""
        failing = self._failing.get(server_name)
        return None if failing is None else failing.failing_since_ts

    def check(self, server_name: str) -> None:
        """Raise Unreachable where the server is left alone now."""
        if self.retry_ts(server_name):
            raise Unreachable(f"{server_name} did not answer before and is left alone")

    def woken(self, server_name: str) -> None:
        """It has sent us something: it may be asked at once. Whether it answers is still to be seen."""
        failing = self._failing.get(server_name)
        if failing is not None:
            now_ms = self._now_ms()
            if not failing.retry_ts > now_ms >= max(failing.failed_ts + MIN_WAIT_MS, failing.busy_until_ts):
                return
            self._failing[server_name] = replace(failing, retry_ts=now_ms)
        for listener in self._listeners:
            listener(server_name)

    async def failed(self, server_name: str, started_ts: int, wished_ms: int = 0) -> None:
        """A request that began at `started_ts` got no answer. Several that fail together count once.

        `wished_ms`: how long it asked to be left alone, where it did.
        """
        before = self._failing.get(server_name)
        if before is not None and before.retry_ts > started_ts:
            return
        failing = fail_again(server_name, before, self._now_ms(), self._dice(), wished_ms)
        self._failing[server_name] = failing
        await self._destinations.set_failing(failing)

    async def succeeded(self, server_name: str) -> None:
        """It has answered, whatever it was."""
        if self._failing.pop(server_name, None) is not None:
            await self._destinations.delete_failing(server_name)
