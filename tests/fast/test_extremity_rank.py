"""The order of backfill points, told on the compiled kernel and on its twin."""

from types import ModuleType

import pytest

import hs._fast.extremity_rank as compiled
import hs._fast.extremity_rank_ref as twin

HOUR = 3_600_000
NOW = 1_000 * HOUR


@pytest.fixture(params=[compiled, twin], ids=["compiled", "twin"])
def kernel(request: pytest.FixtureRequest) -> ModuleType:
    return request.param


def test_the_nearest_comes_first_whatever_the_side(kernel: ModuleType) -> None:
    points = [(1, 100, 0, 0), (2, 58, 0, 0), (3, 47, 0, 0), (4, 52, 0, 0)]
    assert kernel.rank(points, 50, NOW, 10) == [4, 3, 2, 1]
    assert kernel.rank(points, 50, NOW, 2) == [4, 3]
    assert kernel.rank(points, 50, NOW, 0) == []


def test_the_past_comes_before_the_future_at_the_same_distance(kernel: ModuleType) -> None:
    assert kernel.rank([(1, 55, 0, 0), (2, 45, 0, 0), (3, 50, 0, 0)], 50, NOW, 10) == [3, 2, 1]


def test_ties_go_by_number_and_not_by_arrival(kernel: ModuleType) -> None:
    assert kernel.rank([(9, 45, 0, 0), (2, 45, 0, 0), (5, 45, 0, 0)], 50, NOW, 2) == [2, 5]


@pytest.mark.parametrize(("attempts", "hours"), [(1, 2), (2, 4), (7, 128), (8, 256), (9, 256), (1000, 256)])
def test_a_failed_point_rests_for_doubling_hours(kernel: ModuleType, attempts: int, hours: int) -> None:
    assert kernel.retry_at(attempts, NOW) == NOW + hours * HOUR
    assert kernel.rank([(1, 5, attempts, NOW)], 5, NOW + hours * HOUR - 1, 10) == []
    assert kernel.rank([(1, 5, attempts, NOW)], 5, NOW + hours * HOUR, 10) == [1]


def test_a_point_that_never_failed_never_rests(kernel: ModuleType) -> None:
    assert kernel.retry_at(0, NOW) == 0
    assert kernel.rank([(1, 5, 0, NOW + HOUR)], 5, NOW, 10) == [1]


def test_any_iterable_will_do(kernel: ModuleType) -> None:
    points = ((nid, nid, 0, 0) for nid in range(10_000))
    assert kernel.rank(points, 5_000, NOW, 3) == [5_000, 4_999, 5_001]
