"""Which endpoint a path means: a tree of path segments.

Matching happens on the raw path, segment by segment, and only then is a segment unquoted: an encoded
slash is part of an identifier, never a separator.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

from hs.http.endpoint import Endpoint
from hs.matrix.errors import InvalidParam

# At most 4 MB, with keys and values.
_REMEMBERED_SEGMENTS = 8192
_MAX_REMEMBERED_LENGTH = 128

# The specification had such paths between servers once, and some still ask for them.
_MAY_END_WITH_A_SLASH = ("/_matrix/federation/", "/_matrix/key/")

Bound = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Route:
    """An endpoint on one of its paths."""

    endpoint: Endpoint
    handler: Bound
    names: tuple[str, ...]


@dataclass(slots=True)
class _Node:
    literals: dict[str, "_Node"] = field(default_factory=dict)
    parameter: "_Node | None" = None
    routes: dict[str, Route] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Match:
    """What a path leads to: the routes by method, and the values of its parameters."""

    routes: dict[str, Route]
    values: tuple[str, ...]


class Router:
    """Finds routes by path."""

    def __init__(self) -> None:
        self._root = _Node()
        # Rooms and users come back in request after request.
        self._unquote = lru_cache(_REMEMBERED_SEGMENTS)(_unquote)

    def add(self, endpoint: Endpoint, handler: Bound) -> None:
        """Serve the endpoint on all of its paths."""
        for path in endpoint.paths:
            node, names = self._root, []
            for segment in path.split("/")[1:]:
                if segment.startswith("{"):
                    names.append(segment[1:-1])
                    node.parameter = node.parameter or _Node()
                    node = node.parameter
                else:
                    node = node.literals.setdefault(segment, _Node())
            if endpoint.method in node.routes:
                raise ValueError(f"{endpoint.method} {path} is declared twice")
            node.routes[endpoint.method] = Route(endpoint, handler, tuple(names))

    def find(self, raw_path: str) -> Match | None:
        """What the path leads to, or None. InvalidParam where a segment is not UTF-8 or holds a NUL."""
        segments = raw_path.split("/")[1:]
        found = self._walk(segments) or self._descend(self._root, segments, 0, ())
        if found is None and segments[-1] == "" and raw_path.startswith(_MAY_END_WITH_A_SLASH):
            found = self._walk(segments[:-1])
        if found is None:
            return None
        node, raw_values = found
        return Match(node.routes, tuple(map(self._value, raw_values)))

    def _value(self, segment: str) -> str:
        if "%" not in segment and segment.isascii():
            return segment
        return self._unquote(segment) if len(segment) <= _MAX_REMEMBERED_LENGTH else _unquote(segment)

    def _walk(self, segments: list[str]) -> tuple[_Node, tuple[str, ...]] | None:
        """The first way that `_descend` would try, without the means to try another."""
        node, values = self._root, []
        for segment in segments:
            step = node.literals.get(segment)
            if step is None:
                if node.parameter is None or (node.literals and "%" in segment):
                    return None
                step = node.parameter
                values.append(segment)
            node = step
        return (node, tuple(values)) if node.routes else None

    def _descend(
        self, node: _Node, segments: list[str], at: int, values: tuple[str, ...]
    ) -> tuple[_Node, tuple[str, ...]] | None:
        if at == len(segments):
            return (node, values) if node.routes else None
        segment = segments[at]
        literal = node.literals.get(segment)
        if literal is None and "%" in segment:
            literal = node.literals.get(unquote(segment))
        if literal is not None and (found := self._descend(literal, segments, at + 1, values)):
            return found
        if node.parameter is not None:
            return self._descend(node.parameter, segments, at + 1, (*values, segment))
        return None


def _unquote(segment: str) -> str:
    try:
        # The server hands on bytes that are no UTF-8 as surrogates.
        text = unquote_to_bytes(segment.encode("utf-8", "surrogateescape")).decode()
    except UnicodeDecodeError as error:
        raise InvalidParam("the path is not UTF-8") from error
    if "\x00" in text:
        raise InvalidParam("the path holds a NUL character")
    return text
