"""The compiled auth graph and its twin agree: on chains, differences, subgraphs and on what is refused."""

from collections.abc import Callable
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hs._fast.auth_graph as compiled
import hs._fast.auth_graph_ref as twin

Edges = list[tuple[int, tuple[int, ...]]]


@st.composite
def rooms(draw: st.DrawFn, size: int = 90) -> Edges:
    """Events of a graph in an order that works; nids do not follow it."""
    nids = draw(
        st.lists(
            st.one_of(st.integers(1, 300), st.integers(-(1 << 63), (1 << 63) - 1)), unique=True, max_size=size
        )
    )
    nids = [nid for nid in nids if nid]
    fan = draw(st.integers(0, 4))
    near = draw(st.booleans())  # long chains, or edges to anywhere
    edges = []
    for at, nid in enumerate(nids):
        known = nids[max(0, at - 3) : at] if near else nids[:at]
        auth = draw(st.lists(st.sampled_from(known), max_size=fan)) if known else []
        edges.append((nid, tuple(auth)))
    return edges


def build(kernel: ModuleType, edges: Edges) -> Any:
    graph = kernel.AuthGraph()
    graph.add_many(edges)
    return graph


def outcome(call: Callable[[], object]) -> object:
    try:
        return call()
    except (twin.Missing, compiled.Missing) as missing:
        return "missing", missing.ids, str(missing)
    except ValueError as error:
        return "refused", str(error)


@settings(max_examples=120, deadline=None)
@given(rooms(), st.data())
def test_chains_and_subgraphs(edges: Edges, data: st.DataObject) -> None:
    fast, slow = build(compiled, edges), build(twin, edges)
    known = [nid for nid, _ in edges]
    nids = data.draw(st.lists(st.sampled_from(known) if known else st.just(1), max_size=8))
    nids += data.draw(st.sampled_from([[], [], [10**12, 7]]))
    assert len(fast) == len(slow)
    assert fast.list_unknown(nids) == slow.list_unknown(nids)
    for name in ("auth_chain", "conflicted_subgraph"):
        assert outcome(lambda: getattr(fast, name)(nids)) == outcome(lambda: getattr(slow, name)(nids))  # noqa: B023
    for nid in nids:
        assert (nid in fast) is (nid in slow)
        assert outcome(lambda: fast.list_auth(nid)) == outcome(lambda: slow.list_auth(nid))  # noqa: B023


@settings(max_examples=300, deadline=None)
@given(rooms(), st.data())
def test_the_auth_difference(edges: Edges, data: st.DataObject) -> None:
    known = [nid for nid, _ in edges]
    subsets = st.lists(st.sampled_from(known), max_size=9).map(set) if known else st.just(set())
    states = data.draw(st.lists(subsets, max_size=4))
    common = data.draw(subsets) if data.draw(st.booleans()) else set()
    states = [state | common for state in states]
    common = set.intersection(*states) if states else set()
    sets = [sorted(state - common) for state in states]
    answers = []
    for kernel in (compiled, twin):
        asked: list[int] = []

        def find_common(nids: list[int], asked: list[int] = asked) -> set[int]:
            asked += nids
            return common.intersection(nids)

        answers.append(build(kernel, edges).difference(sets, find_common))
        assert len(asked) == len(set(asked))
        assert not set().union(*sets) & set(asked)
    assert answers[0] == answers[1]
    # The definition: full chains, the events themselves included.
    graph = build(twin, edges)
    chains = [state | set(graph.auth_chain(state)) for state in states]
    assert answers[0] == (sorted(set().union(*chains) - set.intersection(*chains)) if chains else [])


@settings(max_examples=150, deadline=None)
@given(rooms(40), st.randoms(use_true_random=False), st.integers(1, 5), st.booleans())
def test_additions_in_any_order_and_with_gaps(edges: Edges, random: Any, parts: int, is_gappy: bool) -> None:
    events = edges + edges[:3]
    random.shuffle(events)
    if is_gappy:
        events = events[: len(events) * 3 // 4]
    fast, slow = compiled.AuthGraph(), twin.AuthGraph()
    size = len(events) // parts + 1
    for at in range(0, len(events), size):
        part = events[at : at + size]
        assert outcome(lambda: fast.add_many(part)) == outcome(lambda: slow.add_many(part))  # noqa: B023
        assert len(fast) == len(slow)
    for nid, auth in events[:6]:
        assert outcome(lambda: fast.add(nid, auth)) == outcome(lambda: slow.add(nid, auth))  # noqa: B023
    known = [nid for nid, _ in events if nid in slow]
    assert all(nid in fast for nid in known)
    assert len(fast) == len(slow) == len(set(known))
    for nid in known:
        assert fast.list_auth(nid) == slow.list_auth(nid)
        assert fast.auth_chain([nid]) == slow.auth_chain([nid])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.lists(st.integers(0, 7), max_size=3)), max_size=8))
def test_cycles_and_strangers_are_refused_alike(events: Any) -> None:
    fast, slow = compiled.AuthGraph(), twin.AuthGraph()
    for part in (events, events[:2], events[2:]):
        assert outcome(lambda: fast.add_many(part)) == outcome(lambda: slow.add_many(part))  # noqa: B023
        assert len(fast) == len(slow)


def test_a_long_chain_needs_no_recursion() -> None:
    nids = list(range(1, 30_001))
    edges = [(1, ()), *((b, (a,)) for a, b in pairwise(nids))]
    graph = build(compiled, edges[::-1])
    assert graph.auth_chain([30_000]) == nids[:-1]
    assert graph.conflicted_subgraph([1, 30_000]) == nids
    assert graph.difference([[30_000], []], {29_000}.intersection) == nids[29_000:]
    # Only the newest event is common: the whole chain above the candidate is searched for it.
    assert graph.difference([[5], []], {30_000}.intersection) == []
    assert graph.difference([[5], []], {4}.intersection) == [5]


def test_find_common_cannot_change_the_graph() -> None:
    graph = build(compiled, [(1, ()), (2, (1,)), (3, (1,))])
    with pytest.raises(RuntimeError, match="during a walk"):
        graph.difference([[2], []], lambda nids: graph.add(9, []) or [])
    graph.difference([[2], []], lambda nids: [])
    graph.add(9, [])
    with pytest.raises(ZeroDivisionError):
        graph.difference([[2], []], lambda nids: 1 / 0)
    graph.add(10, [])


def test_both_offer_the_same_names() -> None:
    assert compiled.__all__ == twin.__all__
    for kernel in (compiled, twin):
        public = {entry for entry in dir(kernel.AuthGraph) if not entry.startswith("_")}
        assert public == {entry for entry in vars(twin.AuthGraph) if not entry.startswith("_")}
