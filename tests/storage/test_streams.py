"""Stream ids: what readers may believe while transactions overlap."""

import pytest

from hs.storage.database import Database
from hs.storage.streams import NidAllocator, StreamIds


def test_the_current_id_waits_for_earlier_ranges() -> None:
    stream, news = StreamIds(10), []
    early, late = stream.reserve(2), stream.reserve(3)
    first, second = early.__enter__(), late.__enter__()
    first.on_published(lambda: news.append("first"))
    second.on_published(lambda: news.append("second"))
    assert (first.first, first.last, second.first, second.last) == (11, 12, 13, 15)
    late.__exit__(None, None, None)
    assert (stream.current, news) == (10, [])
    early.__exit__(None, None, None)
    assert (stream.current, news) == (15, ["first", "second"])


def test_a_range_that_fails_is_skipped_and_not_announced() -> None:
    stream, news = StreamIds(0), []
    with pytest.raises(RuntimeError), stream.reserve(1) as ids:
        ids.on_published(lambda: news.append("never"))
        raise RuntimeError
    assert (stream.current, news) == (0, [])
    with stream.reserve(1) as ids:
        assert ids.first == 2


async def test_numbers_are_unique_across_allocators(database: Database) -> None:
    one, other = (NidAllocator(database, "event_nids") for _ in range(2))
    taken = await one.take(3) + await other.take(2500) + await one.take(1500)
    assert len(set(taken)) == 4003
    assert min(taken) > 0


def test_a_range_that_fails_warns_in_its_turn() -> None:
    stream, news = StreamIds(0), []
    earlier = stream.reserve(1)
    earlier.__enter__()
    with pytest.raises(RuntimeError), stream.reserve(1) as ids:
        ids.on_published(lambda: news.append("published"))
        ids.on_failed(lambda: news.append(f"failed at {stream.current}"))
        raise RuntimeError
    assert news == []
    earlier.__exit__(None, None, None)
    assert news == ["failed at 1"]
