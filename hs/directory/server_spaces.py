"""A space and its rooms as another server gets them. Spec: server-server-api GET /hierarchy."""

from collections.abc import Mapping, Sequence
from typing import Any

from hs._fast.event_record import EventRecord
from hs.directory.overviews import Overview, RoomOverviews
from hs.directory.space_children import list_children, stripped
from hs.matrix.errors import NotFound
from hs.rooms.participation import Participation
from hs.storage.history import HistoryStore
from hs.storage.overviews import OverviewStore
from hs.storage.rooms import RoomInfo

# Overviews are made for a user; this is none, so they say what is open to everybody.
_NOBODY = ""


class ServerSpaces:
    """Describes spaces, one level of them: the other server asks on."""

    def __init__(
        self,
        overviews: RoomOverviews,
        overview_store: OverviewStore,
        store: HistoryStore,
        participation: Participation,
    ) -> None:
        self._overviews = overviews
        self._overview_store = overview_store
        self._store = store
        self._participation = participation

    async def describe(self, origin: str, room: RoomInfo, *, suggested_only: bool) -> dict[str, Any]:
        """The answer of GET /hierarchy; NotFound where the server's users may neither join nor look in."""
        root = await self._overviews.get(_NOBODY, room)
        if not await self._list_accessible(origin, [root]):
            raise NotFound("unknown room")
        events = await self._list_children(root, suggested_only)
        ids = [child.state_key or "" for child in events]
        known = await self._overviews.list_known(_NOBODY, ids)
        ours = [known[id] for id in dict.fromkeys(ids) if id in known and await self._is_current(known[id])]
        accessible = await self._list_accessible(origin, ours)
        return {
            "room": {**root.entry, "children_state": [stripped(event) for event in events]},
            "children": [one.entry for one in ours if one.room.room_nid in accessible],
            "inaccessible_children": [
                one.room.room_id for one in ours if one.room.room_nid not in accessible
            ],
        }

    async def _list_children(self, root: Overview, suggested_only: bool) -> list[EventRecord]:
        if root.entry.get("room_type") != "m.space":
            return []
        return list_children(await self._overviews.list_children(root.room), suggested_only=suggested_only)

    async def _is_current(self, overview: Overview) -> bool:
        """Whether we know what the room is now."""
        return await self._participation.is_in(overview.room.room_nid)

    async def _list_accessible(self, origin: str, overviews: Sequence[Overview]) -> set[int]:
        """Numbers of those of the rooms that the server's users are in, may come into or may look into."""
        found = {one.room.room_nid for one in overviews if one.is_accessible}
        others = [one for one in overviews if one.room.room_nid not in found]
        if not others:
            return found
        nids = [one.room.room_nid for one in others]
        found |= await self._store.list_rooms_of(origin, nids)
        found |= await self._store.list_rooms_inviting(origin, nids)
        allowed = {id for one in others for id in _allowed(one.entry)}
        if allowed:
            known = await self._overview_store.list_nids(list(allowed))
            joined = await self._store.list_rooms_of(origin, list(known.values()))
            open_ids = {id for id, nid in known.items() if nid in joined}
            found |= {one.room.room_nid for one in others if not open_ids.isdisjoint(_allowed(one.entry))}
        return found


def _allowed(entry: Mapping[str, Any]) -> Sequence[str]:
    ids: Sequence[str] = entry.get("allowed_room_ids", ())
    return ids
