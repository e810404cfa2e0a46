"""Rooms within a space, and within the spaces in it. Spec: client-server-api module "Spaces", GET /hierarchy."""

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from hs._fast.event_record import EventRecord
from hs.directory.overviews import Overview, RoomOverviews
from hs.matrix.errors import Forbidden, InvalidParam
from hs.storage.rooms import RoomInfo

# Rooms of one space tree that are told at most, over all pages.
_MOST_ROOMS = 2_000
_TOKEN = re.compile(r"h(\d{1,6})\.(\d{1,6})\.([01])")
_ORDER = re.compile(r"[\x20-\x7e]{1,50}")


@dataclass(frozen=True, slots=True)
class TreeRequest:
    """A page of a space's tree: `token` goes on where an earlier page ended."""

    limit: int
    max_depth: int
    suggested_only: bool
    token: str | None = None


class SpaceTrees:
    """Walks through spaces."""

    def __init__(self, overviews: RoomOverviews) -> None:
        self._overviews = overviews

    async def list_page(self, user_id: str, room: RoomInfo, request: TreeRequest) -> dict[str, Any]:
        """The answer of GET /hierarchy; Forbidden where the user may neither join nor look into the space."""
        skipped = _parse_token(request)
        page: list[dict[str, Any]] = []
        count = 0
        async for overview in self._walk(user_id, room, request):
            count += 1
            if count <= skipped:
                continue
            if len(page) == request.limit:
                token = f"h{count - 1}.{request.max_depth}.{int(request.suggested_only)}"
                return {"rooms": page, "next_batch": token}
            children = list_children(overview, request.suggested_only)
            page.append({**overview.entry, "children_state": [stripped(child) for child in children]})
        return {"rooms": page}

    async def _walk(self, user_id: str, room: RoomInfo, request: TreeRequest) -> AsyncIterator[Overview]:
        """The rooms that the user may see, each before those in it; each of them once."""
        root = await self._overviews.get(user_id, room)
        if not root.is_accessible:
            raise Forbidden("you may not look into this space")
        seen = {room.room_id}
        # What is still to be shown, the next last.
        waiting = [(root, 0)]
        while waiting and len(seen) <= _MOST_ROOMS:
            overview, depth = waiting.pop()
            yield overview
            if depth == request.max_depth:
                continue
            ids = [child.state_key or "" for child in list_children(overview, request.suggested_only)]
            known = await self._overviews.list_known(user_id, [id for id in ids if id not in seen])
            # The first place of a room counts: from here on it is not listed again.
            new = [known[id] for id in ids if id in known and known[id].is_accessible]
            seen.update(one.room.room_id for one in new)
            waiting.extend((one, depth + 1) for one in reversed(new))


def list_children(overview: Overview, suggested_only: bool) -> list[EventRecord]:
    """The rooms of a space in the order in which they are shown."""
    if not overview.is_space:
        return []
    valid = [
        child
        for child in overview.children
        if (child.state_key or "").startswith("!") and _is_child(child.content, suggested_only)
    ]
    return sorted(valid, key=_order)


def _is_child(content: Mapping[str, Any], suggested_only: bool) -> bool:
    # A child without servers is one that was removed.
    via = content.get("via")
    if not isinstance(via, list) or not via:
        return False
    return not suggested_only or content.get("suggested") is True


def _order(child: EventRecord) -> tuple[bool, str, int, str]:
    order = child.content.get("order")
    if not isinstance(order, str) or _ORDER.fullmatch(order) is None:
        order = ""
    return not order, order, child.origin_server_ts, child.state_key or ""


def stripped(child: EventRecord) -> dict[str, Any]:
    """The event as /hierarchy shows it."""
    return {
        "type": child.type,
        "state_key": child.state_key,
        "sender": child.sender,
        "content": child.content,
        "origin_server_ts": child.origin_server_ts,
    }


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
