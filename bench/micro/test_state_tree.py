"""The state tree of a room with 50,000 keys against plain dicts of the same state.

    pytest bench/micro/test_state_tree.py

Each benchmark measures its peer in the same run and puts the ratio into `extra_info`.
"""

import random
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from hs._fast import state_tree

KEYS = 50_000


class Room:
    """A state as a tree and as a dict, and the nodes that a database would hold."""

    def __init__(self) -> None:
        rng = random.Random(7)
        # Most members joined once and in order; a third of them changed their profile or left later.
        self.state = {key_ix: 1_000 + 3 * key_ix + rng.randrange(3) for key_ix in range(KEYS)}
        for key_ix in rng.sample(range(KEYS), KEYS // 3):
            self.state[key_ix] = rng.randrange(200_000, 30_000_000)
        self.rng = rng
        self.ids: Iterator[int] = count(1_000_000)
        self.store = state_tree.NodeStore(1 << 30)
        self.tree = state_tree.set_many(state_tree.EMPTY, self.state.items())
        self.rows = dict(self.commit(self.tree))

    def commit(self, tree: Any) -> list[tuple[int, bytes]]:
        rows = state_tree.pack_new([tree], self.ids)
        self.store.mark_stored([tree])
        return rows

    def changes(self, number: int) -> dict[int, int]:
        return {self.rng.randrange(KEYS): 40_000_000 + self.rng.randrange(10**6) for _ in range(number)}


@pytest.fixture(scope="module")
def room() -> Room:
    return Room()


def best_us(work: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times) * 1e6


def report(benchmark: Any, peer: str, peer_us: float, at_least: int) -> None:
    own_us = benchmark.stats.stats.min * 1e6
    benchmark.extra_info |= {"peer": peer, "peer_us": round(peer_us, 2), "ratio": round(peer_us / own_us, 1)}
    print(
        f"\n{benchmark.name}: {own_us:.2f} us; {peer}: {peer_us:.1f} us; {peer_us / own_us:.0f}x (at least {at_least}x)"
    )


def test_change_one_key(benchmark: Any, room: Room) -> None:
    benchmark(state_tree.set_many, room.tree, [(12_345, 77)])
    report(benchmark, "copying the dict", best_us(room.state.copy, 50), 300)


def test_difference_of_neighbours(benchmark: Any, room: Room) -> None:
    after = {**room.state, 12_345: 77}
    tree = state_tree.set_many(room.tree, [(12_345, 77)])
    assert len(benchmark(state_tree.diff, room.tree, tree)) == 1
    report(
        benchmark,
        "comparing the items of two dicts",
        best_us(lambda: room.state.items() ^ after.items(), 20),
        300,
    )


def test_conflicted_keys_100_changes_apart(benchmark: Any, room: Room) -> None:
    left, right = room.changes(50), room.changes(50)
    trees = [state_tree.set_many(room.tree, changes.items()) for changes in (left, right)]
    states = [room.state | left, room.state | right]
    rows = benchmark(state_tree.conflicted, trees)
    assert len(rows) == len({key for key, _ in states[0].items() ^ states[1].items()})

    def compare() -> None:
        for a, b in (states, states[::-1]):
            {key for key, nid in a.items() if b.get(key) != nid}

    report(benchmark, "comparing two dicts, twice", best_us(compare, 10), 30)


def test_point_look_up(benchmark: Any, room: Room) -> None:
    assert benchmark(state_tree.get, room.tree, 33_333) == room.state[33_333]


def test_bytes_written_by_a_change(benchmark: Any, room: Room) -> None:
    tree = room.tree
    written = []
    for change in room.changes(1_000).items():
        tree = state_tree.set_many(tree, [change])
        written.append(sum(len(blob) for _, blob in room.commit(tree)))
    benchmark.pedantic(lambda: room.commit(state_tree.set_many(tree, [(5, next(room.ids))])), rounds=200)
    benchmark.extra_info |= {"mean_bytes": sum(written) / len(written), "max_bytes": max(written)}
    print(
        f"\na change writes 3 nodes of {sum(written) / len(written):.0f} bytes in all, {max(written)} at most"
    )


def test_full_load(benchmark: Any, room: Room) -> None:
    def load() -> tuple[int, int]:
        store = state_tree.NodeStore(1 << 30)
        tree = store.get(room.tree.id)
        while True:
            try:
                return len(state_tree.items(tree)), store.nbytes
            except state_tree.Missing as missing:
                store.add([(node_id, room.rows[node_id]) for node_id in missing.ids])

    keys, nbytes = benchmark(load)
    assert keys == KEYS
    packed = sum(map(len, room.rows.values()))
    benchmark.extra_info |= {"nbytes": nbytes, "packed": packed}
    print(
        f"\n{KEYS} keys: {nbytes / 1024:.0f} KiB in memory, {packed / 1024:.0f} KiB packed, {len(room.rows)} nodes"
    )
