"""The compiled ranking of backfill points and its twin agree."""

from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hs._fast.extremity_rank as compiled
import hs._fast.extremity_rank_ref as twin

MOST, LEAST = (1 << 63) - 1, -(1 << 63)
HOUR = 3_600_000

int64 = st.integers(LEAST, MOST)
depths = st.one_of(st.integers(0, 30), int64, st.sampled_from([LEAST, MOST]))
attempts = st.one_of(st.integers(0, 12), st.integers(0, MOST))
times = st.one_of(st.integers(0, 600).map(lambda hours: hours * HOUR), st.integers(0, 600 * HOUR), int64)
candidates = st.lists(st.tuples(int64, depths, attempts, times), max_size=60)


@settings(max_examples=300, deadline=None)
@given(candidates, depths, times, st.integers(-1, 70))
def test_ranks(points: list[tuple[int, int, int, int]], depth: int, now_ms: int, limit: int) -> None:
    assert compiled.rank(points, depth, now_ms, limit) == twin.rank(points, depth, now_ms, limit)
    assert compiled.rank(iter(points), depth, now_ms, limit) == twin.rank(iter(points), depth, now_ms, limit)


@settings(max_examples=200, deadline=None)
@given(attempts, times)
def test_times_of_the_next_attempt(failed_attempts: int, last_attempt_ms: int) -> None:
    assert compiled.retry_at(failed_attempts, last_attempt_ms) == twin.retry_at(
        failed_attempts, last_attempt_ms
    )


@pytest.mark.parametrize("kernel", [compiled, twin])
def test_what_is_refused(kernel: ModuleType) -> None:
    with pytest.raises(ValueError):
        kernel.retry_at(-1, 0)
    with pytest.raises(ValueError):
        kernel.rank([(1, 2, -1, 0)], 0, 0, 5)
    with pytest.raises(ValueError):
        kernel.rank([(1, 2, 3)], 0, 0, 5)


def test_both_offer_the_same_names() -> None:
    assert compiled.__all__ == twin.__all__
