"""Hashes, event id and bytes to sign of one PDU against canonicaljson with dict copies.

    pytest bench/micro/test_event_hash.py

The peer does what a server in plain Python does: copy the dict without some keys, encode, hash; three
times, since each of the three forms differs. It is measured in the same run; the ratio is in `extra_info`.
"""

import base64
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from canonicaljson import encode_canonical_json

from bench.micro.test_canonical_json import best_us, long_message, member_event, power_levels
from hs._fast import event_hash, event_hash_ref

VERSION = 11

CASES: dict[str, Callable[[], dict[str, Any]]] = {
    "member event": member_event,
    "60 KB message": long_message,
    "60 KB power levels": lambda: power_levels(is_sorted=True),
}


def without(pdu: dict[str, Any], *keys: str) -> dict[str, Any]:
    copy = dict(pdu)
    for key in keys:
        copy.pop(key, None)
    return copy


def unpadded(digest: bytes) -> str:
    return base64.b64encode(digest).decode().rstrip("=")


def plain(pdu: dict[str, Any]) -> tuple[str, bytes, bytes, str]:
    """Content hash, bytes to sign, reference hash and event id, one after the other."""
    unhashed = without(pdu, "unsigned", "signatures", "hashes")
    content_hash = unpadded(hashlib.sha256(encode_canonical_json(unhashed)).digest())
    to_sign = encode_canonical_json(without(event_hash_ref.redact(pdu, VERSION), "signatures", "unsigned"))
    referred = without(event_hash_ref.redact(pdu, VERSION), "signatures", "unsigned")
    reference = hashlib.sha256(encode_canonical_json(referred)).digest()
    event_id = "$" + base64.urlsafe_b64encode(reference).decode().rstrip("=")
    return content_hash, to_sign, reference, event_id


def plain_with_json(pdu: dict[str, Any]) -> tuple[tuple[str, bytes, bytes, str], bytes]:
    """The same and the bytes to store, which hash_pdu gives too."""
    return plain(pdu), encode_canonical_json(without(pdu, "unsigned"))


@pytest.mark.parametrize("case", CASES)
def test_hash_pdu(benchmark: Any, case: str) -> None:
    pdu = CASES[case]()
    found = benchmark(event_hash.hash_pdu, pdu, VERSION)
    parts = (found.content_hash, found.bytes_to_sign, found.reference_hash, found.event_id)
    assert (parts, found.pdu_json) == plain_with_json(pdu)
    own_us = best_us(lambda: event_hash.hash_pdu(pdu, VERSION))
    peer_us = best_us(lambda: plain(pdu))
    full_us = best_us(lambda: plain_with_json(pdu))
    sha_us = best_us(lambda: hashlib.sha256(found.pdu_json).digest())
    benchmark.extra_info |= {
        "peer": "canonicaljson and dict copies",
        "peer_us": round(peer_us, 2),
        "peer_with_json_us": round(full_us, 2),
        "ratio": round(peer_us / own_us, 1),
        "ratio_with_json": round(full_us / own_us, 1),
        "sha256_us": round(sha_us, 2),
    }
    print(
        f"\n{case}: {own_us:.2f} us; canonicaljson and dict copies: {peer_us:.2f} us; {peer_us / own_us:.1f}x; "
        f"with the bytes to store {full_us:.2f} us; {full_us / own_us:.1f}x (one SHA-256 {sha_us:.2f} us)"
    )
