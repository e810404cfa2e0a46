"""Signatures of JSON and events; signedjson is the oracle."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from signedjson.key import get_verify_key, read_signing_keys
from signedjson.sign import sign_json as peer_sign_json
from signedjson.sign import verify_signed_json

from hs.matrix.canonical_json import CanonicalJsonError
from hs.matrix.event import Event, add_signature, parse_event, pdu_dict, sign_event
from hs.matrix.keys import (
    BadSignature,
    ServerKey,
    cap_validity,
    decode_base64,
    encode_base64,
    format_signing_keys,
    key_id_of,
    parse_signing_keys,
    signing_key_from_seed,
    verify_bytes,
    verify_key_from_base64,
    verify_key_to_base64,
)
from hs.matrix.room_versions import ROOM_VERSIONS, RoomVersion, get_room_version
from hs.matrix.signing import (
    required_signers,
    sign_json,
    signed_event,
    verify_event_signature,
    verify_event_signatures,
    verify_json,
)

KEY = signing_key_from_seed("a_1", b"\x01" * 32)
OTHER = signing_key_from_seed("b_2", b"\x02" * 32)
HASH = "Rqnc-F-dvnEYJTyHq_iKxU2bZ1CI92-kuZq3a5lr5Zg"
TS = 1_700_000_000_000
every_version = pytest.mark.parametrize("version", ROOM_VERSIONS.values(), ids=lambda v: "v" + v.id)

objects = st.dictionaries(
    st.text(max_size=10),
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(max_size=10)
    | st.lists(st.text()),
    max_size=6,
)


def public(key: Any, valid_until_ts: int = TS) -> ServerKey:
    return ServerKey(key_id_of(key), get_verify_key(key), valid_until_ts)


KEYS = {"example.org": {"ed25519:a_1": public(KEY)}, "other.org": {"ed25519:b_2": public(OTHER)}}


def event_of(version: RoomVersion, **changes: Any) -> Event:
    proto = {
        "type": "m.room.member",
        "state_key": "@alice:example.org",
        "room_id": "!" + HASH if version.number >= 12 else "!room:example.org",
        "sender": "@alice:example.org",
        "content": {"membership": "join"},
        "origin_server_ts": TS,
        "depth": 7,
        "prev_events": ["$prev:example.org"],
        "auth_events": ["$auth:example.org"],
    }
    return sign_event(proto | changes, version, "example.org", KEY)


# --- JSON -----------------------------------------------------------------------------------------


@given(objects)
def test_json_is_signed_as_signedjson_signs_it(value: dict[str, Any]) -> None:
    value = {k: v for k, v in value.items() if k not in ("signatures", "unsigned")} | {"unsigned": {"age": 1}}
    signed = sign_json(value, "example.org", KEY)
    assert signed == peer_sign_json(dict(value), "example.org", KEY)
    both = sign_json(signed, "other.org", OTHER)
    assert set(both["signatures"]) == {"example.org", "other.org"}
    for server_name, key in (("example.org", KEY), ("other.org", OTHER)):
        verify_json(both, server_name, key_id_of(key), get_verify_key(key))
        verify_signed_json(both, server_name, get_verify_key(key))


def test_a_second_key_of_the_same_server_joins_the_first() -> None:
    signed = sign_json(sign_json({"a": 1}, "example.org", KEY), "example.org", OTHER)
    assert set(signed["signatures"]["example.org"]) == {"ed25519:a_1", "ed25519:b_2"}


def test_changed_json_is_not_verified() -> None:
    signed = sign_json({"a": 1}, "example.org", KEY)
    good = get_verify_key(KEY)
    verify_json(signed | {"unsigned": {"age": 5}}, "example.org", "ed25519:a_1", good)
    for wrong in (
        signed | {"a": 2},
        signed | {"b": 2},
        signed | {"a": 1.0},
        {"a": 1},
        signed | {"signatures": None},
        signed | {"signatures": {"example.org": []}},
        signed | {"signatures": {"example.org": {"ed25519:a_1": 5}}},
        signed | {"signatures": {"example.org": {"ed25519:a_1": ""}}},
        signed | {"signatures": {"example.org": {"ed25519:a_1": "not base64!"}}},
        signed | {"signatures": {"example.org": {"ed25519:a_1": "é"}}},
    ):
        with pytest.raises(BadSignature):
            verify_json(wrong, "example.org", "ed25519:a_1", good)
    for server_name, key_id, key in (
        ("other.org", "ed25519:a_1", good),
        ("example.org", "ed25519:b_2", good),
        ("example.org", "ed25519:a_1", get_verify_key(OTHER)),
    ):
        with pytest.raises(BadSignature):
            verify_json(signed, server_name, key_id, key)


def test_json_without_canonical_form_cannot_be_signed() -> None:
    with pytest.raises(CanonicalJsonError):
        sign_json({"a": 0.5}, "example.org", KEY)


# --- keys -----------------------------------------------------------------------------------------


def test_key_files_are_those_of_signedjson() -> None:
    text = format_signing_keys([KEY, OTHER])
    assert text.splitlines()[0] == "ed25519 a_1 " + "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE"
    ours, theirs = parse_signing_keys(text), read_signing_keys(text.splitlines())
    assert [(k.alg, k.version, bytes(k)) for k in ours] == [(k.alg, k.version, bytes(k)) for k in theirs]
    assert format_signing_keys(parse_signing_keys("\n" + text + "\n")) == text


@pytest.mark.parametrize("line", ["ed25519 a", "rsa a AQEB", "ed25519 a AQEB", "ed25519 a !!!!", "x"])
def test_a_bad_line_of_a_key_file_is_named(line: str) -> None:
    with pytest.raises(ValueError, match="line 2"):
        parse_signing_keys(format_signing_keys([KEY]) + line)


def test_public_keys_travel_as_base64() -> None:
    text = verify_key_to_base64(get_verify_key(KEY))
    key = verify_key_from_base64("ed25519:a_1", text)
    assert key_id_of(key) == "ed25519:a_1"
    verify_bytes(b"message", sign_of(b"message"), key)
    for key_id, encoded in (("rsa:1", text), ("ed25519:1", "AQEB"), ("ed25519:1", "?"), ("", text)):
        with pytest.raises(ValueError):
            verify_key_from_base64(key_id, encoded)


def sign_of(message: bytes) -> str:
    return encode_base64(KEY.sign(message).signature)


def test_base64_is_strict_but_for_padding() -> None:
    assert decode_base64("Zg==") == decode_base64("Zg") == b"f"
    for wrong in ("Z", "Z g", "Zg=a", "-_", "Zm8\n"):
        with pytest.raises(ValueError):
            decode_base64(wrong)


def test_keys_count_for_seven_days_at_most() -> None:
    day = 24 * 3600 * 1000
    assert cap_validity(TS + 1, TS) == TS + 1
    assert cap_validity(TS + 8 * day, TS) == TS + 7 * day


# --- events ---------------------------------------------------------------------------------------


@every_version
def test_an_event_is_verified_with_its_sender_s_key(version: RoomVersion) -> None:
    event = event_of(version)
    assert required_signers(event) == {"example.org"}
    verify_event_signature(event, "example.org", "ed25519:a_1", get_verify_key(KEY))
    verify_event_signatures(signed_event(event), KEYS)
    with pytest.raises(BadSignature):
        verify_event_signature(event, "example.org", "ed25519:a_1", get_verify_key(OTHER))
    with pytest.raises(BadSignature):
        verify_event_signature(event, "other.org", "ed25519:b_2", get_verify_key(OTHER))


@every_version
def test_the_redacted_copy_keeps_its_signature(version: RoomVersion) -> None:
    pdu = pdu_dict(event_of(version, content={"membership": "join", "displayname": "A"}))
    pdu["content"]["displayname"] = "B"
    event = parse_event(pdu, version)
    assert event.redacted_for_hash
    verify_event_signatures(signed_event(event), KEYS)


@every_version
def test_what_is_protected_from_redaction_is_signed(version: RoomVersion) -> None:
    pdu = pdu_dict(event_of(version))
    pdu["depth"] += 1
    with pytest.raises(BadSignature):
        verify_event_signatures(signed_event(parse_event(pdu, version)), KEYS)


def test_the_server_of_an_event_id_signs_in_versions_1_and_2() -> None:
    for version in ROOM_VERSIONS.values():
        if version.number <= 2:
            event = event_of(version, event_id="$x:other.org")
            assert required_signers(event) == {"example.org", "other.org"}
            with pytest.raises(BadSignature):
                verify_event_signatures(signed_event(event), KEYS)
            verify_event_signatures(signed_event(add_signature(event, "other.org", OTHER)), KEYS)
        else:
            assert required_signers(event_of(version)) == {"example.org"}


@every_version
def test_a_third_party_invite_needs_no_signature_of_its_sender(version: RoomVersion) -> None:
    # Its "sender must already match the 3rd party invite, and the server which actually sends the event may be
    # a different server".
    signed = {"mxid": "@bob:other.org", "token": "t", "signatures": {}}
    invite = {"membership": "invite", "third_party_invite": {"signed": signed, "display_name": "b"}}
    event = event_of(version, state_key="@bob:other.org", content=invite)
    assert required_signers(event) == ({"example.org"} if version.number <= 2 else set())
    # Only an invite has the exception, and only one that the auth rules can check.
    for content in (
        invite | {"membership": "join"},
        {"membership": "invite"},
        invite | {"third_party_invite": {}},
        invite | {"third_party_invite": "x"},
        invite | {"third_party_invite": {"signed": 1}},
    ):
        assert required_signers(event_of(version, content=content)) == {"example.org"}
    assert required_signers(event_of(version, type="m.room.message", content=invite)) == {"example.org"}


@every_version
def test_a_restricted_join_is_signed_by_the_server_that_authorises_it(version: RoomVersion) -> None:
    content = {"membership": "join", "join_authorised_via_users_server": "@carol:other.org"}
    event = event_of(version, content=content)
    if version.number < 8:
        assert required_signers(event) == {"example.org"}
        return
    assert required_signers(event) == {"example.org", "other.org"}
    with pytest.raises(BadSignature):
        verify_event_signatures(signed_event(event), KEYS)
    verify_event_signatures(signed_event(add_signature(event, "other.org", OTHER)), KEYS)
    for nobody in ("carol", 5, ["@a:b"], "@carol"):
        with pytest.raises(BadSignature):
            required_signers(
                event_of(version, content=content | {"join_authorised_via_users_server": nobody})
            )


@every_version
def test_a_key_counts_until_it_expires_since_version_5(version: RoomVersion) -> None:
    signed = signed_event(event_of(version))
    verify_event_signatures(signed, {"example.org": {"ed25519:a_1": public(KEY, TS)}})
    expired = {"example.org": {"ed25519:a_1": public(KEY, TS - 1)}}
    if version.number >= 5:
        with pytest.raises(BadSignature):
            verify_event_signatures(signed, expired)
    else:
        verify_event_signatures(signed, expired)


def test_unknown_keys_are_skipped_and_wrong_signatures_are_not() -> None:
    version = get_room_version("12")
    pdu = pdu_dict(event_of(version))
    by_key = pdu["signatures"]["example.org"]
    by_key["ed25519:unknown"] = "AAAA"
    by_key["rsa:1"] = "AAAA"
    event = parse_event(pdu, version)
    assert signed_event(event).key_ids("example.org") == ["ed25519:a_1", "ed25519:unknown"]
    assert signed_event(event).key_ids("nobody.org") == []
    verify_event_signatures(signed_event(event), KEYS)
    # "If all signatures from known unexpired keys ... are found to be valid": one wrong one is enough.
    two = {"example.org": {"ed25519:a_1": public(KEY), "ed25519:unknown": public(OTHER)}}
    with pytest.raises(BadSignature):
        verify_event_signatures(signed_event(event), two)
    with pytest.raises(BadSignature, match="known"):
        verify_event_signatures(signed_event(event), {})
