"""Who of us is in which room: loaded when a user first syncs, then kept true by commits."""

from collections.abc import Callable, Set

from cachetools import LRUCache

from hs.rooms.drafts import Committed
from hs.storage.members import MemberStore, UserRoomRow

# A user in 200 rooms takes about 40 KB.
_CACHED_USERS = 20_000
_NOBODY: frozenset[str] = frozenset()
# Memberships of those who are not in a room and will not hear of it.
OUTSIDE = ("leave", "ban")


class UserRooms:
    """The rooms of users who sync, and the users who sync of rooms."""

    def __init__(self, members: MemberStore) -> None:
        self._members = members
        self._rooms: LRUCache[str, dict[int, UserRoomRow]] = _ForgettingCache(self._forget)
        self._users: dict[int, set[str]] = {}
        self._tell_forgotten: Callable[[str], None] = lambda user_id: None
        # Users whose rooms are being read, and whether a commit has touched them meanwhile.
        self._loading: dict[str, bool] = {}

    async def get(self, user_id: str) -> dict[int, UserRoomRow]:
        """The user's rooms by number, as of the last commit; treat it as read-only."""
        found = self._rooms.get(user_id)
        while found is None:
            self._loading[user_id] = False
            try:
                rows = await self._members.list_rooms_of(user_id)
            finally:
                was_touched = self._loading.pop(user_id, True)
            found = self._rooms.get(user_id)
            # A commit while we were reading may or may not be in what we have read.
            if found is None and not was_touched:
                found = {row.room_nid: row for row in rows}
                self._rooms[user_id] = found
                for row in rows:
                    if row.membership not in OUTSIDE:
                        self._users.setdefault(row.room_nid, set()).add(user_id)
        return found

    def list_users(self, room_nid: int) -> Set[str]:
        """Users who sync and are in the room, invited to it or knock at it."""
        return self._users.get(room_nid, _NOBODY)

    def on_forgotten(self, tell: Callable[[str], None]) -> None:
        """Call `tell` with each user who is no longer remembered, and so in no list of users."""
        self._tell_forgotten = tell

    def on_commit(self, committed: Committed) -> None:
        """Take over new memberships."""
        if committed.is_uncertain:
            self._loading = dict.fromkeys(self._loading, True)
            self._rooms.clear()
        room_nid = committed.room.room_nid
        for change in committed.membership_changes:
            if change.user_id in self._loading:
                self._loading[change.user_id] = True
            rooms = self._rooms.get(change.user_id)
            if rooms is not None:
                row = UserRoomRow(
                    room_nid, change.membership, change.event_nid, change.stream_ordering, change.sender
                )
                rooms[room_nid] = row
                if change.membership in OUTSIDE:
                    self._remove(change.user_id, room_nid)
                else:
                    self._users.setdefault(room_nid, set()).add(change.user_id)

    def _forget(self, user_id: str, rooms: dict[int, UserRoomRow]) -> None:
        for room_nid in rooms:
            self._remove(user_id, room_nid)
        self._tell_forgotten(user_id)

    def _remove(self, user_id: str, room_nid: int) -> None:
        users = self._users.get(room_nid)
        if users is not None:
            users.discard(user_id)
            if not users:
                del self._users[room_nid]


class _ForgettingCache(LRUCache[str, dict[int, UserRoomRow]]):
    """Tells of what it drops, so that the reverse map drops it, too."""

    def __init__(self, tell: Callable[[str, dict[int, UserRoomRow]], None]) -> None:
        super().__init__(_CACHED_USERS)
        self._tell = tell

    def popitem(self) -> tuple[str, dict[int, UserRoomRow]]:
        user_id, rooms = super().popitem()
        self._tell(user_id, rooms)
        return user_id, rooms
