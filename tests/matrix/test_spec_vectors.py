"""The test values of the specification's appendices. Spec: appendices "Cryptographic Test Vectors"."""

from typing import Any

import pytest
from signedjson.key import get_verify_key
from signedjson.sign import sign_json as peer_sign_json
from signedjson.sign import verify_signed_json

from hs._fast import event_hash
from hs.matrix.canonical_json import decode_json, encode_canonical
from hs.matrix.event import parse_event, sign_event
from hs.matrix.keys import decode_base64, encode_base64, sign_bytes, signing_key_from_seed
from hs.matrix.room_versions import get_room_version
from hs.matrix.signing import sign_json, verify_event_signature, verify_json

KEY = signing_key_from_seed("1", decode_base64("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1"))


@pytest.mark.parametrize(
    ("plain", "encoded"),
    [(b"", ""), (b"f", "Zg"), (b"fo", "Zm8"), (b"foo", "Zm9v"), (b"foob", "Zm9vYg"), (b"foobar", "Zm9vYmFy")],
)
def test_unpadded_base64(plain: bytes, encoded: str) -> None:
    assert encode_base64(plain) == encoded
    assert decode_base64(encoded) == plain
    assert decode_base64(encoded + "=" * (-len(encoded) % 4)) == plain


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("{}", "{}"),
        ('{"one": 1, "two": "Two"}', '{"one":1,"two":"Two"}'),
        ('{"b": "2", "a": "1"}', '{"a":"1","b":"2"}'),
        ('{"b":"2","a":"1"}', '{"a":"1","b":"2"}'),
        (
            '{"auth": {"success": true, "mxid": "@john.doe:example.com", "profile": {"display_name": "John Doe", '
            '"three_pids": [{"medium": "email", "address": "john.doe@example.org"}, '
            '{"medium": "msisdn", "address": "123456789"}]}}}',
            '{"auth":{"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","three_pids":'
            '[{"address":"john.doe@example.org","medium":"email"},{"address":"123456789","medium":"msisdn"}]},'
            '"success":true}}',
        ),
        ('{"a": "日本語"}', '{"a":"日本語"}'),
        ('{"本": 2, "日": 1}', '{"日":1,"本":2}'),
        ('{"a": "\\u65E5"}', '{"a":"日"}'),
        ('{"a": null}', '{"a":null}'),
        # The spec's last example also has 1e10, which it calls the integer 10000000000. Event JSON with an
        # exponent is refused by strict servers, so only the integer itself is taken.
        ('{"a": -0, "b": 10000000000}', '{"a":0,"b":10000000000}'),
    ],
)
def test_canonical_json(text: str, canonical: str) -> None:
    assert encode_canonical(decode_json(text)) == canonical.encode()


@pytest.mark.parametrize(
    ("value", "signature"),
    [
        ({}, "K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ"),
        (
            {"one": 1, "two": "Two"},
            "KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw",
        ),
    ],
)
def test_json_signing(value: dict[str, Any], signature: str) -> None:
    signed = sign_json(value, "domain", KEY)
    assert signed == value | {"signatures": {"domain": {"ed25519:1": signature}}}
    assert signed == peer_sign_json(dict(value), "domain", KEY)
    verify_json(signed, "domain", "ed25519:1", get_verify_key(KEY))
    verify_signed_json(signed, "domain", get_verify_key(KEY))


MINIMAL = {
    "room_id": "!x:domain",
    "sender": "@a:domain",
    "origin": "domain",
    "origin_server_ts": 1000000,
    "signatures": {},
    "hashes": {},
    "type": "X",
    "content": {},
    "prev_events": [],
    "auth_events": [],
    "depth": 3,
    "unsigned": {"age_ts": 1000000},
}
MINIMAL_HASH = "5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos"
MINIMAL_SIGNATURE = "KxwGjPSDEtvnFgU00fwFz+l6d2pJM6XBIaMEn81SXPTRl16AqLAYqfIReFGZlHi5KLjAWbOoMszkwsQma+lYAg"

REDACTABLE = {
    "content": {"body": "Here is the message content"},
    "event_id": "$0:domain",
    "origin": "domain",
    "origin_server_ts": 1000000,
    "type": "m.room.message",
    "room_id": "!r:domain",
    "sender": "@u:domain",
    "signatures": {},
    "unsigned": {"age_ts": 1000000},
}
REDACTABLE_HASH = "onLKD1bGljeBWQhWZ1kaP9SorVmRQNdN5aM2JYU2n/g"
REDACTABLE_SIGNATURE = (
    "Wm+VzmOUOz08Ds+0NTWb1d4CZrVsJSikkeRxh6aCcUwu6pNC78FunoD7KNWzqFn241eYHYMGCA5McEiVPdhzBA"
)


@pytest.mark.parametrize("version", range(1, 11))
@pytest.mark.parametrize(
    ("event", "sha256", "signature"),
    [(MINIMAL, MINIMAL_HASH, MINIMAL_SIGNATURE), (REDACTABLE, REDACTABLE_HASH, REDACTABLE_SIGNATURE)],
)
def test_event_signing(event: dict[str, Any], sha256: str, signature: str, version: int) -> None:
    # Up to v10 `origin` is protected from redaction, as the vectors have it.
    prepared = event_hash.prepare_pdu(event, version)
    assert prepared.content_hash == event_hash.content_hash(event, version) == sha256
    signatures = sign_bytes(prepared.bytes_to_sign, {}, "domain", KEY)
    assert signatures == {"domain": {"ed25519:1": signature}}


def test_the_minimal_event_through_the_whole_protocol() -> None:
    # Room version 3 to 10 has these very keys: no event_id.
    version = get_room_version("10")
    event = sign_event(MINIMAL, version, "domain", KEY)
    pdu = decode_json(event.pdu_json)
    assert pdu["hashes"] == {"sha256": MINIMAL_HASH}
    assert pdu["signatures"] == {"domain": {"ed25519:1": MINIMAL_SIGNATURE}}
    parsed = parse_event(pdu | {"unsigned": {"age_ts": 1000000}}, version)
    assert (parsed.event_id, parsed.pdu_json) == (event.event_id, event.pdu_json)
    assert not parsed.redacted_for_hash
    verify_event_signature(parsed, "domain", "ed25519:1", get_verify_key(KEY))
