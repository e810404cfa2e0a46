from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hs.matrix.canonical_json import (
    CanonicalJsonError,
    check_canonical,
    decode_json,
    decode_object,
    encode_canonical,
    encode_for_room,
)
from hs.matrix.errors import BadJson, NotJson
from hs.matrix.room_versions import ROOM_VERSIONS, get_room_version

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=20),
    lambda v: st.lists(v, max_size=5) | st.dictionaries(st.text(max_size=10), v, max_size=5),
    max_leaves=20,
)


@given(json_values)
def test_what_was_encoded_decodes_to_the_same(value: Any) -> None:
    encoded = encode_canonical(value)
    assert decode_json(encoded) == value
    assert encode_canonical(decode_json(encoded)) == encoded


@pytest.mark.parametrize("text", ["1.0", "1e3", "-0.0", "[0.5]", "9007199254740992", "-9007199254740992"])
def test_numbers_that_are_not_canonical_are_refused_since_version_6(text: str) -> None:
    value = decode_json(text)
    with pytest.raises(CanonicalJsonError):
        encode_canonical(value)
    for version in ROOM_VERSIONS.values():
        if version.number >= 6:
            with pytest.raises(BadJson):
                check_canonical(value, version)
        else:
            check_canonical(value, version)


def test_old_rooms_keep_large_numbers_exactly() -> None:
    text = "123456789012345678901234567890"
    assert encode_for_room(decode_json(text), get_room_version("5")) == text.encode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "nul",
        "{'a':1}",
        '{"a":1,}',
        "NaN",
        "Infinity",
        "01",
        '"\\ud800"',
        '"\x01"',
        "[1] 2",
        "\ufeff{}",
    ],
)
def test_what_is_no_json_is_not_decoded(text: str) -> None:
    with pytest.raises(NotJson):
        decode_json(text)


def test_bytes_must_be_utf_8() -> None:
    for data in (b'"\xff"', b'"\xed\xa0\x80"', b"\xff\xfe{\x00}\x00"):
        with pytest.raises(NotJson):
            decode_json(data)


def test_endless_nesting_is_not_decoded() -> None:
    with pytest.raises(NotJson):
        decode_json("[" * 200_000)
    with pytest.raises(NotJson):
        decode_json('{"a":' * 200_000)


def test_an_object_is_asked_for() -> None:
    assert decode_object(b'{"a":1}') == {"a": 1}
    for data in (b"[]", b"null", b"1", b'"a"'):
        with pytest.raises(BadJson):
            decode_object(data)
