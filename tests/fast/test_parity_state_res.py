"""The compiled state resolution answers as its twin does."""

from random import Random
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hs._fast.event_auth
import hs._fast.event_auth_ref
import hs._fast.state_res
import hs._fast.state_res_ref
from hs._fast import state_tree
from tests.random_rooms import random_room
from tests.room_builder import RoomBuilder

AUTH = {"kernel": hs._fast.event_auth, "twin": hs._fast.event_auth_ref}
RES = {"kernel": hs._fast.state_res, "twin": hs._fast.state_res_ref}


def test_same_names() -> None:
    assert RES["kernel"].__all__ == RES["twin"].__all__


def _records(auth: ModuleType, room: RoomBuilder) -> dict[int, Any]:
    records = {}
    for event in room.events:
        pdu, old = event.pdu, event.record
        refs = pdu["prev_events"]
        records[event.nid] = auth.make_record(
            room.version.number,
            event.nid,
            event.event_id,
            pdu["type"],
            pdu.get("state_key"),
            pdu["sender"],
            room.room_id,
            pdu["origin_server_ts"],
            pdu["depth"],
            pdu["content"],
            old.auth_nids,
            prev_event_ids=[ref[0] for ref in refs] if room.version.has_reference_pairs else refs,
            rejected=event.rejected is not None,
        )
    return records


class _Case:
    """A resolution of some of a random room's states, for either implementation."""

    def __init__(self, room: RoomBuilder, rng: Random) -> None:
        self.room = room
        chosen = rng.sample([e for e in room.events if not e.rejected], rng.choice([2, 2, 3]))
        roots = [event.root for event in chosen]
        rows = state_tree.conflicted(roots)
        self.conflicted = {nid for _, nids in rows for nid in nids if nid}
        states = [{nid for _, nid in state_tree.items(root)} for root in roots]
        common = set.intersection(*states)
        self.extra = set(room.graph.difference([s - common for s in states], common.intersection))
        if room.version.room_id_is_create_hash and self.conflicted:
            self.extra |= set(room.graph.conflicted_subgraph(self.conflicted))
        conflicted_ixs = {ix for ix, _ in rows}
        self.unconflicted = {
            room.by_nid[nid].key: nid for ix, nid in state_tree.items(roots[0]) if ix not in conflicted_ixs
        }

    def run(self, kind: str, step_by_step: bool) -> list[int]:
        records = _records(AUTH[kind], self.room)
        given: dict[int, Any] = {} if step_by_step else records

        def lookup(keys: list[tuple[str, str]]) -> list[int]:
            assert len(set(keys)) == len(keys)
            return [self.unconflicted.get(key, 0) for key in keys]

        while True:
            try:
                return RES[kind].resolve(self.room.version.number, self.conflicted, self.extra, lookup, given)
            except RES[kind].Missing as missing:
                ids = missing.ids
            assert step_by_step
            assert ids == sorted(set(ids) - given.keys())
            given.update({nid: records[nid] for nid in ids})


@settings(max_examples=80)
@given(st.integers(0, 2**32), st.sampled_from(["1", "2", "6", "9", "11", "12", "12"]), st.booleans())
def test_resolve(seed: int, version_id: str, step_by_step: bool) -> None:
    rng = Random(seed)
    room = random_room(rng, version_id, 60)
    for _ in range(6):
        case = _Case(room, rng)
        assert case.run("kernel", step_by_step) == case.run("twin", step_by_step)


@pytest.mark.parametrize("kind", RES)
def test_nothing_conflicts(kind: str) -> None:
    def lookup(keys: list[tuple[str, str]]) -> list[int]:
        raise AssertionError("not needed")

    assert RES[kind].resolve(10, [], [1, 2], lookup, {}) == []


@pytest.mark.parametrize("kind", RES)
@pytest.mark.parametrize("version", [1, 2, 12])
def test_all_unknown_candidates_are_named_at_once(kind: str, version: int) -> None:
    with pytest.raises(RES[kind].Missing) as caught:
        RES[kind].resolve(version, [5, 3], [9] if version > 1 else [], lambda keys: [], {})
    assert caught.value.ids == ([3, 5, 9] if version > 1 else [3, 5])
