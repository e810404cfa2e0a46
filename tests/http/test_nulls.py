"""Null where a field may be left out: clients in some languages write all fields that they know."""

from typing import Any, Literal

import msgspec
import pytest

from hs.http.decoding import build_body_decoder
from hs.matrix.errors import BadJson


class Inner(msgspec.Struct):
    """A part of a body."""

    kind: str
    state_key: str = ""
    content: dict[str, Any] = {}


class Body(msgspec.Struct):
    """Fields of many kinds."""

    needed: int
    renamed: int = msgspec.field(default=1, name="org.example.renamed")
    text: str = "default"
    nullable: str | None = "default"
    choice: Literal["a", "b"] = "a"
    anything: Any = "default"
    raw: msgspec.Raw = msgspec.Raw(b"")
    inner: Inner | None = None
    inners: list[Inner] = []
    by_name: dict[str, Inner] = {}
    children: list["Body"] = []


decode = build_body_decoder(Body)


def test_null_is_the_default_of_an_optional_field() -> None:
    body = decode(b'{"needed": 1, "org.example.renamed": null, "text": null, "choice": null, "inners": null}')
    assert body == Body(1)


def test_null_keeps_its_meaning_where_it_has_one() -> None:
    body = decode(b'{"needed": 1, "text": null, "nullable": null, "anything": null, "raw": null}')
    assert (body.text, body.nullable, body.anything, bytes(body.raw)) == ("default", None, None, b"null")


def test_parts_of_a_body_are_treated_alike() -> None:
    body = decode(
        b'{"needed": 1, "inner": {"kind": "k", "state_key": null}, "inners": [{"kind": "l", "content": null}],'
        b' "by_name": {"x": {"kind": "m", "state_key": null}}, "children": [{"needed": 2, "text": null}]}'
    )
    assert body.inner == Inner("k")
    assert body.inners == [Inner("l")]
    assert body.by_name == {"x": Inner("m")}
    assert body.children == [Body(2)]


def test_what_is_not_described_is_left_as_it_is() -> None:
    body = decode(
        b'{"needed": 1, "text": null, "unknown": null, "anything": {"a": null, "n": 1.0, "big": 1%b},'
        b' "inner": {"kind": "k", "content": {"state_key": null, "list": [null]}}}' % (b"0" * 30)
    )
    assert body.inner == Inner("k", content={"state_key": None, "list": [None]})
    assert body.anything == {"a": None, "n": 1.0, "big": 10**30}
    assert isinstance(body.anything["n"], float)


@pytest.mark.parametrize(
    "data",
    [
        b'{"needed": null}',
        b'{"needed": null, "text": null}',
        b"null",
        b"[null]",
        b'{"needed": 1, "text": 5, "choice": null}',
        b'{"needed": 1, "inner": {"kind": null}}',
        b'{"needed": 1, "inners": [null]}',
        b'{"needed": 1, "by_name": {"x": null}}',
        b'{"needed": 1, "inner": null, "inners": "null"}',
        b'{"needed": 1, "text": null, "anything": ' + b"[" * 300 + b"]" * 300 + b"}",
        b'{"needed": 1, "text": null, "anything": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    ],
)
def test_what_is_wrong_otherwise_stays_wrong(data: bytes) -> None:
    with pytest.raises(BadJson):
        decode(data)


def test_bodies_that_are_no_structs() -> None:
    with pytest.raises(BadJson):
        build_body_decoder(dict[str, int])(b'{"a": null}')
    assert build_body_decoder(dict[str, Any])(b'{"a": null}') == {"a": None}
    assert build_body_decoder(dict[str, Inner])(b'{"a": {"kind": "k", "state_key": null}}') == {
        "a": Inner("k")
    }
