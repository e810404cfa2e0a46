"""Canonical JSON of a member event and of 60 KB events against the package canonicaljson.

    pytest bench/micro/test_canonical_json.py

The peer is measured in the same run; the ratio is in `extra_info`. orjson with sorted keys is there for
orientation only: it checks neither numbers nor depth, and keeps the UTF-8 form of text between runs.
"""

import random
import timeit
from collections.abc import Callable
from typing import Any

import canonicaljson
import orjson
import pytest

from hs._fast import canonical_json


def member_event() -> dict[str, Any]:
    """A join as it comes over federation, 790 bytes, keys in no order."""
    return {
        "type": "m.room.member",
        "room_id": "!OGEhHVWSdvArJzumhm:example.org",
        "sender": "@alice:example.org",
        "state_key": "@alice:example.org",
        "content": {
            "membership": "join",
            "displayname": "Alice Liddell",
            "avatar_url": "mxc://example.org/aBcDeFgHiJkLmNoP",
        },
        "depth": 12345,
        "origin": "example.org",
        "origin_server_ts": 1_700_000_000_000,
        "prev_events": ["$" + "b" * 43],
        "auth_events": ["$" + c * 43 for c in "cdef"],
        "hashes": {"sha256": "x" * 43},
        "signatures": {"example.org": {"ed25519:auto": "s" * 86}},
        "unsigned": {"age": 1234},
    }


def long_message() -> dict[str, Any]:
    text = 'Lorem ipsum dolor sit amet, "consectetur" adipiscing elit.\n' * 480
    html = text.replace("\n", "<br>\n")
    content = {"msgtype": "m.text", "body": text, "format": "org.matrix.custom.html", "formatted_body": html}
    return member_event() | {"type": "m.room.message", "content": content}


def power_levels(*, is_sorted: bool) -> dict[str, Any]:
    """2,300 users with power, in wire order of a canonical sender, or as somebody's dict had them."""
    users = [
        f"@{name}{n}:example.org" for n in range(460) for name in ("alice", "bob", "carol", "dave", "eve")
    ]
    users.sort() if is_sorted else random.Random(1).shuffle(users)
    content = {"ban": 50, "users": {user: i % 101 for i, user in enumerate(users)}}
    return member_event() | {"type": "m.room.power_levels", "content": content}


def japanese_message() -> dict[str, Any]:
    return member_event() | {"content": {"msgtype": "m.text", "body": "不思議の国のアリス、" * 2000}}


CASES: dict[str, Callable[[], dict[str, Any]]] = {
    "member event": member_event,
    "60 KB message": long_message,
    "60 KB power levels, sorted": lambda: power_levels(is_sorted=True),
    "60 KB power levels, shuffled": lambda: power_levels(is_sorted=False),
    "60 KB Japanese message": japanese_message,
}


def best_us(work: Callable[[], object]) -> float:
    timer = timeit.Timer(work)
    number, _ = timer.autorange()
    number = max(1, number // 10)
    return min(timer.repeat(5, number)) / number * 1e6


@pytest.mark.parametrize("case", CASES)
def test_encode(benchmark: Any, case: str) -> None:
    event = CASES[case]()
    encoded = benchmark(canonical_json.encode, event)
    assert encoded == canonicaljson.encode_canonical_json(event)
    own_us = best_us(lambda: canonical_json.encode(event))
    peer_us = best_us(lambda: canonicaljson.encode_canonical_json(event))
    orjson_us = best_us(lambda: orjson.dumps(event, option=orjson.OPT_SORT_KEYS))
    benchmark.extra_info |= {
        "bytes": len(encoded),
        "peer": "canonicaljson",
        "peer_us": round(peer_us, 2),
        "orjson_us": round(orjson_us, 2),
        "ratio": round(peer_us / own_us, 1),
    }
    print(
        f"\n{case}, {len(encoded)} bytes: {own_us:.2f} us; canonicaljson: {peer_us:.2f} us; "
        f"{peer_us / own_us:.1f}x (orjson {orjson_us:.2f} us)"
    )
