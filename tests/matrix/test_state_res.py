"""State resolution: disputes with outcomes reasoned in words, and what holds for every room."""

from itertools import permutations
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hs._fast import auth_graph, event_auth, state_res, state_tree
from hs._fast.auth_graph import AuthGraph
from hs.matrix.room_versions import ROOM_VERSIONS
from hs.matrix.state_res import MissingKeys, Resolved, StateResolution, resolve_states
from tests.disputes import Dispute, Expectation, load_disputes
from tests.random_rooms import random_room
from tests.room_builder import BuiltEvent, RoomBuilder

DISPUTES = load_disputes()


def _check(expectation: Expectation, found: dict[tuple[str, str], str]) -> None:
    for key, label in expectation.state.items():
        assert found.get(key) == label, expectation.why


@pytest.mark.parametrize("expectation", DISPUTES, ids=str)
class TestDisputes:
    def test_at_once(self, expectation: Expectation) -> None:
        dispute = Dispute(expectation)
        refused = {label for label, event in dispute.events.items() if event.rejected}
        assert refused == expectation.rejected
        roots = dispute.roots()
        _check(expectation, dispute.resolve(roots))

    def test_the_order_of_the_states_does_not_matter(self, expectation: Expectation) -> None:
        dispute = Dispute(expectation)
        answers = [dispute.resolve(roots) for roots in permutations(dispute.roots())]
        assert all(answer == answers[0] for answer in answers)

    def test_the_same_state_again_changes_nothing(self, expectation: Expectation) -> None:
        dispute = Dispute(expectation)
        roots = dispute.roots()
        assert dispute.resolve([*roots, *roots]) == dispute.resolve(roots)

    @pytest.mark.parametrize("seed", range(4))
    def test_event_by_event(self, expectation: Expectation, seed: int) -> None:
        """In whatever order the events arrive: numbers and the way there differ, the outcome does not."""
        dispute = Dispute(expectation, Random(seed))
        assert {e.event_id for e in dispute.room.events} == {
            e.event_id for e in Dispute(expectation).room.events
        }
        _check(expectation, dispute.resolve(dispute.roots()))


@pytest.mark.parametrize(
    "expectation",
    [e for e in DISPUTES if all(isinstance(state, str) for state in e.text["resolve"])],
    ids=str,
)
def test_a_dispute_as_the_state_before_the_next_event(expectation: Expectation) -> None:
    dispute = Dispute(expectation)
    prev = [dispute.events[label] for label in dispute.text["resolve"]]
    message = dispute.room.send("m.room.message", dispute.text["room"]["creator"], {"body": "x"}, prev=prev)
    _check(expectation, dispute.labels(dispute.room.state(message.before)))


def test_every_algorithm_is_disputed() -> None:
    assert {"1", "2", "11", "12"} <= {expectation.version_id for expectation in DISPUTES}


# --- what holds for all rooms


def _two_branches(version_id: str) -> tuple[RoomBuilder, BuiltEvent, BuiltEvent]:
    room = RoomBuilder(version_id)
    start = room.start("@a:x")
    return room, start, room.member("@b:y", "@b:y", "join", prev=[start])


@pytest.mark.parametrize("version_id", ROOM_VERSIONS)
def test_a_state_and_one_that_follows_it(version_id: str) -> None:
    room, start, bob = _two_branches(version_id)
    assert room.resolve([start, bob]) == room.state(bob.root)


@pytest.mark.parametrize("version_id", ROOM_VERSIONS)
def test_equal_states_cost_nothing(version_id: str) -> None:
    room, start, _ = _two_branches(version_id)
    resolution = StateResolution(room.version, [start.root, start.root], AuthGraph())
    assert resolution.run() == Resolved([], {})


@pytest.mark.parametrize("version_id", ROOM_VERSIONS)
def test_both_branches_are_merged(version_id: str) -> None:
    room, start, bob = _two_branches(version_id)
    carol = room.member("@c:z", "@c:z", "join", prev=[start])
    both = room.resolve([bob, carol])
    assert both == {**room.state(bob.root), carol.key: carol}


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.sampled_from(list(ROOM_VERSIONS)))
def test_the_order_of_states_does_not_matter_in_random_rooms(seed: int, version_id: str) -> None:
    rng = Random(seed)
    room = random_room(rng, version_id, 40)
    for _ in range(5):
        chosen = rng.sample([event for event in room.events if not event.rejected], 3)
        answers = [room.resolve(order) for order in permutations(chosen)]
        assert all(answer == answers[0] for answer in answers)


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.sampled_from(list(ROOM_VERSIONS)))
def test_what_all_states_agree_on_stays(seed: int, version_id: str) -> None:
    rng = Random(seed)
    room = random_room(rng, version_id, 40)
    chosen = rng.sample([event for event in room.events if not event.rejected], 3)
    states = [room.state(event.root) for event in chosen]
    resolved = room.resolve(chosen)
    for key, event in states[0].items():
        if all(state.get(key) is event for state in states):
            assert resolved[key] is event
    known = {event for state in states for event in state.values()}
    ancestors = {room.by_nid[nid] for nid in room.graph.auth_chain([event.nid for event in known])}
    assert set(resolved.values()) <= known | ancestors


# --- the steps


def test_a_rejected_auth_event_does_not_stand_in() -> None:
    """Spec, "Iterative auth checks": a missing key is filled in from auth_events unless that was rejected."""
    for rejected, outcome in ((False, [3]), (True, [])):
        # Bob's join cites an invitation that no state has any more.
        def make(
            nid: int,
            type: str,
            sender: str,
            key: str,
            content: dict[str, object],
            auth: list[int],
            **kw: bool,
        ):
            return event_auth.make_record(
                10, nid, f"${nid}", type, key, sender, "!r:x", nid, nid, content, auth, ["$p", "$q"], **kw
            )

        create = event_auth.make_record(
            10, 1, "$1", "m.room.create", "", "@a:x", "!r:x", 1, 1, {"creator": "@a:x"}, ()
        )
        invite = make(2, "m.room.member", "@a:x", "@b:y", {"membership": "invite"}, [1], rejected=rejected)
        join = make(3, "m.room.member", "@b:y", "@b:y", {"membership": "join"}, [1, 2])
        records = {1: create, 2: invite, 3: join}
        found = state_res.resolve(
            10, [3], [], lambda keys: [int(k[0] == "m.room.create") for k in keys], records
        )
        assert found == outcome


def test_missing_things_are_asked_for_in_few_rounds() -> None:
    room = RoomBuilder("10")
    room.start("@a:x")
    bob = room.member("@b:y", "@b:y", "join")
    for level in range(30):
        room.send("m.room.power_levels", "@a:x", {"users": {"@a:x": 100, "@b:y": level}}, state_key="")
    left = room.send("m.room.topic", "@a:x", {"topic": "l"}, state_key="", prev=[room.events[-1]])
    # Bob's server never saw the thirty changes.
    right = room.member("@b:y", "@b:y", "join", prev=[bob], content={"displayname": "b"})
    resolution = StateResolution(room.version, [left.root, right.root], room.graph)
    rounds = 0
    while True:
        rounds += 1
        try:
            resolution.run()
            break
        except MissingKeys as missing:
            resolution.add_keys(missing.keys, room.key_ixs)
        except state_res.Missing as missing:
            resolution.add_records({nid: room.records[nid] for nid in missing.ids})
    assert rounds <= 8


def test_events_that_the_graph_lacks_are_named() -> None:
    room, start, bob = _two_branches("10")
    resolution = StateResolution(room.version, [start.root, bob.root], AuthGraph())
    resolution.add_keys(room.key_ixs, room.key_ixs)
    with pytest.raises(auth_graph.Missing) as caught:
        resolution.run()
    assert caught.value.ids == [bob.nid]


@pytest.mark.parametrize("is_numbered", [True, False])
@pytest.mark.parametrize("version_id", ["2", "11", "12"])
def test_a_key_that_only_the_auth_difference_has(version_id: str, is_numbered: bool) -> None:
    """Spec, "Full conflicted set": an event can come in that only auth chains know, by way of step 4."""
    room = RoomBuilder(version_id)
    start = room.start("@a:x", levels={"state_default": 0})
    bob = room.member("@b:y", "@b:y", "join")
    topics = [
        room.send("m.room.topic", "@b:y", {"topic": "b"}, state_key="", prev=[bob]),
        room.send("m.room.topic", "@a:x", {"topic": "a"}, state_key="", prev=[start]),
    ]
    # Bob's topic without Bob: as a server may have it that was told a wrong state.
    roots = [state_tree.set_many(start.root, [(room.key_ixs[topic.key], topic.nid)]) for topic in topics]
    numbers = {key: ix for key, ix in room.key_ixs.items() if is_numbered or key != bob.key}
    resolved = resolve_states(room.version, roots, room.graph, room.records, numbers)
    assert dict(resolved.changes)[room.key_ixs[topics[0].key]] == topics[1].nid
    if is_numbered:
        assert dict(resolved.changes)[room.key_ixs[bob.key]] == bob.nid
        assert resolved.new_keys == {}
    else:
        assert resolved.new_keys == {bob.key: bob.nid}
