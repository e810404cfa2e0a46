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
        # Readings that are under way, by user; those that a commit has overtaken are not here any more.
        self._readings: dict[str, set[object]] = {}

    async def get(self, user_id: str) -> dict[int, UserRoomRow]:
        """The user's rooms by number, as of the last commit; treat it as read-only."""
        found = self._rooms.get(user_id)
        while found is None:
            reading = object()
            self._readings.setdefault(user_id, set()).add(reading)
            try:
                rows = await self._members.list_rooms_of(user_id)
            finally:
                is_current = self._end(user_id, reading)
            found = self._rooms.get(user_id)
            # A commit while we were reading may or may not be in what we have read.
            if found is None and is_current:
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
            self._readings.clear()
            self._rooms.clear()
        room_nid = committed.room.room_nid
        for change in committed.membership_changes:
            self._readings.pop(change.user_id, None)
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

    def _end(self, user_id: str, reading: object) -> bool:
        """Whether no commit has overtaken the reading."""
        readings = self._readings.get(user_id, set())
        is_current = reading in readings
        readings.discard(reading)
        if not readings:
            self._readings.pop(user_id, None)
        return is_current

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
