"""The ranking of 10,000 and of 100,000 backfill points against Python's sorted().

    pytest bench/micro/test_extremity_rank.py

The peer is measured in the same run; the ratio is in `extra_info`.
"""

import random
import time
from typing import Any

import pytest

from hs._fast import extremity_rank

HOUR_MS = 3_600_000
NOW_MS = 1_000 * HOUR_MS
Point = tuple[int, int, int, int]


def make_points(number: int) -> list[Point]:
    rng = random.Random(3)
    return [
        (nid, rng.randrange(1_000_000), rng.choice([0, 0, 0, 1, 4, 9]), NOW_MS - rng.randrange(500) * HOUR_MS)
        for nid in rng.sample(range(10 * number), number)
    ]


def plain(points: list[Point], current_depth: int, now_ms: int, limit: int) -> list[int]:
    ready = [
        (abs(current_depth - depth), depth > current_depth, nid)
        for nid, depth, attempts, last_ms in points
        if not attempts or now_ms >= last_ms + (HOUR_MS << min(attempts, 8))
    ]
    return [nid for _, _, nid in sorted(ready)[:limit]]


@pytest.mark.parametrize("number", [10_000, 100_000])
def test_rank(benchmark: Any, number: int) -> None:
    points = make_points(number)
    wanted = (points, 700_000, NOW_MS, 50)
    assert benchmark(extremity_rank.rank, *wanted) == plain(*wanted)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        plain(*wanted)
        times.append(time.perf_counter() - start)
    own_us, peer_us = benchmark.stats.stats.min * 1e6, min(times) * 1e6
    benchmark.extra_info |= {
        "peer": "sorted()",
        "peer_us": round(peer_us, 1),
        "ratio": round(peer_us / own_us, 1),
    }
    print(f"\n{number} points: {own_us:.0f} us; sorted(): {peer_us:.0f} us; {peer_us / own_us:.0f}x")
