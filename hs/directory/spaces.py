"""Rooms within a space, and within the spaces in it. Spec: client-server-api module "Spaces", GET /hierarchy."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from hs.directory.space_children import ChildEvent, list_children, stripped
from hs.directory.tree_rooms import TreeRoom, TreeRooms, Visit
from hs.matrix.errors import Forbidden, InvalidParam

# Rooms of one space tree that are told at most, over all pages.
_MOST_ROOMS = 2_000
_TOKEN = re.compile(r"h(\d{1,6})\.(\d{1,6})\.([01])")


@dataclass(frozen=True, slots=True)
class TreeRequest:
    """A page of a space's tree: `token` goes on where an earlier page ended."""

    limit: int
    max_depth: int
    suggested_only: bool
    token: str | None = None


class SpaceTrees:
    """Walks through spaces."""

    def __init__(self, rooms: TreeRooms) -> None:
        self._rooms = rooms

    async def list_page(self, user_id: str, room_id: str, request: TreeRequest) -> dict[str, Any]:
        """The answer of GET /hierarchy; Forbidden where the user may neither join nor look into the space."""
        skipped = _parse_token(request)
        page: list[dict[str, Any]] = []
        count = 0
        async for room in self._walk(self._rooms.visit(user_id), room_id, request):
            count += 1
            if count <= skipped:
                continue
            if len(page) == request.limit:
                token = f"h{count - 1}.{request.max_depth}.{int(request.suggested_only)}"
                return {"rooms": page, "next_batch": token}
            children = _children_of(room, request)
            page.append({**room.entry, "children_state": [stripped(child) for child in children]})
        return {"rooms": page}

    async def _walk(self, visit: Visit, room_id: str, request: TreeRequest) -> AsyncIterator[TreeRoom]:
        """The rooms that the user may see, each before those in it; each of them once."""
        # Ids had the name of a server until version 12.
        root = await visit.find(room_id, [room_id.partition(":")[2]])
        if root is None or not root.is_accessible:
            raise Forbidden("you may not look into this space")
        seen = {room_id}
        # What is still to be shown, the next last.
        waiting = [(root, 0)]
        while waiting and len(seen) <= _MOST_ROOMS:
            described, depth = waiting.pop()
            room = await visit.complete(described)
            yield room
            if depth == request.max_depth:
                continue
            children = [child for child in _children_of(room, request) if child.state_key not in seen]
            found = await visit.list_within(room, children)
            # The first place of a room counts: from here on it is not listed again.
            ids = dict.fromkeys(child.state_key or "" for child in children)
            new = [found[id] for id in ids if id in found and found[id].is_accessible]
            seen.update(one.room_id for one in new)
            waiting.extend((one, depth + 1) for one in reversed(new))


def _children_of(room: TreeRoom, request: TreeRequest) -> list[ChildEvent]:
    return list_children(room.children or (), suggested_only=request.suggested_only) if room.is_space else []


def _parse_token(request: TreeRequest) -> int:
    """How many rooms were told before."""
    if request.token is None:
        return 0
    match = _TOKEN.fullmatch(request.token)
    if match is None:
        raise InvalidParam("from is not a token of this list")
    if int(match[2]) != request.max_depth or bool(int(match[3])) != request.suggested_only:
        raise InvalidParam("max_depth and suggested_only must stay the same from page to page")
    return int(match[1])
