"""The event record against a dict of the same event: memory, one field, client JSON.

    pytest bench/micro/test_event_record.py -s

The event is a member event of a large room. Peers are measured in the same run; ratios are in `extra_info`.
"""

import json
import operator
import timeit
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import msgpack
import msgspec
import pytest

from hs._fast import event_record
from hs.storage.event_cache import EventCache

EVENTS = 20_000
FIELDS = (
    "event_nid", "room_nid", "stream_ordering", "depth", "origin_server_ts", "flags", "state_id", "replaces_nid",
    "redacted_by_nid", "event_id", "room_id", "type", "sender", "state_key", "redacts", "txn_id", "txn_device_id",
    "content_json", "prev_event_ids", "auth_event_ids",
)  # fmt: skip


def event_id(number: int) -> str:
    return f"${number:043d}"


def make_pdu(number: int) -> dict[str, Any]:
    user_id = f"@some_user_{number}:example.org"
    return {
        "auth_events": [event_id(i) for i in range(4)],
        "content": {
            "avatar_url": "mxc://example.org/AbCdEfGhIjKlMnOpQrStUvWx",
            "displayname": f"Some User {number}",
            "membership": "join",
        },
        "depth": 100_000 + number,
        "hashes": {"sha256": "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"},
        "origin_server_ts": 1_700_000_000_000 + number,
        "prev_events": [event_id(number - 1)],
        "room_id": "!0123456789abcdefghijklmnopqrstuvwxyzABCDEFG",
        "sender": user_id,
        "signatures": {"example.org": {"ed25519:a_AbCd": "s" * 86}},
        "state_key": user_id,
        "type": "m.room.member",
    }


def make_fields(number: int) -> dict[str, Any]:
    pdu = make_pdu(number)
    return {
        "event_nid": 5_000_000 + number,
        "room_nid": 77,
        "stream_ordering": 5_000_000 + number,
        "depth": pdu["depth"],
        "origin_server_ts": pdu["origin_server_ts"],
        "flags": 0,
        "state_id": 9_000_000 + number,
        "replaces_nid": 4_000_000 + number,
        "redacted_by_nid": 0,
        "event_id": event_id(number),
        "room_id": pdu["room_id"],
        "type": pdu["type"],
        "sender": pdu["sender"],
        "state_key": pdu["state_key"],
        "redacts": None,
        "txn_id": None,
        "txn_device_id": None,
        "content_json": json.dumps(pdu["content"], separators=(",", ":")).encode(),
        "prev_event_ids": pdu["prev_events"],
        "auth_event_ids": pdu["auth_events"],
    }


def make_dict(number: int) -> dict[str, Any]:
    """What a server keeps that caches decoded events: the PDU and its own few fields."""
    fields = make_fields(number)
    event: dict[str, Any] = msgspec.json.decode(json.dumps(make_pdu(number)))
    internal = (
        "event_nid",
        "room_nid",
        "stream_ordering",
        "flags",
        "state_id",
        "replaces_nid",
        "redacted_by_nid",
    )
    return event | {"event_id": fields["event_id"]} | {name: fields[name] for name in internal}


def best_ns(statement: str, **names: Any) -> float:
    """Nanoseconds of one run of the statement, the best of several series."""
    timer = timeit.Timer(statement, globals=names)
    return min(timer.repeat(7, 20_000)) / 20_000 * 1e9


def report(benchmark: Any, peers: dict[str, float], own_ns: float) -> None:
    for peer, peer_ns in peers.items():
        benchmark.extra_info[peer] = {"peer_ns": round(peer_ns), "ratio": round(peer_ns / own_ns, 1)}
        print(
            f"\n{benchmark.name}: {own_ns:.0f} ns; {peer}: {peer_ns:.0f} ns; {peer_ns / own_ns:.1f}x", end=""
        )
    print()


def traced_bytes(build: Callable[[], object]) -> tuple[object, int]:
    tracemalloc.start()
    try:
        kept = build()
        return kept, tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


async def load_nothing(event_nids: Any) -> dict[int, bytes]:
    return {}


def test_memory_of_a_cached_member_event(benchmark: Any) -> None:
    def fill() -> EventCache:
        cache = EventCache(load_nothing, 1 << 40)
        for number in range(EVENTS):
            cache.put(5_000_000 + number, event_record.pack(**make_fields(number)))
        return cache

    dicts, dict_bytes = traced_bytes(
        lambda: OrderedDict((5_000_000 + i, make_dict(i)) for i in range(EVENTS))
    )
    cache, own_bytes = traced_bytes(fill)
    assert isinstance(dicts, dict)
    assert isinstance(cache, EventCache)
    data = event_record.pack(**make_fields(0))
    own, peer, counted = own_bytes / EVENTS, dict_bytes / EVENTS, cache.nbytes / EVENTS
    benchmark.extra_info |= {
        "record_bytes": len(data),
        "cached_bytes": round(own),
        "counted_bytes": round(counted),
        "dict_bytes": round(peer),
        "ratio": round(peer / own, 2),
    }
    print(
        f"\nrecord {len(data)} B, cached {own:.0f} B (counted {counted:.0f}); dict {peer:.0f} B; {peer / own:.1f}x"
    )
    benchmark(event_record.EventRecord, data)


@pytest.mark.parametrize(
    "name", ["event_nid", "flags", "type", "state_key", "content_json", "auth_event_ids"]
)
def test_decode_of_one_field(benchmark: Any, name: str) -> None:
    record = event_record.EventRecord(event_record.pack(**make_fields(7)))
    pdu_json = json.dumps(make_pdu(7)).encode()

    def decode_all() -> list[Any]:
        fields = msgpack.unpackb(record.data)
        return [*fields, msgspec.json.decode(fields[17])]

    found = benchmark(operator.attrgetter(name), record)
    expected = decode_all()[FIELDS.index(name)]
    assert found == (tuple(expected) if name == "auth_event_ids" else expected)
    names = {"record": record, "data": record.data, "pdu_json": pdu_json}
    peers = {
        "all fields and the content": best_ns("decode_all()", decode_all=decode_all),
        "msgpack.unpackb, content left as bytes": best_ns("unpackb(data)", unpackb=msgpack.unpackb, **names),
        "msgspec.json.decode of the PDU": best_ns("decode(pdu_json)", decode=msgspec.json.decode, **names),
        "json.loads of the PDU": best_ns("loads(pdu_json)", loads=json.loads, **names),
    }
    report(benchmark, peers, best_ns(f"record.{name}", **names))


def test_pack(benchmark: Any) -> None:
    fields = make_fields(7)
    values = [fields[name] for name in FIELDS]
    assert benchmark(event_record.pack, **fields) == msgpack.packb(values)
    peer_ns = best_ns("packb(values)", packb=msgpack.packb, values=values)
    own_ns = best_ns("pack(**fields)", pack=event_record.pack, fields=fields)
    report(benchmark, {"msgpack.packb of the list": peer_ns}, own_ns)


def test_client_json(benchmark: Any) -> None:
    event = make_dict(7)
    record = event_record.EventRecord(event_record.pack(**make_fields(7)))
    keys = ("content", "event_id", "origin_server_ts", "room_id", "sender", "state_key", "type")

    def own() -> bytes:
        return event_record.finish_client_json(event_record.client_json(record, True), b"")

    assert benchmark(own) == msgspec.json.encode({key: event[key] for key in keys})
    peers = {
        name: best_ns("encode({key: event[key] for key in keys})", encode=encode, event=event, keys=keys)
        for name, encode in [
            ("msgspec.json.encode of a dict", msgspec.json.encode),
            ("json.dumps of a dict", json.dumps),
        ]
    }
    report(benchmark, peers, best_ns("own()", own=own))
