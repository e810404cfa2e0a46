"""Auth records and auth rules: the kernel against its twin, and against decoding the event's JSON.

pytest bench/micro/test_event_auth.py
"""

import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

import hs._fast.event_auth as kernel
import hs._fast.event_auth_ref as twin
from hs._fast import canonical_json

VERSION = 10
A, B, C = "@alice:example.org", "@bob:example.org", "@carol:example.com"
LEVELS = {
    "users": {A: 100, **{f"@user{n}:example.org": 50 for n in range(50)}},
    "events": {"m.room.name": 50},
}


def _state(module: ModuleType) -> dict[tuple[str, str], Any]:
    contents: list[tuple[str, str, str, dict[str, Any]]] = [
        ("m.room.create", A, "", {"creator": A, "room_version": "10"}),
        ("m.room.power_levels", A, "", LEVELS),
        ("m.room.join_rules", A, "", {"join_rule": "public"}),
        ("m.room.member", A, A, {"membership": "join", "displayname": "Alice"}),
        ("m.room.member", B, B, {"membership": "join", "displayname": "Bob"}),
    ]
    return {
        (type, key): _record(module, nid, type, key, sender, content)
        for nid, (type, sender, key, content) in enumerate(contents, 1)
    }


def _record(
    module: ModuleType, nid: int, type: str, key: str | None, sender: str, content: dict[str, Any]
) -> Any:
    event_id = f"${nid:043d}"
    return module.make_record(
        VERSION,
        nid,
        event_id,
        type,
        key,
        sender,
        "!r:example.org",
        1_700_000_000_000,
        nid,
        content,
        [1, 2, 3],
    )


EVENTS = {
    "message": ("m.room.message", None, B, {"body": "x"}),
    "join": ("m.room.member", C, C, {"membership": "join"}),
    "ban": ("m.room.member", B, A, {"membership": "ban"}),
    "power levels": ("m.room.power_levels", "", A, {**LEVELS, "users": {**LEVELS["users"], B: 50}}),
}


def _median(call: Callable[[], object]) -> float:
    times = []
    for _ in range(200):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return sorted(times)[100]


def _tell(benchmark: Any, peer: str, seconds: float) -> None:
    if benchmark.stats is not None:
        benchmark.extra_info[f"times_faster_than_{peer}"] = round(seconds / benchmark.stats.stats.median, 1)


@pytest.mark.parametrize("name", EVENTS)
def test_check_auth_list(benchmark: Any, name: str) -> None:
    calls = []
    for module in (kernel, twin):
        type, key, sender, content = EVENTS[name]
        record = _record(module, 99, type, key, sender, content)
        state = _state(module)
        auth = [state[key] for key in module.list_needed_keys(VERSION, record) if key in state]
        calls.append((module.check_auth_list, VERSION, record, auth))
    function, *arguments = calls[0]
    assert benchmark(function, *arguments) is None
    function, *arguments = calls[1]
    _tell(benchmark, "twin", _median(lambda: function(*arguments)))


@pytest.mark.parametrize("name", ["join", "power levels"])
def test_unpack_record(benchmark: Any, name: str) -> None:
    """A record out of the store, against decoding the PDU with the canonical JSON kernel's peer, json."""
    import json

    type, key, sender, content = EVENTS[name]
    packed = kernel.pack_record(_record(kernel, 99, type, key, sender, content))
    pdu = {
        "type": type, "state_key": key, "sender": sender, "content": content, "room_id": "!r:example.org", "depth": 99,
        "origin_server_ts": 1_700_000_000_000, "prev_events": ["$" + "p" * 43], "auth_events": ["$" + "a" * 43] * 3,
        "hashes": {"sha256": "h" * 43}, "signatures": {"example.org": {"ed25519:a": "s" * 86}},
    }  # fmt: skip
    text = canonical_json.encode(pdu)
    benchmark(kernel.unpack_record, 99, (1, 2, 3), packed)
    benchmark.extra_info["bytes"] = len(packed)
    benchmark.extra_info["pdu_bytes"] = len(text)
    _tell(benchmark, "json", _median(lambda: json.loads(text)))
    _tell(benchmark, "twin", _median(lambda: twin.unpack_record(99, (1, 2, 3), packed)))


def test_make_and_pack_record(benchmark: Any) -> None:
    type, key, sender, content = EVENTS["join"]
    benchmark(lambda: kernel.pack_record(_record(kernel, 99, type, key, sender, content)))
