"""How many servers a stranger may have us ask for their keys.

Whoever sends us requests in the name of servers that do not exist, or asks our notary for them, makes us look up
names and open connections. Each address has a budget for that; what we know already costs nothing of it.
"""

from collections.abc import Callable
from typing import Final

from cachetools import LRUCache

# A server that joins a large room through us asks for the keys of hundreds of others at once.
BURST: Final = 200
PER_SECOND: Final = 2.0
# Addresses remembered, 200 bytes each; who falls out starts with a full budget.
_REMEMBERED: Final = 20_000


class FetchBudget:
    """A bucket for each address: `BURST` fetches at once, then `PER_SECOND`; without an end where it is not limited."""

    def __init__(self, now_ms: Callable[[], int], *, is_limited: bool = True) -> None:
        self._now_ms = now_ms
        self._is_limited = is_limited
        self._buckets: LRUCache[str, tuple[float, int]] = LRUCache(_REMEMBERED)

    def take(self, address: str, wanted: int) -> int:
        """How many of the wanted fetches the address may have now; they are taken from its budget."""
        if not self._is_limited:
            return wanted
        now_ms = self._now_ms()
        left, since_ms = self._buckets.get(address, (float(BURST), now_ms))
        left = min(float(BURST), left + max(0, now_ms - since_ms) * PER_SECOND / 1000)
        granted = min(wanted, int(left))
        self._buckets[address] = (left - granted, now_ms)
        return granted
