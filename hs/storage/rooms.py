"""Rooms by id and by number."""

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg
from cachetools import LRUCache

from hs.matrix.errors import NotFound
from hs.matrix.room_versions import RoomVersion, get_room_version
from hs.storage.database import Database

# A RoomInfo is about 300 bytes; 100,000 rooms are more than one process serves in a busy hour.
_CACHED_ROOMS = 100_000

_SELECT = "SELECT room_nid, room_id, room_version, is_version_proven FROM rooms"


@dataclass(frozen=True, slots=True)
class RoomInfo:
    """What never changes about a room, once its version is proven."""

    room_nid: int
    room_id: str
    version: RoomVersion


class RoomStore:
    """The rooms this database knows; their unchanging facts are cached.

    A room's version is proven where we have made the room, or hold its create event. Before that it is what somebody
    has said who invites one of us or lets one of us knock: such rooms are read anew each time.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._by_id: LRUCache[str, RoomInfo] = LRUCache(_CACHED_ROOMS)
        self._by_nid: LRUCache[int, RoomInfo] = LRUCache(_CACHED_ROOMS)

    async def find(self, room_id: str) -> RoomInfo | None:
        """The room, or None where we have never been part of it."""
        known = self._by_id.get(room_id)
        if known is None:
            row = await self._database.fetchrow(f"{_SELECT} WHERE room_id = $1", room_id)
            known = self._remember(row) if row is not None else None
        return known

    async def get(self, room_id: str) -> RoomInfo:
        """The room; NotFound where we have never been part of it."""
        room = await self.find(room_id)
        if room is None:
            raise NotFound("unknown room")
        return room

    async def enter_told(self, room_id: str, version: RoomVersion, room_nid: int) -> RoomInfo:
        """The room, entered with this number where it is new, with what another server says its version is.

        A version that was said before is replaced, one that is proven stays.
        """
        return await self._enter(room_id, version, room_nid, is_proven=False)

    async def enter_proven(self, room_id: str, version: RoomVersion, room_nid: int) -> RoomInfo:
        """As `enter_told`, for a version that the room's own create event names: it stays from now on."""
        return await self._enter(room_id, version, room_nid, is_proven=True)

    async def _enter(self, room_id: str, version: RoomVersion, room_nid: int, *, is_proven: bool) -> RoomInfo:
        async with self._database.write() as writer:
            await writer.execute(
                "INSERT INTO rooms AS r (room_nid, room_id, room_version, created_ts, is_version_proven) "
                "VALUES ($1, $2, $3, (extract(epoch FROM now()) * 1000)::bigint, $4) "
                "ON CONFLICT (room_id) DO UPDATE SET room_version = excluded.room_version, "
                "is_version_proven = excluded.is_version_proven WHERE NOT r.is_version_proven",
                room_nid,
                room_id,
                version.id,
                is_proven,
            )
        return await self.get(room_id)

    async def list_by_nids(self, room_nids: Sequence[int]) -> dict[int, RoomInfo]:
        """The rooms with these numbers, by number."""
        found = {nid: room for nid in room_nids if (room := self._by_nid.get(nid)) is not None}
        missing = [nid for nid in room_nids if nid not in found]
        if missing:
            rows = await self._database.fetch(f"{_SELECT} WHERE room_nid = ANY($1::bigint[])", missing)
            found |= {row["room_nid"]: self._remember(row) for row in rows}
        return found

    async def by_nid(self, room_nid: int) -> RoomInfo:
        """The room with this number; NotFound where there is none."""
        rooms = await self.list_by_nids([room_nid])
        if room_nid not in rooms:
            raise NotFound("unknown room")
        return rooms[room_nid]

    def _remember(self, row: asyncpg.Record) -> RoomInfo:
        room = RoomInfo(row["room_nid"], row["room_id"], get_room_version(row["room_version"]))
        if row["is_version_proven"]:
            self._by_id[room.room_id] = room
            self._by_nid[room.room_nid] = room
        return room
