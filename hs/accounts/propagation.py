"""What a change of an account means for the rooms that its user is in."""

import logging
from collections.abc import AsyncIterator

from hs.matrix.errors import MatrixError
from hs.rooms.membership import RoomMemberships
from hs.storage.members import MemberStore
from hs.storage.rooms import RoomInfo, RoomStore

logger = logging.getLogger(__name__)


class AccountRooms:
    """Carries changes of accounts into their rooms."""

    def __init__(self, members: MemberStore, rooms: RoomStore, memberships: RoomMemberships) -> None:
        self._members = members
        self._rooms = rooms
        self._memberships = memberships

    async def update_profile(self, user_id: str) -> None:
        """Tell every room the user is in of the present display name and avatar."""
        async for room in self._list_rooms(user_id, ("join",)):
            try:
                await self._memberships.set_profile_fields(room, user_id)
            except MatrixError as refused:
                # A room may forbid it; the profile itself and the other rooms have changed.
                logger.info("room %s refused the new profile of %s: %s", room.room_id, user_id, refused)

    async def leave_all(self, user_id: str) -> None:
        """Take the user out of all rooms, invites and knocks included."""
        async for room in self._list_rooms(user_id, ("join", "invite", "knock")):
            try:
                await self._memberships.leave(room, user_id)
            except MatrixError as refused:
                logger.warning("%s cannot leave room %s: %s", user_id, room.room_id, refused)

    async def _list_rooms(self, user_id: str, kinds: tuple[str, ...]) -> AsyncIterator[RoomInfo]:
        rows = [row for row in await self._members.list_rooms_of(user_id) if row.membership in kinds]
        rooms = await self._rooms.list_by_nids([row.room_nid for row in rows])
        for row in rows:
            yield rooms[row.room_nid]
