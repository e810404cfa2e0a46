"""Whether we take part in a room: one of our users is in it."""

from cachetools import LRUCache

from hs.rooms.drafts import Committed
from hs.storage.memberships import MembershipStore

# About 100 bytes each.
_REMEMBERED = 100_000


class Participation:
    """Knows of each busy room whether any of our users is in it."""

    def __init__(self, members: MembershipStore) -> None:
        self._members = members
        self._known: LRUCache[int, bool] = LRUCache(_REMEMBERED)
        # Counts changes, so that what was read before one is not kept after it.
        self._changes = 0

    async def is_in(self, room_nid: int) -> bool:
        """Whether one of our users is joined to the room."""
        known = self._known.get(room_nid)
        if known is None:
            before = self._changes
            known = bool(await self._members.list_local_joined(room_nid, 1))
            if before == self._changes:
                self._known[room_nid] = known
        return known

    def on_commit(self, committed: Committed) -> None:
        """Look again where memberships have changed."""
        if committed.is_uncertain or committed.membership_changes:
            self._changes += 1
            self._known.pop(committed.room.room_nid, None)
