"""The auth graph of a room with 60,000 auth events against plain set walks.

    pytest bench/micro/test_auth_graph.py

Each benchmark measures its peer in the same run and puts the ratio into `extra_info`.
"""

import random
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from hs._fast import auth_graph

EVENTS = 60_000


class Room:
    """Joins, changes of members and of power levels; then two branches that differ in ten events."""

    def __init__(self) -> None:
        rng = random.Random(5)
        self.auth: dict[int, tuple[int, ...]] = {1: (), 2: (1,), 3: (1, 2), 4: (1, 2, 3)}
        state: dict[object, int] = {"create": 1, 0: 2, "power": 3, "rules": 4}
        joined = 1
        for nid in range(5, EVENTS - 4):
            dice = rng.random()
            if dice < 0.002:
                self.change(state, "power", nid, 0)
            elif dice < 0.18 and joined > 5:
                self.change(state, rng.randrange(1, joined), nid)
            else:
                self.change(state, joined, nid)
                joined += 1
        left, right = dict(state), dict(state)
        nids = iter(range(EVENTS - 4, EVENTS + 6))
        for user in (11, 12):
            self.change(left, user, next(nids))
        self.change(left, "power", next(nids), 0)
        for user in (13, 14):
            self.change(left, user, next(nids))
        for user in (14, 15, 16, 17, 18):
            self.change(right, user, next(nids))
        self.states = [set(left.values()), set(right.values())]
        self.common = set.intersection(*self.states)
        self.sets = [sorted(state - self.common) for state in self.states]
        self.graph = auth_graph.AuthGraph()
        self.graph.add_many(self.auth.items())

    def change(self, state: dict[object, int], key: object, nid: int, sender: int | None = None) -> None:
        cited = ["create", "power", "rules", key] if sender is None else ["create", "power", sender]
        self.auth[nid] = tuple(state[key] for key in cited if key in state)
        state[key] = nid

    def walk(self, nids: Iterable[int]) -> set[int]:
        """The events and all their ancestors, the plain way."""
        found = set(nids)
        pending = list(found)
        while pending:
            for auth in self.auth[pending.pop()]:
                if auth not in found:
                    found.add(auth)
                    pending.append(auth)
        return found

    def plain_difference(self) -> list[int]:
        chains = [self.walk(state) for state in self.states]
        return sorted(set.union(*chains) - set.intersection(*chains))


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


def report(benchmark: Any, peer: str, peer_us: float, at_least: str = "") -> None:
    own_us = benchmark.stats.stats.min * 1e6
    benchmark.extra_info |= {"peer": peer, "peer_us": round(peer_us, 2), "ratio": round(peer_us / own_us, 1)}
    print(
        f"\n{benchmark.name}: {own_us:.2f} us; {peer}: {peer_us:.1f} us; {peer_us / own_us:.0f}x {at_least}"
    )


def test_difference_of_ten_events(benchmark: Any, room: Room) -> None:
    answer = benchmark(room.graph.difference, room.sets, room.common.intersection)
    assert answer == room.plain_difference()
    report(benchmark, "walking both whole chains", best_us(room.plain_difference, 3), "(at least 200x)")


def test_difference_where_one_side_only_added(benchmark: Any, room: Room) -> None:
    """The candidates go back to the create event; a few questions settle them."""
    common = room.states[1]
    answer = benchmark(room.graph.difference, [room.sets[0], []], common.intersection)
    chain = room.walk(common)
    assert answer == sorted(room.walk(room.sets[0]) - chain)
    report(benchmark, "walking the common chain", best_us(lambda: room.walk(common), 3))


def test_difference_of_10000_events(benchmark: Any, room: Room) -> None:
    nids = list(room.auth)
    common, sets = set(nids[:-10_000]), [nids[-10_000:-5_000], nids[-5_000:]]
    benchmark(room.graph.difference, sets, common.intersection)
    report(benchmark, "walking both whole chains", best_us(room.plain_difference, 3))


def test_worst_case_everything_descends_and_nothing_is_common(benchmark: Any, room: Room) -> None:
    assert benchmark(room.graph.difference, [[1], []], set[int]().intersection) == [1]
    report(benchmark, "walking both whole chains", best_us(room.plain_difference, 3))


def test_chain_of_a_member(benchmark: Any, room: Room) -> None:
    nid = room.sets[0][-1]
    assert benchmark(room.graph.auth_chain, [nid]) == sorted(room.walk([nid]) - {nid})
    report(benchmark, "a set walk", best_us(lambda: room.walk([nid]), 20))


def test_conflicted_subgraph(benchmark: Any, room: Room) -> None:
    benchmark(room.graph.conflicted_subgraph, [*room.sets[0], *room.sets[1], 3])


def test_load(benchmark: Any, room: Room) -> None:
    def load() -> Any:
        graph = auth_graph.AuthGraph()
        graph.add_many(room.auth.items())
        return graph

    graph = benchmark(load)
    per_event = graph.nbytes / len(graph)
    benchmark.extra_info["bytes_per_event"] = per_event
    print(f"\n{len(graph)} events: {per_event:.0f} bytes each, spare room included")
