"""State resolution, 50,000 members, 10,000 of them and the power levels in dispute, against Synapse.

    HS_BENCH_SYNAPSE_PYTHON=/path/to/venv/bin/python pytest bench/micro/test_state_res.py

The variable names an interpreter that has matrix-synapse; without it only our side is measured. Both sides
resolve the same events, all in memory, to the same state (checked). Ours is everything that the engine
does: comparing the two state trees, the auth difference, and the kernel. Synapse's is
`resolve_events_with_store` with the auth difference given for nothing.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.micro.big_room import BigRoom, big_room
from hs._fast import state_res, state_tree
from hs.matrix.room_versions import get_room_version
from hs.matrix.state_res import MissingKeys, Resolved, StateResolution

MEMBERS = 50_000
DISPUTED = 10_000
PEER = Path(__file__).parents[1] / "peers" / "synapse_resolve.py"

Case = tuple[BigRoom, float | None]


def _resolve(room: BigRoom) -> Resolved:
    version = get_room_version(str(room.version))
    return StateResolution(version, room.branches, room.graph, room.records, room.key_ixs).run()


def _resolve_on_demand(room: BigRoom) -> Resolved:
    """With nothing in memory but trees and auth graph: every record is asked for, as the engine does it."""
    resolution = StateResolution(get_room_version(str(room.version)), room.branches, room.graph)
    while True:
        try:
            return resolution.run()
        except MissingKeys as missing:
            resolution.add_keys(missing.keys, room.key_ixs)
        except state_res.Missing as missing:
            resolution.add_records({nid: room.records[nid] for nid in missing.ids})


def _synapse(room: BigRoom, folder: Path) -> tuple[float, list[list[str]]] | None:
    python = os.environ.get("HS_BENCH_SYNAPSE_PYTHON")
    if not python:
        print("HS_BENCH_SYNAPSE_PYTHON is not set: no ratio", file=sys.stderr)
        return None
    states = [{nid for _, nid in state_tree.items(root)} for root in room.branches]
    common = set.intersection(*states)
    conflicted = {nid for _, nids in state_tree.conflicted(room.branches) for nid in nids if nid}
    difference = room.graph.difference([state - common for state in states], common.intersection)
    subgraph = room.graph.conflicted_subgraph(conflicted) if room.version >= 12 else None
    case: dict[str, Any] = {
        "room_version": str(room.version),
        "events": [{"event_id": room.ids[nid], "pdu": pdu} for nid, pdu in room.events.items()],
        "states": [[room.ids[nid] for nid in state] for state in states],
        "auth_difference": [room.ids[nid] for nid in difference],
        "subgraph": None if subgraph is None else [room.ids[nid] for nid in subgraph],
        "rounds": 5,
    }
    path = folder / f"v{room.version}.json"
    path.write_text(json.dumps([case]))
    answer = subprocess.run([python, str(PEER), str(path)], capture_output=True, text=True, check=True)
    result = json.loads(answer.stdout)
    return sorted(result["seconds"])[len(result["seconds"]) // 2], result["resolved"]


@pytest.fixture(scope="module", params=[10, 12], ids=["v2", "v2.1"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    room = big_room(request.param, MEMBERS, DISPUTED)
    peer = _synapse(room, tmp_path_factory.mktemp("synapse"))
    if peer is None:
        return room, None
    tree = state_tree.set_many(room.branches[0], _resolve(room).changes)
    ours = [
        [room.events[nid]["type"], room.events[nid]["state_key"], room.ids[nid]]
        for _, nid in state_tree.items(tree)
    ]
    assert sorted(ours) == peer[1], "Synapse resolves to another state"
    return room, peer[0]


def _tell(benchmark: Any, seconds: float | None) -> None:
    if seconds is not None and benchmark.stats is not None:
        ours = benchmark.stats.stats.median
        benchmark.extra_info["synapse_s"] = round(seconds, 4)
        benchmark.extra_info["times_faster"] = round(seconds / ours, 1)
        print(
            f"\n{benchmark.name}: {ours * 1e3:.1f} ms, Synapse {seconds * 1e3:.0f} ms: {seconds / ours:.1f} times faster"
        )


@pytest.mark.parametrize("how", [_resolve, _resolve_on_demand], ids=["in memory", "on demand"])
def test_large_dispute(benchmark: Any, case: Case, how: Any) -> None:
    room, seconds = case
    resolved = benchmark(how, room)
    assert len(resolved.changes) == DISPUTED + 1
    _tell(benchmark, seconds)


def test_kernel_alone(benchmark: Any, case: Case) -> None:
    room, seconds = case
    rows = state_tree.conflicted(room.branches)
    conflicted = {nid for _, nids in rows for nid in nids if nid}
    unconflicted = {key: state_tree.get(room.branches[0], ix) for key, ix in room.key_ixs.items() if ix < 4}
    del unconflicted["m.room.power_levels", ""]

    def lookup(keys: list[tuple[str, str]]) -> list[int]:
        return [unconflicted[key] for key in keys]

    answer = benchmark(state_res.resolve, room.version, conflicted, (), lookup, room.records)
    assert len(answer) == DISPUTED + 1
    _tell(benchmark, seconds)


@pytest.mark.parametrize("version", [10, 12], ids=["v2", "v2.1"])
def test_small_dispute(benchmark: Any, version: int) -> None:
    """Ten members, two of them in dispute: the usual merge of two branches."""
    room = big_room(version, 10, 2)
    resolved = benchmark(_resolve, room)
    assert len(resolved.changes) == 3
