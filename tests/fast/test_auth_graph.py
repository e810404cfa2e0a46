"""What the auth graph promises, told on the compiled kernel and on its twin."""

from types import ModuleType
from typing import Any

import pytest

import hs._fast.auth_graph as compiled
import hs._fast.auth_graph_ref as twin

CREATE, ALICE, POWER, RULES, BOB, CAROL = 1, 2, 3, 4, 5, 6
ROOM = [
    (CREATE, []),
    (ALICE, [CREATE]),
    (POWER, [CREATE, ALICE]),
    (RULES, [CREATE, ALICE, POWER]),
    (BOB, [CREATE, POWER, RULES]),
    (CAROL, [CREATE, POWER, RULES]),
]


@pytest.fixture(params=[compiled, twin], ids=["compiled", "twin"])
def kernel(request: pytest.FixtureRequest) -> ModuleType:
    return request.param


@pytest.fixture
def graph(kernel: ModuleType) -> Any:
    made = kernel.AuthGraph()
    made.add_many(ROOM)
    return made


def test_the_chain_has_the_ancestors_and_not_the_event(graph: Any) -> None:
    assert graph.auth_chain([BOB]) == [CREATE, ALICE, POWER, RULES]
    assert graph.auth_chain([BOB, RULES]) == [CREATE, ALICE, POWER, RULES]
    assert graph.auth_chain([CREATE]) == graph.auth_chain([]) == []
    assert graph.list_auth(BOB) == [CREATE, POWER, RULES]


def test_an_event_needs_its_auth_events(kernel: ModuleType, graph: Any) -> None:
    with pytest.raises(kernel.Missing) as missing:
        graph.add(20, [CREATE, 11, 12])
    assert missing.value.ids == [11, 12]
    assert 20 not in graph
    with pytest.raises(kernel.Missing) as missing:
        graph.auth_chain([BOB, 99, 98])
    assert missing.value.ids == [98, 99]
    assert graph.list_unknown([98, BOB, 99, 98]) == [98, 99]


def test_a_batch_may_come_in_any_order_and_all_or_nothing(kernel: ModuleType) -> None:
    graph = kernel.AuthGraph()
    with pytest.raises(kernel.Missing) as missing:
        graph.add_many([*ROOM[::-1], (7, [BOB, 70])])
    assert missing.value.ids == [70]
    assert len(graph) == 0
    graph.add_many(ROOM[::-1])
    graph.add_many(ROOM)
    assert len(graph) == len(ROOM)
    assert graph.auth_chain([CAROL]) == [CREATE, ALICE, POWER, RULES]


def test_a_cycle_is_refused(kernel: ModuleType, graph: Any) -> None:
    for events in ([(7, [7])], [(7, [8]), (8, [9]), (9, [7, BOB])]):
        with pytest.raises(ValueError, match="cycle"):
            graph.add_many(events)
    assert len(graph) == len(ROOM)


def test_the_difference_of_two_power_level_changes(graph: Any) -> None:
    """Both sides changed the power levels, and one of them a topic under its own."""
    left, right, topic = 11, 12, 13
    graph.add_many(
        [(left, [CREATE, ALICE, POWER]), (right, [CREATE, ALICE, POWER]), (topic, [CREATE, ALICE, left])]
    )
    common = {CREATE, ALICE, RULES, BOB, CAROL}
    assert graph.difference([[left, topic], [right]], common.intersection) == [left, right, topic]


def test_replaced_history_of_one_side_is_in_the_difference(graph: Any) -> None:
    """Carol left and came back on one side only: all her events there differ, none of the shared past."""
    graph.add_many([(11, [CREATE, POWER, CAROL]), (12, [CREATE, POWER, RULES, 11])])
    common = {CREATE, ALICE, POWER, RULES, BOB}
    assert graph.difference([[12], [CAROL]], common.intersection) == [11, 12]
    assert graph.difference([[12], []], common.intersection) == [CAROL, 11, 12]


def test_an_ancestor_of_the_common_state_is_not_in_the_difference(graph: Any) -> None:
    """The old power levels are not in any state any more, but what they allowed is common."""
    new = 11
    graph.add(new, [CREATE, ALICE, POWER])
    common = {CREATE, ALICE, RULES, BOB}
    assert graph.difference([[new], []], common.intersection) == [new]
    assert graph.difference([[new], []], {CREATE, ALICE}.intersection) == [POWER, new]


def test_equal_states_do_not_differ(graph: Any) -> None:
    assert graph.difference([], set) == []
    assert graph.difference([[BOB]], set) == []
    assert graph.difference([[], []], set) == []
    assert graph.difference([[BOB, CAROL], [CAROL, BOB]], set) == []


def test_the_conflicted_subgraph_has_the_events_between(graph: Any) -> None:
    assert graph.conflicted_subgraph([POWER, BOB]) == [POWER, RULES, BOB]
    assert graph.conflicted_subgraph([BOB, CAROL]) == [BOB, CAROL]
    assert graph.conflicted_subgraph([CREATE, CAROL]) == [CREATE, ALICE, POWER, RULES, CAROL]
    assert graph.conflicted_subgraph([]) == []


def test_a_few_questions_find_the_newest_common_descendant() -> None:
    """Everybody who ever joined cites the power levels; one current member settles them."""
    graph = compiled.AuthGraph()
    graph.add_many([*ROOM, *((nid, [CREATE, POWER, RULES]) for nid in range(10, 20_000))])
    graph.add(20_000, [CREATE, ALICE, POWER])
    common = {CREATE, ALICE, RULES, *range(10, 20_000)}
    asked: list[list[int]] = []

    def find_common(nids: list[int]) -> set[int]:
        asked.append(nids)
        return common.intersection(nids)

    assert graph.difference([[20_000], []], find_common) == [20_000]
    assert len(asked) == 2
    assert len(asked[1]) <= 16


def test_an_event_costs_tens_of_bytes() -> None:
    graph = compiled.AuthGraph()
    graph.add_many([*ROOM, *((nid, [CREATE, POWER, RULES]) for nid in range(10, 60_000))])
    assert graph.nbytes / len(graph) < 100
