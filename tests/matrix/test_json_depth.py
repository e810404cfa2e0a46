"""Depth of nesting, against a count that walks through the decoded value."""

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from hs.matrix.json_depth import is_nested_deeper

texts = st.text('[]{}"\\abc\u2603', max_size=6)
values = st.recursive(
    st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


@given(values, st.integers(0, 8), st.booleans())
@example({'\\"[': ["\\\\", '"', "[[[[", "]"]}, 2, False)
def test_depth_is_that_of_the_value(value: Any, depth: int, is_ascii: bool) -> None:
    data = json.dumps(value, ensure_ascii=is_ascii).encode()
    assert is_nested_deeper(data, depth) == (depth_of(value) > depth)


def test_many_brackets_are_not_deep() -> None:
    data = b"[" + b'{"a":[[1]]},' * 10_000 + b'"[[[[["]'
    assert not is_nested_deeper(data, 4)
    assert is_nested_deeper(data, 3)
    assert is_nested_deeper(b"[" * 100_000 + b"]" * 100_000, 256)
