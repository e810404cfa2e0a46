"""The limiter by itself: what it counts, and what it remembers."""

import pytest

import hs.http.rate_limit
from hs.http.rate_limit import Limit, RateLimiter, network_of
from hs.matrix.errors import LimitExceeded

LIMITS = {"slow": Limit(0.5, 2), "fast": Limit(10, 5)}


class Clock:
    """Time that passes only when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Overrides:
    """Limits of single users."""

    def __init__(self, **limits: Limit) -> None:
        self.limits = limits

    async def find_override(self, user_id: str) -> Limit | None:
        return self.limits.get(user_id)


def make_limiter(clock: Clock, **limits: Limit) -> RateLimiter:
    return RateLimiter(True, LIMITS.__getitem__, Overrides(**limits), clock)


async def count(limiter: RateLimiter, bucket: str, user_id: str, tries: int = 20) -> int:
    """How many requests in a row are let through."""
    for done in range(tries):
        try:
            await limiter.check_user(bucket, user_id, False)
        except LimitExceeded:
            return done
    return tries


async def test_buckets_fill_with_time_but_never_beyond_the_burst() -> None:
    clock = Clock()
    limiter = make_limiter(clock)
    assert await count(limiter, "slow", "alice") == 2
    clock.now += 2
    assert await count(limiter, "slow", "alice") == 1
    clock.now += 1000
    assert await count(limiter, "slow", "alice") == 2


async def test_refused_requests_do_not_push_the_next_chance_away() -> None:
    clock = Clock()
    limiter = make_limiter(clock)
    await count(limiter, "slow", "alice")
    for _ in range(3):
        clock.now += 0.5
        with pytest.raises(LimitExceeded) as refused:
            await limiter.check_user("slow", "alice", False)
    assert refused.value.retry_after_ms == 500
    clock.now += 0.5
    await limiter.check_user("slow", "alice", False)


async def test_buckets_and_users_are_apart() -> None:
    limiter = make_limiter(Clock())
    assert await count(limiter, "slow", "alice") == 2
    assert await count(limiter, "fast", "alice") == 5
    assert await count(limiter, "slow", "bob") == 2


async def test_overrides_stand_for_every_bucket_and_zero_is_no_limit() -> None:
    limiter = make_limiter(Clock(), alice=Limit(1, 7), bob=Limit(0, 1))
    assert await count(limiter, "slow", "alice") == 7
    assert await count(limiter, "fast", "alice") == 7
    assert await count(limiter, "slow", "bob") == 20


async def test_exempt_users_are_not_counted() -> None:
    limiter = make_limiter(Clock())
    for _ in range(10):
        await limiter.check_user("slow", "bridge", True)
    assert await count(limiter, "slow", "bridge") == 2


async def test_nobody_is_counted_where_limits_are_off() -> None:
    limiter = RateLimiter(False, LIMITS.__getitem__, Overrides(), Clock())
    assert await count(limiter, "slow", "alice") == 20


async def test_memory_is_bounded_and_who_comes_back_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hs.http.rate_limit, "REMEMBERED", 100)
    limiter = make_limiter(Clock())
    assert await count(limiter, "slow", "alice") == 2
    for number in range(1000):
        limiter.check_address("slow", f"10.0.{number // 250}.{number % 250}")
        if number % 40 == 0:
            assert await count(limiter, "slow", "alice") == 0
    assert len(limiter._young) + len(limiter._old) <= 100


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unknown", "unknown"),
    ],
)
def test_an_ipv6_host_is_its_network(address: str, network: str) -> None:
    assert network_of(address) == network
