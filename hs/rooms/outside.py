"""Rooms that nobody of this server is in: invites to them, knocks at them, and the end of both.

Spec: server-server-api "Inviting to a room", "Knocking upon a room", "Leaving Rooms (Rejecting Invites)".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from hs.matrix.event import Event
from hs.matrix.ids import server_of
from hs.matrix.room_versions import RoomVersion
from hs.net.errors import BadAnswer
from hs.rooms.build import Numbers
from hs.rooms.commit import Committer
from hs.rooms.drafts import SentEvent
from hs.rooms.lane import Lanes
from hs.storage.arrivals import ArrivalStore
from hs.storage.memberships import MembershipStore
from hs.storage.outside import StrippedStateStore
from hs.storage.rooms import RoomInfo, RoomStore

# What a client is shown of a room before it is in: servers send about ten events.
MAX_STRIPPED = 100
_MAX_STRIPPED_BYTES = 64 * 1024
_STRIPPED_KEYS = ("type", "state_key", "sender", "content")


@dataclass(frozen=True, slots=True)
class OutsideMemberships:
    """What is known of our users in rooms that none of us is in."""

    members: MembershipStore
    stripped: StrippedStateStore


class OutsideRooms:
    """Keeps memberships in rooms of which we have only what their servers tell us."""

    def __init__(
        self,
        lanes: Lanes,
        rooms: RoomStore,
        known: ArrivalStore,
        committer: Committer,
        memberships: OutsideMemberships,
        numbers: Numbers,
    ) -> None:
        self._lanes = lanes
        self._rooms = rooms
        self._known = known
        self._committer = committer
        self._members = memberships.members
        self._stripped = memberships.stripped
        self._numbers = numbers

    async def enter(self, room_id: str, version: RoomVersion) -> RoomInfo:
        """The room, which is entered where it is new to us; another server says that this is its version.

        Where that is proven already, the room keeps the version that it has.
        """
        room = await self._rooms.find(room_id)
        if room is None or room.version is not version:
            room = await self._rooms.enter_told(room_id, version, await self._new_nid())
        return room

    async def enter_proven(self, room_id: str, version: RoomVersion) -> RoomInfo:
        """The room, which is of this version for good, as its own create event says; BadAnswer where that cannot be.

        Of what nobody has proven nothing is held that another version could make wrong: single memberships only,
        which nothing rests on.
        """
        room = await self._rooms.enter_proven(room_id, version, await self._new_nid())
        if room.version is not version:
            raise BadAnswer("the room has another version than it had before")
        return room

    async def _new_nid(self) -> int:
        [room_nid] = await self._numbers.rooms.take(1)
        return room_nid

    async def set_membership(
        self, room: RoomInfo, event: Event, stripped: Sequence[Any] | None
    ) -> SentEvent | None:
        """The membership that a signed member event gives one of our users; None where we had the event.

        None, too, where one of us has joined meanwhile: memberships follow from the room's state then.
        `stripped` is the state that came with it: the user's clients are shown what of it is well-formed.
        """
        async with self._lanes.turn(room.room_nid):
            if await self._members.list_local_joined(room.room_nid, 1):
                return None
            known = await self._known.find(room.room_nid, [event.event_id])
            if event.event_id in known.held or event.event_id in known.unjudged:
                return None
            nid = known.awaited.get(event.event_id)
            if nid is None:
                [nid] = await self._numbers.events.take(1)
            shown = None if stripped is None else render_stripped(stripped)
            return await self._committer.commit_outside(room, event, nid, shown)

    async def end(self, room: RoomInfo, event: Event) -> None:
        """Take in that an invite was withdrawn or a knock refused, where it is that; nothing for other events.

        We cannot judge it by the room's rules: it must come from a server that has told us of the room. And it must
        cite what it ends, as events do: an unban may come after the invite that followed it.
        """
        user_id = event.state_key
        if event.type != "m.room.member" or user_id is None or event.sender == user_id:
            return
        if event.content.get("membership") not in ("leave", "ban"):
            return
        # None where the user is not one of ours.
        sender = await self._members.find_local_sender(room.room_nid, user_id)
        present = await self._members.find_membership(room.room_nid, user_id)
        if sender is None or present not in ("invite", "knock"):
            return
        if await self._members.find_event_id(room.room_nid, user_id) not in event.auth_events:
            return
        named = [*await self._stripped.list_senders(user_id, room.room_nid), sender]
        if server_of(event.sender) in {server_of(user) for user in named if user != user_id}:
            await self.set_membership(room, event, None)


def render_stripped(events: Sequence[Any]) -> bytes:
    """A JSON array of those of the events that are stripped state, with nothing else in them.

    Servers send whole PDUs, too (since v1.16 they should): of these as much as a stripped event has.
    """
    found: list[dict[str, Any]] = []
    size = 0
    for event in events[:MAX_STRIPPED]:
        if not isinstance(event, dict) or not _is_stripped(event):
            continue
        stripped = {key: event[key] for key in _STRIPPED_KEYS}
        size += len(msgspec.json.encode(stripped))
        if size > _MAX_STRIPPED_BYTES:
            break
        found.append(stripped)
    return msgspec.json.encode(found)


def _is_stripped(event: dict[str, Any]) -> bool:
    texts = all(isinstance(event.get(key), str) for key in ("type", "state_key", "sender"))
    return texts and isinstance(event.get("content"), dict)
