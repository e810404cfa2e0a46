"""What a hostile or broken client might send: paths, queries and bodies, made from each endpoint's own schema."""

import importlib
import inspect
import json
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any
from urllib.parse import quote

import msgspec

import hs.admin_api
import hs.client_api
from hs.http.endpoint import Endpoint

# Escaped already, as they go into a path or a query.
SEGMENTS = [
    "",
    ".",
    "..",
    "%00",
    "a%00b",
    "%FF%FE",
    "%ED%A0%80",  # a surrogate, which UTF-8 must not have
    "%2F",
    "%25",
    "%",
    "%zz",
    "-1",
    "0",
    "null",
    "%7B%7D",
    "!",
    "!:",
    "%40",
    "%40:",
    "%40a:b:c:99999",
    "%23",
    "%24",
    "x" * 255,
    "x" * 4000,
    quote("☃" * 90),
    quote("' OR 1=1; --"),
    "%3Cscript%3E",
]

VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    2**53,
    2**63,
    10**30,
    1.5,
    "",
    "\x00",
    "a\x00b",
    "\ud800",
    "x" * 300,
    "☃" * 300,
    "@a:b",
    [],
    [None],
    [[]],
    [{}],
    ["\x00"],
    {},
    {"": None},
    {"\x00": "\x00"},
    {"a": {"b": {"c": [1.5, None, "\ud800"]}}},
]

BODIES = [
    b"",
    b" ",
    b"{",
    b"}",
    b"null",
    b"true",
    b"0",
    b"1e999",
    b"NaN",
    b'"text"',
    b"[]",
    b"[{}]",
    b"{}",
    b"{}{}",
    b'{"a":}',
    b'{"a": NaN}',
    b'{"a": 1, "a": 2}',
    b"\x00",
    b"\xff\xfe{\x00}\x00",
    b'{"a": "\xff"}',
    b'\xef\xbb\xbf{"a": 1}',
    b'{"a": "\\ud800"}',
    b'{"a": ' + b"[" * 100_000,
    b'{"a":' * 3000 + b"1" + b"}" * 3000,
    b'{"' + b"k" * 70_000 + b'": 1}',
    json.dumps({f"key{n}": n for n in range(5000)}).encode(),
]


def list_endpoints(*packages: ModuleType) -> list[Endpoint]:
    """Every endpoint that is declared, by path and method; for clients and admins, where no package is named."""
    found = {}
    for package in packages or (hs.client_api, hs.admin_api):
        for module_info in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            module = importlib.import_module(module_info.name)
            for _, api in inspect.getmembers(module, inspect.isclass):
                for _, member in inspect.getmembers(api, inspect.isfunction):
                    declared = getattr(member, "__endpoint__", None)
                    if declared is not None:
                        found[declared.method, declared.paths[0]] = declared
    return [found[key] for key in sorted(found)]


def _fields(type_: Any) -> list[str]:
    """The names that an object of this type has in JSON."""
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        return [field.encode_name for field in msgspec.structs.fields(type_)]
    return []


def bodies_for(endpoint: Endpoint) -> Iterator[bytes]:
    """Bodies that are no JSON, no object, or an object with wrong values where the schema has fields."""
    if endpoint.body_type is None:
        yield from (b"", b"{", b"[]")
        return
    yield from BODIES
    for field in _fields(endpoint.body_type):
        for value in VALUES:
            yield json.dumps({field: value}).encode()
    for value in VALUES:
        everywhere = dict.fromkeys(_fields(endpoint.body_type) or ["a", "\x00", "m.relates_to"], value)
        yield json.dumps(everywhere).encode()


def queries_for(endpoint: Endpoint) -> Iterator[str]:
    """Query strings with wrong values where the schema has fields, and some that are no query strings."""
    yield from ("", "?", "?=", "?&&", "?%00=%00", "?%FF", "?user_id=%40a:b&ts=x", "?ts=-1")
    for field in _fields(endpoint.query_type):
        # Waiting as long as one is asked to is right, so nobody asks for it here.
        for value in SEGMENTS if field != "timeout" else ("-1", "x", "", "%00", "1.5"):
            yield f"?{field}={value}"
        yield f"?{field}=1&{field}=2"


def paths_for(endpoint: Endpoint, known: dict[str, str]) -> Iterator[str]:
    """The endpoint's paths with one wrong value at a time; `known` are right ones, escaped."""
    template = endpoint.paths[0]
    for name in endpoint.path_names:
        for segment in SEGMENTS:
            yield template.format(
                **{other: known.get(other, "x") for other in endpoint.path_names} | {name: segment}
            )
