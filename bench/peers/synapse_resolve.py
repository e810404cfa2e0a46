"""Resolves states with Synapse: run by an interpreter that has matrix-synapse, never imported by ours.

    python synapse_resolve.py CASES.json < /dev/null

CASES.json: [{"room_version", "events": [{"event_id", "pdu", "rejected"}], "states": [[event_id]],
"auth_difference": [event_id], "subgraph": [event_id] or null before v12, "rounds": int}].
Prints for each case one line of JSON:
{"resolved": [[type, state_key, event_id]], "seconds": [float]}. The store answers from memory, the auth
difference is given: only `resolve_events_with_store` is timed.
"""

import asyncio
import json
import sys
import time
from typing import Any

import synapse.event_auth  # noqa: F401 (first: synapse.state imports it in a circle)
from synapse.api.room_versions import KNOWN_ROOM_VERSIONS
from synapse.events import make_event_from_dict
from synapse.state.v1 import resolve_events_with_store as resolve_v1
from synapse.state.v2 import resolve_events_with_store
from synapse.storage.databases.main.event_federation import StateDifference


class _Clock:
    async def sleep(self, duration: Any) -> None:
        return None


class _Store:
    def __init__(self, events: dict[str, Any], difference: set[str], subgraph: set[str] | None) -> None:
        self._events, self._difference, self._subgraph = events, difference, subgraph

    async def get_events(self, event_ids: Any, allow_rejected: bool = False) -> dict[str, Any]:
        found = {event_id: self._events[event_id] for event_id in event_ids}
        return {k: e for k, e in found.items() if allow_rejected or not e.rejected_reason}

    async def get_auth_chain_difference(self, *args: Any) -> StateDifference:
        return StateDifference(set(self._difference), None if self._subgraph is None else set(self._subgraph))


def _run(case: dict[str, Any]) -> dict[str, Any]:
    version = KNOWN_ROOM_VERSIONS[case["room_version"]]
    events = {
        event["event_id"]: make_event_from_dict(
            event["pdu"], version, rejected_reason="auth_error" if event.get("rejected") else None
        )
        for event in case["events"]
    }
    assert all(event_id == event.event_id for event_id, event in events.items())
    states = [
        {(events[event_id].type, events[event_id].state_key): event_id for event_id in state}
        for state in case["states"]
    ]
    room_id = next(iter(events.values())).room_id
    store = _Store(
        events, set(case["auth_difference"]), None if case["subgraph"] is None else set(case["subgraph"])
    )
    seconds, resolved = [], {}

    async def get_events(event_ids: Any) -> dict[str, Any]:
        return await store.get_events(event_ids, allow_rejected=True)

    for _ in range(case.get("rounds", 1)):
        start = time.perf_counter()
        if case["room_version"] == "1":
            resolved = asyncio.run(resolve_v1(room_id, version, states, None, get_events))
        else:
            resolved = asyncio.run(resolve_events_with_store(_Clock(), room_id, version, states, None, store))
        seconds.append(time.perf_counter() - start)
    return {
        "resolved": sorted([type, key, event_id] for (type, key), event_id in resolved.items()),
        "seconds": seconds,
    }


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        cases = json.load(file)
    for case in cases:
        print(json.dumps(_run(case)))
