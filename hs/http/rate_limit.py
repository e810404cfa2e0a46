"""How often one user, one address or one server may do something: token buckets, bounded in memory.

Spec: client-server-api "Rate limiting". Application services are exempt. A user's override from the
database stands for all buckets: so many per second, and 0 switches the limits off for that user.
"""

import ipaddress
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hs.accounts.overrides import Limit as Limit
from hs.matrix.errors import LimitExceeded

# (bucket, user or address) pairs remembered, 200 bytes each; who falls out starts with a full bucket.
REMEMBERED = 100_000


class Overrides(Protocol):
    """Limits of single users."""

    async def find_override(self, user_id: str) -> Limit | None:
        """The user's own limit, None where there is none; `per_second` 0 means unlimited."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float


_Key = tuple[str, str]


class RateLimiter:
    """Counts requests and refuses those beyond the limit."""

    def __init__(
        self,
        is_enabled: bool,
        limit_of: Callable[[str], Limit],
        overrides: Overrides,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._is_enabled = is_enabled
        self._limit_of = limit_of
        self._overrides = overrides
        self._clock = clock
        # Two generations: when the young one is full it becomes the old one, and who is not seen until it
        # is full again falls out. Cheaper than keeping all of them in the order of their use.
        self._young: dict[_Key, _Bucket] = {}
        self._old: dict[_Key, _Bucket] = {}

    async def check_user(self, bucket: str, user_id: str, is_exempt: bool) -> None:
        """Count a request of a user; LimitExceeded where the bucket is empty."""
        if not self._is_enabled or is_exempt:
            return
        override = await self._overrides.find_override(user_id)
        if override is None:
            self._take(bucket, user_id, self._limit_of(bucket))
        elif override.per_second > 0:
            self._take(bucket, user_id, override)

    def check_address(self, bucket: str, address: str) -> None:
        """Count a request of somebody unknown; LimitExceeded where the bucket is empty."""
        if self._is_enabled:
            self._take(bucket, network_of(address), self._limit_of(bucket))

    def check_server(self, bucket: str, server_name: str) -> None:
        """Count a request of another server; LimitExceeded where the bucket is empty."""
        if self._is_enabled:
            self._take(bucket, server_name, self._limit_of(bucket))

    def _take(self, name: str, who: str, limit: Limit) -> None:
        now = self._clock()
        key = (name, who)
        bucket = self._young.get(key)
        if bucket is None:
            bucket = self._old.pop(key, None) or _Bucket(float(limit.burst), now)
            self._remember(key, bucket)
        tokens = bucket.tokens + (now - bucket.filled_at) * limit.per_second
        if tokens > limit.burst:
            tokens = float(limit.burst)
        bucket.filled_at = now
        if tokens < 1:
            bucket.tokens = tokens
            wait_s = (1 - tokens) / limit.per_second
            raise LimitExceeded("too many requests", retry_after_ms=math.ceil(wait_s * 1000))
        bucket.tokens = tokens - 1

    def _remember(self, key: _Key, bucket: _Bucket) -> None:
        if len(self._young) >= REMEMBERED // 2:
            self._old, self._young = self._young, {}
        self._young[key] = bucket


def network_of(address: str) -> str:
    """What counts as one sender: an IPv4 address, or the /64 that an IPv6 host chooses its address from."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)
