"""Who may read a room, and up to where.

Spec: client-server-api "Room history visibility": members read, those who left read what was before their
leave, and what is world-readable is for everybody. Single events are judged by `visibility`.
"""

from dataclasses import dataclass

from hs._fast.state_tree import Node
from hs.matrix.errors import Forbidden
from hs.rooms.state import RoomStates
from hs.storage.events import EventStore
from hs.storage.members import MemberStore
from hs.storage.rooms import RoomInfo
from hs.sync.user_rooms import UserRooms

_VISIBILITY = ("m.room.history_visibility", "")
# Above every stream ordering.
END = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Access:
    """What a user may read of a room: events with stream orderings up to `until`.

    `left_nid` is the event that ended the user's membership; 0 for members, and for who looks in from
    outside because the room is open to the world.
    """

    is_member: bool
    until: int = END
    left_nid: int = 0


class RoomAccess:
    """Lets readers in."""

    def __init__(
        self, user_rooms: UserRooms, members: MemberStore, states: RoomStates, events: EventStore
    ) -> None:
        self._user_rooms = user_rooms
        self._members = members
        self._states = states
        self._events = events

    async def check_member(self, room: RoomInfo, user_id: str) -> None:
        """Forbidden where the user is not in the room now."""
        if not await self._is_member(room, user_id):
            raise Forbidden("you are not in this room")

    async def check_reader(self, room: RoomInfo, user_id: str) -> Access:
        """What the user may read of the room; Forbidden where it is nothing."""
        if await self._is_member(room, user_id):
            return Access(is_member=True)
        if await self._is_world_readable(room):
            return Access(is_member=False)
        departure = await self._members.find_departure(user_id, room.room_nid)
        if departure is None:
            raise Forbidden("you are not in this room and have never been")
        return Access(is_member=False, until=departure.stream_ordering, left_nid=departure.event_nid)

    async def state_root(self, room: RoomInfo, access: Access) -> Node:
        """The state that the reader is shown: the current one, or that of the leave."""
        if access.left_nid:
            return self._states.after(await self._events.get(access.left_nid))
        return await self._states.current(room.room_nid)

    async def _is_member(self, room: RoomInfo, user_id: str) -> bool:
        row = (await self._user_rooms.get(user_id)).get(room.room_nid)
        return row is not None and row.membership == "join"

    async def _is_world_readable(self, room: RoomInfo) -> bool:
        root = await self._states.current(room.room_nid)
        nid = await self._states.get(room.room_nid, root, *_VISIBILITY)
        if not nid:
            return False
        return (await self._events.get(nid)).content.get("history_visibility") == "world_readable"
