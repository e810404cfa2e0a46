"""Canonical JSON: one value, one byte string. Spec: appendices "Canonical JSON", rooms/v6 "Canonical JSON"."""

import json
from typing import Any

__all__ = ["MAX_DEPTH", "MAX_INTEGER", "CanonicalJsonError", "encode"]

# The spec has no bound; a recursive encoder needs one. The reference implementation reads JSON with a decoder
# that gives up between 900 and 1,000 levels, so a much lower bound would refuse events that others keep.
MAX_DEPTH = 512

MAX_INTEGER = 2**53 - 1


class CanonicalJsonError(ValueError):
    """The value has no canonical JSON."""


def encode(value: Any, strict: bool = True) -> bytes:
    """The canonical JSON of a value: shortest UTF-8 JSON, keys in the order of their code points.

    Takes dict with str keys, list, tuple, str, int, bool, None and their subclasses (an int subclass
    such as an enum is its number). With `strict` (room versions 6 and up, and everything outside of
    events) integers must lie within +-MAX_INTEGER and floats are refused; without it integers may have any
    size and finite floats are written as Python's repr.

    Raises CanonicalJsonError for anything else: other types, other keys, NaN and infinities, lone
    surrogates, and values nested deeper than MAX_DEPTH containers.
    """
    _check(value, strict, MAX_DEPTH)
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)
    return text.encode()


def _check(value: Any, strict: bool, depth: int) -> None:
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, (dict, list, tuple)):
        if not depth:
            raise CanonicalJsonError(f"nested deeper than {MAX_DEPTH}")
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str):
                    raise CanonicalJsonError(f"a key is {type(key).__name__}, not str")
                _check_text(key)
            value = value.values()
        for item in value:
            _check(item, strict, depth - 1)
    elif isinstance(value, int):
        if strict and abs(value) > MAX_INTEGER:
            raise CanonicalJsonError("an integer is outside of +-(2^53 - 1)")
        if value.bit_length() > 14_000:  # CPython itself refuses decimals of more than 4,300 digits.
            raise CanonicalJsonError("an integer is too long")
    elif isinstance(value, float):
        if strict:
            raise CanonicalJsonError("floats are not allowed")
        if value != value or value in (float("inf"), float("-inf")):
            raise CanonicalJsonError("a float is not finite")
    elif value is not None:
        raise CanonicalJsonError(f"{type(value).__name__} has no JSON form")


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise CanonicalJsonError("a string holds a lone surrogate") from None
