"""Rooms in which people see each other's presence: those with few enough members."""

from collections.abc import Collection

from cachetools import LRUCache

from hs.rooms.drafts import Committed
from hs.storage.presence import PresenceStore

# About 200 bytes each: 20 MB when full.
_CACHED = 100_000


class SmallRooms:
    """Tells rooms with at most `limit` joined members, without counting large ones again and again."""

    def __init__(self, store: PresenceStore, limit: int) -> None:
        self._store = store
        self._limit = limit
        # Counted further than the limit: a large room takes as many changes to become a small one.
        self._upto = 2 * limit + 100
        # By room: joined members when they were counted, and how many memberships have changed since.
        self._known: LRUCache[int, tuple[int, int]] = LRUCache(_CACHED)

    async def among(self, room_nids: Collection[int]) -> list[int]:
        """Those of the rooms that are small, in the same order."""
        judged = {room_nid: self._judge(room_nid) for room_nid in room_nids}
        unknown = [room_nid for room_nid, is_small in judged.items() if is_small is None]
        if unknown:
            for room_nid, count in (await self._store.count_joined(unknown, self._upto)).items():
                self._known[room_nid] = count, 0
                judged[room_nid] = count <= self._limit
        return [room_nid for room_nid, is_small in judged.items() if is_small]

    def on_commit(self, committed: Committed) -> None:
        """Take over new memberships."""
        room_nid = committed.room.room_nid
        if committed.is_uncertain:
            self._known.pop(room_nid, None)
        elif committed.membership_changes and (known := self._known.get(room_nid)) is not None:
            count, changes = known
            self._known[room_nid] = count, changes + len(committed.membership_changes)

    def _judge(self, room_nid: int) -> bool | None:
        """Whether the room is small; None where that takes counting."""
        known = self._known.get(room_nid)
        if known is None:
            return None
        count, changes = known
        if count + changes <= self._limit:
            return True
        return False if count - changes > self._limit else None
