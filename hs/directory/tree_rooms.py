"""Rooms for trees of spaces and for summaries: those that this server is in, and those that others describe."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from hs.directory.overviews import Overview, RoomOverviews, is_accessible
from hs.directory.remote_spaces import RemoteRoom, RemoteSpaces, RoomSummary
from hs.directory.space_children import ChildEvent
from hs.rooms.participation import Participation
from hs.storage.overviews import OverviewStore
from hs.storage.rooms import RoomInfo

# Rooms that other servers are asked about for one request of a client, side by side, and seconds in all.
_MAX_ASKED: Final = 50
_ASKED_AT_ONCE: Final = 8
_PATIENCE_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class TreeRoom:
    """A room in a tree: what clients are told of it, and what it names if it is a space."""

    room_id: str
    entry: Mapping[str, Any]
    is_accessible: bool
    # None where they were not looked at yet: `Visit.complete` does that.
    children: Sequence[ChildEvent] | None = None
    # The room itself where we are in it, else how its server describes it, or servers that may do so.
    here: RoomInfo | None = None
    remote: RemoteRoom | None = None
    servers: Sequence[str] = ()

    @property
    def is_space(self) -> bool:
        """Whether the room is there to hold others."""
        return self.entry.get("room_type") == "m.space"


class TreeRooms:
    """Finds rooms for a user."""

    def __init__(
        self,
        overviews: RoomOverviews,
        store: OverviewStore,
        participation: Participation,
        remote: RemoteSpaces | None,
    ) -> None:
        self._overviews = overviews
        self._store = store
        self._participation = participation
        self._remote = remote

    def visit(self, user_id: str) -> "Visit":
        """For one request of a user."""
        return Visit(self, user_id)

    async def find_here(self, user_id: str, room_ids: Sequence[str]) -> dict[str, TreeRoom]:
        """Those of the rooms that we are in."""
        known = await self._overviews.list_known(user_id, room_ids)
        return {
            room_id: _tree_room(overview)
            for room_id, overview in known.items()
            if await self._is_current(overview.room)
        }

    async def find_elsewhere(self, user_id: str, room_id: str, servers: Sequence[str]) -> TreeRoom | None:
        """A room that others are in; None where nobody tells of it."""
        found = None if self._remote is None else await self._remote.find(room_id, servers)
        return None if found is None else await self.judge(user_id, found.summary, found)

    async def judge(
        self, user_id: str, summary: RoomSummary, remote: RemoteRoom | None, servers: Sequence[str] = ()
    ) -> TreeRoom:
        """A room as its server describes it; what it means for the user is for us to say."""
        allowed = summary.allowed_room_ids or []
        memberships = await self._store.list_memberships_of(user_id, [summary.room_id, *allowed])
        entry = {
            name: value for name in summary.__struct_fields__ if (value := getattr(summary, name)) is not None
        }
        joined = {room_id for room_id, membership in memberships.items() if membership == "join"}
        may_see = is_accessible({"join_rule": "public"} | entry, memberships.get(summary.room_id), joined)
        children = None if remote is None else remote.children
        return TreeRoom(summary.room_id, entry, may_see, children, remote=remote, servers=servers)

    async def load_children(self, room: TreeRoom, here: RoomInfo) -> TreeRoom:
        """A space that we are in with the rooms that it names."""
        return replace(room, children=await self._overviews.list_children(here))

    async def _is_current(self, room: RoomInfo) -> bool:
        """Whether we know what the room is now."""
        return await self._participation.is_in(room.room_nid)


class Visit:
    """What one request may ask of other servers."""

    def __init__(self, rooms: TreeRooms, user_id: str) -> None:
        self._rooms = rooms
        self._user_id = user_id
        self._left = _MAX_ASKED
        self._until_s = asyncio.get_running_loop().time() + _PATIENCE_S
        self._slots = asyncio.Semaphore(_ASKED_AT_ONCE)

    async def find(self, room_id: str, servers: Sequence[str]) -> TreeRoom | None:
        """One room: as we know it, or else as the servers describe it."""
        here = await self._rooms.find_here(self._user_id, [room_id])
        return here[room_id] if room_id in here else await self._ask(room_id, servers)

    async def complete(self, room: TreeRoom) -> TreeRoom:
        """The room with its children, where they were left out."""
        if room.children is not None or not room.is_space:
            return room
        if room.here is not None:
            return await self._rooms.load_children(room, room.here)
        return await self._ask(room.room_id, room.servers) or room

    async def list_within(self, parent: TreeRoom, children: Sequence[ChildEvent]) -> dict[str, TreeRoom]:
        """Those of a space's rooms that can be found, by id."""
        ids = [child.state_key or "" for child in children]
        found = await self._rooms.find_here(self._user_id, ids)
        elsewhere = {child.state_key or "": child for child in children if child.state_key not in found}
        others = await asyncio.gather(*(self._find(parent, id, child) for id, child in elsewhere.items()))
        return found | {room.room_id: room for room in others if room is not None}

    async def _find(self, parent: TreeRoom, room_id: str, child: ChildEvent) -> TreeRoom | None:
        servers = [name for name in child.content["via"] if isinstance(name, str)]
        if parent.remote is not None:
            if room_id in parent.remote.inaccessible:
                return None
            summary = parent.remote.described.get(room_id)
            if summary is not None:
                return await self._rooms.judge(self._user_id, summary, None, servers)
        return await self._ask(room_id, servers)

    async def _ask(self, room_id: str, servers: Sequence[str]) -> TreeRoom | None:
        if self._left == 0:
            return None
        self._left -= 1
        async with self._slots:
            try:
                async with asyncio.timeout_at(self._until_s):
                    return await self._rooms.find_elsewhere(self._user_id, room_id, servers)
            except TimeoutError:
                return None


def _tree_room(overview: Overview) -> TreeRoom:
    return TreeRoom(overview.room.room_id, overview.entry, overview.is_accessible, here=overview.room)
