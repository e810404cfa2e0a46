"""Reads that are asked for together are loaded together."""

import asyncio
from collections.abc import Sequence

import pytest

from hs.storage.batching import Batcher


class Shelf:
    """Squares of positive numbers; remembers how it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def load(self, keys: Sequence[int]) -> dict[int, int]:
        """Waits for the gate, and breaks at 13."""
        self.asked.append(list(keys))
        await self.gate.wait()
        if 13 in keys:
            raise ValueError("thirteen")
        return {key: key * key for key in keys if key > 0}


async def test_what_is_asked_in_one_turn_is_one_load() -> None:
    shelf = Shelf()
    batcher = Batcher(shelf.load)
    assert await asyncio.gather(*(batcher.get(key) for key in (1, 2, 2, -1, 3))) == [1, 4, 4, None, 9]
    assert shelf.asked == [[1, 2, -1, 3]]


async def test_a_later_question_is_a_later_load() -> None:
    shelf = Shelf()
    batcher = Batcher(shelf.load)
    assert await batcher.get(1) == await batcher.get(1) == 1
    assert shelf.asked == [[1], [1]]


async def test_a_large_batch_is_cut() -> None:
    shelf = Shelf()
    batcher = Batcher(shelf.load, max_size=4)
    assert await asyncio.gather(*map(batcher.get, range(1, 11))) == [n * n for n in range(1, 11)]
    assert [len(keys) for keys in shelf.asked] == [4, 4, 2]


async def test_who_gives_up_cancels_nobody_else() -> None:
    shelf = Shelf()
    shelf.gate.clear()
    batcher = Batcher(shelf.load)
    first, second, third = (asyncio.create_task(batcher.get(key)) for key in (1, 1, 2))
    while not shelf.asked:  # noqa: ASYNC110
        await asyncio.sleep(0)
    first.cancel()
    third.cancel()
    await asyncio.gather(first, third, return_exceptions=True)
    shelf.gate.set()
    assert await second == 1


async def test_a_failed_load_fails_all_who_asked_and_nobody_later() -> None:
    batcher = Batcher(Shelf().load)
    answers = await asyncio.gather(batcher.get(13), batcher.get(1), return_exceptions=True)
    assert all(isinstance(answer, ValueError) for answer in answers)
    assert await batcher.get(1) == 1
    with pytest.raises(ValueError, match="thirteen"):
        await batcher.get(13)
