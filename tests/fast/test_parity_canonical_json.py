"""The compiled canonical_json and its twin say the same, and the same as the package canonicaljson."""

import enum
import json
import math
from typing import Any

import canonicaljson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import hs._fast.canonical_json as kernel
import hs._fast.canonical_json_ref as twin

# Lone surrogates, controls and all planes: what JSON text can smuggle in.
texts = st.text(st.characters(exclude_categories=()), max_size=40)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([2**53, 2**53 - 1, -(2**53), 1 - 2**53, 2**63, 2**63 - 1, -(2**63), -(2**63) - 1])
    | st.floats()
    | texts,
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.tuples(inner, inner)
        | st.dictionaries(texts, inner, max_size=30)
        | st.dictionaries(st.integers(0, 3) | texts, inner, max_size=3)
    ),
    max_leaves=40,
)


def outcome(module: Any, value: Any, strict: bool) -> bytes | str:
    try:
        return module.encode(value, strict)
    except module.CanonicalJsonError:
        return "refused"


def test_both_have_the_same_names() -> None:
    assert sorted(kernel.__all__) == sorted(twin.__all__)
    assert (kernel.MAX_DEPTH, kernel.MAX_INTEGER) == (twin.MAX_DEPTH, twin.MAX_INTEGER)
    assert issubclass(kernel.CanonicalJsonError, ValueError)


@given(values, st.booleans())
@example({"\U0001f600": 1, "\uffff": 2, "\xe9": 3, "z": 4, "": 5}, True)
@example({"a": 1, "a\x00": 2, "a\x00b": 3, "ab": 4}, True)
@example([-0.0, 1e16, 1e-7, 5e-324, 1.7976931348623157e308], False)
@example('\x7f\x80\x1f\x00"\\/\b\t\n\f\r', True)
def test_encode_agrees_with_the_twin(value: Any, strict: bool) -> None:
    assert outcome(kernel, value, strict) == outcome(twin, value, strict)


@given(values)
def test_encode_agrees_with_canonicaljson_where_it_accepts(value: Any) -> None:
    tolerant, strict = outcome(kernel, value, False), outcome(kernel, value, True)
    if tolerant != "refused":
        assert tolerant == canonicaljson.encode_canonical_json(value)
    if strict != "refused":
        assert strict == tolerant


@given(st.dictionaries(texts.filter(lambda t: t.isprintable()), st.integers(0, 9), min_size=20, max_size=200))
def test_many_keys_come_in_the_order_of_their_code_points(value: dict[str, int]) -> None:
    try:
        encoded = kernel.encode(value)
    except kernel.CanonicalJsonError:
        assert any("\ud800" <= c <= "\udfff" for key in value for c in key)
    else:
        assert list(json.loads(encoded)) == sorted(value)


@pytest.mark.parametrize("size", [0, 1, 6, 7, 8, 9, 15, 16, 17, 4094, 4095, 4096, 4097, 9000])
def test_an_escape_may_stand_anywhere(size: int) -> None:
    # The copy goes eight bytes at a time, and the buffer grows at powers of two.
    for special in ('"', "\\", "\n", "\x00", "é", "本", "\U0001f600"):
        for value in ("x" * size + special, special + "x" * size, "x" * size + special + "y" * size):
            assert kernel.encode(value) == twin.encode(value)
    assert kernel.encode("\x01" * size) == twin.encode("\x01" * size)
    assert kernel.encode("\U0001f600" * size) == twin.encode("\U0001f600" * size)


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: (v,), lambda v: {"a": v}])
def test_depth_is_bounded_alike(wrap: Any) -> None:
    value: Any = 0
    for _ in range(twin.MAX_DEPTH):
        value = wrap(value)
    assert kernel.encode(value) == twin.encode(value)
    for module in (kernel, twin):
        with pytest.raises(module.CanonicalJsonError, match="deep"):
            module.encode(wrap(value))


def test_nesting_far_too_deep_is_an_error_and_no_crash() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(kernel.CanonicalJsonError):
        kernel.encode(value)


class _Text(str):
    __slots__ = ()


class _Mapping(dict[str, Any]):
    pass


class _Number(enum.IntEnum):
    SEVEN = 7


class _Float(float):
    __slots__ = ()


@pytest.mark.parametrize(
    "value",
    [_Text("a\n"), _Mapping(b=1, a=2), _Number.SEVEN, {_Text("k"): _Number.SEVEN}, [True, 1, False, 0]],
)
def test_subclasses_are_what_they_extend(value: Any) -> None:
    assert kernel.encode(value) == twin.encode(value)
    assert kernel.encode(_Float(1.5), False) == twin.encode(_Float(1.5), False) == b"1.5"


@pytest.mark.parametrize(
    "value",
    [
        b"bytes",
        {1, 2},
        object(),
        {1: 2},
        {None: 2},
        {True: 2},
        {b"k": 2},
        {"a": 1, 2: 3},
        "\ud800",
        {"\udfff": 1},
        ["ok", "\U0001f600\ud83d"],
        2**53,
        -(2**53),
        pytest.param(10**5000, id="huge"),
        1.0,
        math.nan,
    ],
)
def test_what_has_no_strict_form_is_refused(value: Any) -> None:
    for module in (kernel, twin):
        with pytest.raises(module.CanonicalJsonError):
            module.encode(value)


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, pytest.param(10**5000, id="huge"), "\udc00", {1.5: 1}, b""]
)
def test_what_has_no_tolerant_form_is_refused(value: Any) -> None:
    for module in (kernel, twin):
        with pytest.raises(module.CanonicalJsonError):
            module.encode(value, False)


def test_a_failed_encoding_leaves_nothing_behind() -> None:
    value = {"a": [{"b": "c" * 10_000}, {"d": object()}]}
    for _ in range(3):
        with pytest.raises(kernel.CanonicalJsonError):
            kernel.encode(value)
    assert kernel.encode({"b": 1, "a": 2}) == b'{"a":2,"b":1}'
