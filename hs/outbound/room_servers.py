"""The servers in rooms: in memory for busy rooms, kept true by commits."""

from collections.abc import Sequence

from cachetools import LRUCache

from hs.matrix.ids import is_server_name, server_of
from hs.rooms.drafts import Committed, MembershipChange
from hs.storage.outbound import OutboundStore
from hs.storage.rooms import RoomInfo

# Of all rooms together, about 150 bytes each: one of a large room is in many.
_REMEMBERED = 300_000


class RoomServers:
    """Knows which other servers hear of what happens in a room.

    Those that the room's access list denies are among them: that keeps out what they do, not what is done (spec:
    client-server-api "Server Access Control (ACLs) for rooms", "Server behaviour"). Commits must be taken over one at
    a time, in their order; what is read from the database may be ahead of them.
    """

    def __init__(self, store: OutboundStore, server_name: str) -> None:
        self._store = store
        self._server_name = server_name
        # Counts changes, so that what was read before one is not kept after it.
        self._changes = 0
        self._known: LRUCache[int, frozenset[str]] = LRUCache(
            _REMEMBERED, getsizeof=lambda found: len(found) + 1
        )

    async def list_servers(self, room: RoomInfo) -> frozenset[str]:
        """Servers with users in the room, without ours."""
        known = self._known.get(room.room_nid)
        if known is None:
            before = self._changes
            named = await self._store.list_servers(room.room_nid)
            known = frozenset(name for name in named if is_server_name(name))
            # A room that is too large to be remembered is read each time.
            if len(known) < _REMEMBERED and before == self._changes:
                self._known[room.room_nid] = known
        return known

    def forget(self) -> None:
        """Let the database say who is where."""
        self._known.clear()

    async def take_over(self, committed: Committed) -> None:
        """Know what a commit has changed."""
        room = committed.room
        if committed.is_uncertain or committed.membership_changes:
            self._changes += 1
        known = self._known.get(room.room_nid)
        if known is None:
            return
        if committed.is_uncertain:
            del self._known[room.room_nid]
        elif committed.membership_changes:
            self._known[room.room_nid] = await self._change(room, known, committed.membership_changes)

    async def _change(
        self, room: RoomInfo, known: frozenset[str], changes: Sequence[MembershipChange]
    ) -> frozenset[str]:
        came, went = set[str](), set[str]()
        for change in changes:
            name = server_of(change.user_id)
            if name == self._server_name or not is_server_name(name):
                continue
            if change.membership == "join":
                came.add(name)
            elif name in known or name in came:
                went.add(name)
        if went:
            # Others of their users may be there still.
            staying = await self._store.list_joined(room.room_nid, went)
            known, came = known - (went - staying), came - (went - staying)
        return known | came
