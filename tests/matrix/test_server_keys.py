"""What servers publish about their keys, and what we make of it over time."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from signedjson.key import get_verify_key
from signedjson.sign import verify_signed_json

from hs.matrix.destinations import FIRST_RETRY_MS, LAST_RETRY_MS, SPREAD, Failing, fail_again
from hs.matrix.keys import MAX_KEY_VALIDITY_MS, OldKey, signing_key_from_seed, verify_key_to_base64
from hs.matrix.server_keys import (
    MAX_KEYS_OF_SERVER,
    MAX_OLD_KEYS,
    MAX_VERIFY_KEYS,
    BadKeyAnswer,
    KeyAnswer,
    KnownKey,
    merge_keys,
    read_key_answer,
    render_own_keys,
)
from hs.matrix.signing import sign_json

NOW = 1_700_000_000_000
DAY = 24 * 3600 * 1000
HERE = "here.example"
A, B, C = (signing_key_from_seed(f"{name}_1", name.encode() * 32) for name in "abc")
A_ID, B_ID, C_ID = "ed25519:a_1", "ed25519:b_1", "ed25519:c_1"


def published(signing: Any = (A,), old: Any = (), valid_until_ts: int = NOW + DAY) -> dict[str, Any]:
    old_keys = [OldKey(get_verify_key(key), expired_ts) for key, expired_ts in old]
    return render_own_keys(HERE, signing, old_keys, valid_until_ts)


def signed_again(value: dict[str, Any], *keys: Any, **changes: Any) -> dict[str, Any]:
    value = {k: v for k, v in {**value, **changes}.items() if k != "signatures"}
    for key in keys:
        value = sign_json(value, HERE, key)
    return value


def answer(*signing: Any, now: int = NOW, is_direct: bool = True, **more: Any) -> KeyAnswer:
    return read_key_answer(published(signing or (A,), **more), HERE, now, is_direct)


def test_what_we_publish_is_signed_with_all_keys_and_read_again() -> None:
    value = json.loads(json.dumps(published((A, B), [(C, NOW - 5)])))
    for key in (A, B):
        verify_signed_json(value, HERE, get_verify_key(key))
    read = read_key_answer(value, HERE, NOW, True)
    assert {k: (v.key.valid_until_ts, v.is_old) for k, v in read.keys.items()} == {
        A_ID: (NOW + DAY, False),
        B_ID: (NOW + DAY, False),
        C_ID: (NOW - 5, True),
    }
    assert read.keys[A_ID].key.verify_key == get_verify_key(A)
    assert read.valid_until_ts == NOW + DAY


def test_no_key_counts_for_more_than_a_week_and_old_ones_not_for_the_future() -> None:
    read = answer(A, old=[(C, NOW + DAY)], valid_until_ts=2**53 - 1)
    assert read.keys[A_ID].key.valid_until_ts == NOW + MAX_KEY_VALIDITY_MS == read.valid_until_ts
    assert read.keys[C_ID].key.valid_until_ts == NOW - 1
    ancient = answer(A, valid_until_ts=-5)
    assert ancient.keys[A_ID].key.valid_until_ts == 0


def test_the_body_has_the_servers_own_signatures_only() -> None:
    value = published()
    value["signatures"]["notary.example"] = {"ed25519:n": "AAAA"}
    value["unsigned"] = {"age": 5}
    read = read_key_answer(value, HERE, NOW, False)
    kept = json.loads(read.body)
    assert set(kept["signatures"]) == {HERE}
    verify_signed_json(kept, HERE, get_verify_key(A))


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        published() | {"server_name": "other.example"},
        published() | {"valid_until_ts": NOW},  # not what was signed
        published() | {"signatures": {}},
        published() | {"signatures": {"other.example": published()["signatures"][HERE]}},
        published() | {"signatures": {HERE: {A_ID: "AAAA"}}},
        published() | {"signatures": {HERE: {A_ID: 5}}},
        published() | {"verify_keys": {}},
        published() | {"verify_keys": {A_ID: verify_key_to_base64(get_verify_key(A))}},
        published() | {"old_verify_keys": []},
        signed_again(published(), A, verify_keys={A_ID: {"key": "AAAA"}}),
        signed_again(published(), A, verify_keys={A_ID: {"key": "no base64!"}}),
        signed_again(published(), B),
        # Signed by an old key alone.
        signed_again(published((A,), [(B, NOW)]), B),
        # One signature of two is wrong.
        published((A, B))
        | {"signatures": {HERE: published((A, B))["signatures"][HERE] | {B_ID: "A" * 86}}},
        signed_again(published(), A, valid_until_ts=str(NOW)),
        signed_again(
            published(),
            A,
            verify_keys={f"ed25519:k{i}": {"key": "A" * 43} for i in range(MAX_VERIFY_KEYS)} | published()["verify_keys"],
        ),
        signed_again(
            published(),
            A,
            old_verify_keys={f"ed25519:k{i}": {"key": "A" * 43, "expired_ts": 1} for i in range(MAX_OLD_KEYS + 1)},
        ),
        published() | {"more": 1.5},
        published() | {"more": json.loads("[" * 900 + "]" * 900)},
    ],
)  # fmt: skip
def test_answers_that_are_not_believed(value: Any) -> None:
    with pytest.raises(BadKeyAnswer):
        read_key_answer(value, HERE, NOW, True)


def test_keys_of_other_algorithms_are_left_out() -> None:
    value = published()
    keys = value["verify_keys"] | {"ed448:x": {"key": "?"}, "ed25519:not-a-version": {"key": "?"}}
    read = read_key_answer(signed_again(value, A, verify_keys=keys), HERE, NOW, True)
    assert set(read.keys) == {A_ID}


@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_any_json_is_keys_or_refused(value: Any) -> None:
    with pytest.raises(BadKeyAnswer):
        read_key_answer(value, HERE, NOW, True)


# --- over time -------------------------------------------------------------------------------------


def known(*answers: KeyAnswer) -> dict[str, KnownKey]:
    keys: dict[str, KnownKey] = {}
    for one in answers:
        keys |= merge_keys(keys, one)
    return keys


def valid_until(keys: dict[str, KnownKey]) -> dict[str, int]:
    return {key_id: one.key.valid_until_ts for key_id, one in keys.items()}


def test_a_key_lives_on_with_each_answer() -> None:
    later = answer(A, now=NOW + DAY, valid_until_ts=NOW + 2 * DAY)
    assert valid_until(known(answer(), later)) == {A_ID: NOW + 2 * DAY}
    # What was promised once has been relied on.
    assert valid_until(known(later, answer())) == {A_ID: NOW + 2 * DAY}


def test_a_retired_key_counts_until_then() -> None:
    rotated = answer(B, old=[(A, NOW + 7)], now=NOW + 9)
    keys = known(answer(A), rotated)
    assert valid_until(keys) == {A_ID: NOW + 7, B_ID: NOW + DAY}
    assert keys[A_ID].is_old


def test_a_key_that_is_not_named_any_more_is_good_for_nothing_new() -> None:
    assert valid_until(known(answer(A), answer(B, now=NOW + 9))) == {A_ID: NOW + 9, B_ID: NOW + DAY}
    hearsay = answer(B, now=NOW + 9, is_direct=False)
    assert valid_until(known(answer(A), hearsay)) == {A_ID: NOW + DAY, B_ID: NOW + DAY}


def test_a_notary_cannot_replace_or_revive_what_the_server_has_said() -> None:
    other_a = signing_key_from_seed("a_1", b"x" * 32)
    lie = answer(other_a, is_direct=False)
    assert known(answer(A), lie)[A_ID].key.verify_key == get_verify_key(A)
    assert known(lie, answer(A))[A_ID].key.verify_key == get_verify_key(A)
    retired = answer(B, old=[(A, NOW - 9)])
    assert valid_until(known(retired, answer(A, B, is_direct=False)))[A_ID] == NOW - 9
    # It may say that the same key goes on.
    prolonged = answer(A, now=NOW + DAY, valid_until_ts=NOW + 2 * DAY, is_direct=False)
    keys = known(answer(A), prolonged)
    assert valid_until(keys) == {A_ID: NOW + 2 * DAY}
    assert keys[A_ID].is_direct


def test_keys_of_one_server_are_bounded() -> None:
    keys: dict[str, KnownKey] = {}
    sample = answer().keys[A_ID]
    for batch in range(5):
        many = {f"ed25519:k{batch}_{i}": sample for i in range(400)}
        keys |= merge_keys(keys, replace(answer(), keys=many, is_direct=False))
    assert len(keys) == MAX_KEYS_OF_SERVER


def test_when_asking_again_is_worth_it() -> None:
    fresh = answer(B, old=[(A, NOW - 9)]).keys
    assert fresh[B_ID].is_enough(NOW + DAY, NOW)
    assert not fresh[B_ID].is_enough(NOW + DAY + 1, NOW)
    # Nobody's keys count for the far future, and a retired one will not live again.
    assert fresh[B_ID].is_enough(NOW + 9 * DAY, NOW)
    assert fresh[A_ID].is_enough(NOW, NOW)
    assert not replace(fresh[A_ID], is_direct=False).is_enough(NOW, NOW)


def test_a_notary_asks_again_after_half_of_an_answers_life() -> None:
    assert not answer().should_refresh(NOW + DAY // 2)
    assert answer().should_refresh(NOW + DAY // 2 + 1)


# --- servers that do not answer --------------------------------------------------------------------


@given(st.integers(1, 200), st.floats(0, 1))
def test_waits_double_up_to_some_hours(failures: int, dice: float) -> None:
    before = None if failures == 1 else Failing(HERE, failures - 1, NOW - 5, NOW - 1, NOW)
    failing = fail_again(HERE, before, NOW, dice)
    assert failing.failures == failures
    assert failing.failed_ts == NOW
    assert failing.failing_since_ts == (NOW if before is None else NOW - 5)
    wait_ms = min(FIRST_RETRY_MS * 2 ** (failures - 1), LAST_RETRY_MS)
    assert wait_ms * (1 - SPREAD / 2) - 1 <= failing.retry_ts - NOW <= wait_ms * (1 + SPREAD / 2) + 1
