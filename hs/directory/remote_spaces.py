"""Rooms of other servers as those describe them: for trees of spaces, and for summaries.

Spec: server-server-api "Spaces", GET /hierarchy; space_hierarchy.yaml.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from hs.matrix.errors import InvalidParam
from hs.matrix.ids import is_server_name, parse_room_id
from hs.net.bounds import Bounds
from hs.net.errors import RemoteError
from hs.net.federation_client import FederationClient, path_of
from hs.net.remembered import Entry, Remembered

_BOUNDS: Final = Bounds(512 * 1024, 8.0)
# Descriptions that are remembered, about twice as large as the answers; for how long, and what could not be had.
_REMEMBERED: Final = 100
_GOOD_S: Final = 300.0
_FAILED_S: Final = 60.0
_MAX_SERVERS: Final = 3
_MAX_CHILDREN: Final = 500
_MAX_ALLOWED: Final = 100


class RoomSummary(msgspec.Struct, omit_defaults=True):
    """A room as another server describes it; what is not of these types is not passed on."""

    room_id: str
    num_joined_members: int
    world_readable: bool
    guest_can_join: bool
    name: str | None = None
    topic: str | None = None
    avatar_url: str | None = None
    canonical_alias: str | None = None
    join_rule: str | None = None
    room_type: str | None = None
    room_version: str | None = None
    encryption: str | None = None
    allowed_room_ids: list[str] | None = None


class _ChildContent(msgspec.Struct, omit_defaults=True):
    via: list[str]
    order: str | None = None
    suggested: bool | None = None


class _Child(msgspec.Struct):
    type: str
    state_key: str
    sender: str
    origin_server_ts: int
    content: _ChildContent


class _Children(msgspec.Struct):
    children_state: list[msgspec.Raw]


class _Answer(msgspec.Struct):
    room: msgspec.Raw
    children: list[msgspec.Raw]
    inaccessible_children: list[str] = []


@dataclass(frozen=True, slots=True)
class RemoteChild:
    """An m.space.child event as another server tells it."""

    type: str
    state_key: str
    sender: str
    content: Mapping[str, Any]
    origin_server_ts: int


@dataclass(frozen=True, slots=True)
class RemoteRoom:
    """A room, with the rooms that it names, those of them that its server describes, and those that it keeps to itself."""

    summary: RoomSummary
    children: tuple[RemoteChild, ...]
    described: Mapping[str, RoomSummary]
    inaccessible: frozenset[str]


class RemoteSpaces:
    """Asks other servers about rooms; answers are remembered for a while."""

    def __init__(self, client: FederationClient) -> None:
        self._client = client
        self._found: Remembered[tuple[str, tuple[str, ...]], RemoteRoom | None] = Remembered(
            _REMEMBERED, lambda: time.monotonic_ns() // 1_000_000, self._ask
        )

    async def find(self, room_id: str, servers: Sequence[str]) -> RemoteRoom | None:
        """The room as the first of the servers describes it that does; None where none of them does."""
        try:
            parse_room_id(room_id)
        except InvalidParam:
            return None
        names = [name for name in dict.fromkeys(servers) if is_server_name(name)]
        return await self._found.get((room_id, tuple(names[:_MAX_SERVERS])))

    async def _ask(
        self, key: tuple[str, tuple[str, ...]], last: Entry[RemoteRoom | None] | None
    ) -> tuple[RemoteRoom | None, float]:
        room_id, servers = key
        path = path_of("/_matrix/federation/v1/hierarchy/{}", room_id)
        for server_name in servers:
            try:
                answer = await self._client.ask("GET", server_name, path, _Answer, bounds=_BOUNDS)
                found = _read(answer)
            except (RemoteError, msgspec.ValidationError):
                continue
            if found.summary.room_id == room_id:
                return found, _GOOD_S
        return None, _FAILED_S


def _read(answer: _Answer) -> RemoteRoom:
    """Raises msgspec.ValidationError where the room itself is not described as it should be."""
    summary = msgspec.json.decode(answer.room, type=RoomSummary)
    state = msgspec.json.decode(answer.room, type=_Children).children_state[:_MAX_CHILDREN]
    described = {one.room_id: one for one in _valid(answer.children[:_MAX_CHILDREN], RoomSummary)}
    children = tuple(
        RemoteChild(
            child.type,
            child.state_key,
            child.sender,
            msgspec.to_builtins(child.content),
            child.origin_server_ts,
        )
        for child in _valid(state, _Child)
        if child.type == "m.space.child"
    )
    inaccessible = frozenset(answer.inaccessible_children[:_MAX_CHILDREN])
    return RemoteRoom(_bounded(summary), children, described, inaccessible)


def _valid(items: Sequence[msgspec.Raw], type: type[Any]) -> Iterator[Any]:
    """Those of the items that are of the type."""
    for item in items:
        try:
            found = msgspec.json.decode(item, type=type)
        except msgspec.ValidationError:
            continue
        yield _bounded(found) if isinstance(found, RoomSummary) else found


def _bounded(summary: RoomSummary) -> RoomSummary:
    if summary.allowed_room_ids is not None:
        summary.allowed_room_ids = summary.allowed_room_ids[:_MAX_ALLOWED]
    return summary
