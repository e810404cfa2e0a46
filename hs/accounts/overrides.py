"""Limits of single users instead of the configured ones, as an administrator has set them."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from hs.storage.users import UserStore

# An administrator who changes a limit waits this long, and each active user costs one query in it.
_TTL_S = 10.0
_CACHED = 50_000


@dataclass(frozen=True, slots=True)
class Limit:
    """`burst` at once, then `per_second`."""

    per_second: float
    burst: int


class RateLimitOverrides:
    """Finds the limits of single users."""

    def __init__(self, users: UserStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._users = users
        self._clock = clock
        # With the time at which each is to be read again.
        self._cache: dict[str, tuple[float, Limit | None]] = {}

    async def find_override(self, user_id: str) -> Limit | None:
        """The user's own limit, None where there is none; `per_second` 0 means unlimited."""
        now = self._clock()
        cached = self._cache.get(user_id)
        if cached is not None and now < cached[0]:
            return cached[1]
        found = await self._users.find_override(user_id)
        # A burst below one would refuse everything for good.
        override = None if found is None else Limit(found[0], max(found[1], 1))
        if len(self._cache) >= _CACHED:
            self._cache = {user: entry for user, entry in self._cache.items() if now < entry[0]}
            if len(self._cache) >= _CACHED:
                self._cache.clear()
        self._cache[user_id] = (now + _TTL_S, override)
        return override

    def forget_user(self, user_id: str) -> None:
        """Read the user's limit again at the next request."""
        self._cache.pop(user_id, None)
