"""Memberships of other servers' users that have come into a room through us: also those that came before.

A server whose request was carried out, and whose answer was lost on the way, asks again.
Spec: server-server-api "Joining Rooms", "Knocking upon a room", "Leaving Rooms (Rejecting Invites)".
"""

from dataclasses import dataclass

from hs._fast.state_tree import Node
from hs.matrix.errors import Forbidden, InvalidParam
from hs.matrix.event import Event, event_from_stored
from hs.rooms.state import RoomStates
from hs.storage.events import HIDDEN, EventStore, Flag
from hs.storage.memberships import MembershipStore
from hs.storage.rooms import RoomInfo

_UNPLACED = Flag.OUTLIER | Flag.UNJUDGED


@dataclass(frozen=True, slots=True)
class Admission:
    """A membership that has become part of the room; `before` is the root of the state before its event."""

    room: RoomInfo
    event: Event
    before: Node


class PastAdmissions:
    """Finds what a repeated request is about."""

    def __init__(self, states: RoomStates, events: EventStore, members: MembershipStore) -> None:
        self._states = states
        self._events = events
        self._members = members

    async def find(self, room: RoomInfo, event: Event) -> Admission | None:
        """The admission of a member event that is in the room already; None where it is not.

        Raises Forbidden where the room has refused it, and where its user has joined by it and is out again:
        their server would take them for joined. InvalidParam for another event under the same id.
        """
        nid = await self._events.find_nid(room.room_nid, event.event_id)
        record = None if nid is None else await self._events.get(nid)
        if record is None or record.flags & _UNPLACED:
            return None
        if record.flags & HIDDEN:
            raise Forbidden("the room has refused this event")
        membership = event.content.get("membership")
        found = record.type, record.sender, record.state_key, record.content.get("membership")
        if found != (event.type, event.sender, event.state_key, membership):
            # Rooms of the first versions have ids that their servers choose.
            raise InvalidParam("the room has another event of this id")
        if membership == "join":
            present = await self._members.find_membership(room.room_nid, event.sender)
            if present != "join":
                raise Forbidden("the user is not in the room any more")
        pdu = (await self._events.get_pdu_json([record.event_nid]))[record.event_nid]
        stored = event_from_stored(pdu, event.event_id, room.version)
        return Admission(room, stored, await self._states.before(record))
