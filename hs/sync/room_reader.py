"""State and members of a room as a reader is shown them: of now, of an earlier moment, or of their leave.

Spec: client-server-api GET /state, /members, /joined_members.
"""

from hs._fast.event_record import EventRecord
from hs._fast.state_tree import Node
from hs.matrix.errors import NotFound
from hs.matrix.tokens import RoomToken, TopologicalToken
from hs.rooms.state import RoomStates
from hs.storage.events import EventStore
from hs.storage.rooms import RoomInfo
from hs.storage.timeline import TimelineStore
from hs.sync.access import Access, RoomAccess
from hs.sync.client_events import ClientEvents, Viewer
from hs.sync.event_lists import EventLists, chunks
from hs.sync.member_lists import MemberLists

_MEMBER = "m.room.member"


class RoomReader:
    """Answers what is asked about a room's state, as JSON."""

    def __init__(
        self,
        access: RoomAccess,
        states: RoomStates,
        events: EventStore,
        members: MemberLists,
        timeline: TimelineStore,
        client_events: ClientEvents,
        lists: EventLists,
    ) -> None:
        self._access = access
        self._states = states
        self._events = events
        self._members = members
        self._timeline = timeline
        self._client_events = client_events
        self._lists = lists

    async def state_content(self, room: RoomInfo, access: Access, type: str, state_key: str) -> bytes:
        """The content of a state event; NotFound where there is none."""
        return (await self._state_event(room, access, type, state_key)).content_json

    async def state_event(
        self, room: RoomInfo, viewer: Viewer, access: Access, type: str, state_key: str
    ) -> bytes:
        """A whole state event; NotFound where there is none."""
        record = await self._state_event(room, access, type, state_key)
        return (await self._client_events.render([record], viewer, with_room_id=True))[0]

    async def state(self, room: RoomInfo, viewer: Viewer, access: Access) -> bytes:
        """All state events, as a list."""
        root = await self._access.state_root(room, access)
        return await self._lists.render(
            room.room_nid, root.id, viewer, lambda: self._states.list_nids(room.room_nid, root)
        )

    async def members_now(
        self, room: RoomInfo, viewer: Viewer, membership: str | None, not_membership: str | None
    ) -> bytes:
        """The member events of the current state: with one membership, or with any but the other."""
        found = await self._lists.render(
            room.room_nid,
            (membership, not_membership),
            viewer,
            lambda: self._members.list_nids(room.room_nid, membership, not_membership),
        )
        return b'{"chunk":%b}' % found

    async def members_at(
        self,
        room: RoomInfo,
        viewer: Viewer,
        access: Access,
        at: RoomToken | TopologicalToken | None,
        membership: str | None,
        not_membership: str | None,
    ) -> bytes:
        """The same of an earlier moment; None is the newest that the reader may see."""
        root = await self._root_at(room, access, at)
        nids = await self._states.list_nids(room.room_nid, root)
        wanted: list[int] = []
        for part in chunks(nids):
            found = await self._events.get_many(part)
            wanted += [
                nid
                for nid in part
                if nid in found and _is_wanted_member(found[nid], membership, not_membership)
            ]
        return b'{"chunk":%b}' % await self._lists.render_for(viewer, wanted)

    async def joined_members(self, room: RoomInfo) -> bytes:
        """Profiles of everybody in the room, by user id."""
        return await self._members.joined_profiles(room.room_nid)

    async def _state_event(self, room: RoomInfo, access: Access, type: str, state_key: str) -> EventRecord:
        root = await self._access.state_root(room, access)
        nid = await self._states.get(room.room_nid, root, type, state_key)
        if not nid:
            raise NotFound("the room has no such state")
        return await self._events.get(nid)

    async def _root_at(self, room: RoomInfo, access: Access, at: RoomToken | TopologicalToken | None) -> Node:
        if at is None or (isinstance(at, RoomToken) and at.max_stream >= access.until):
            return await self._access.state_root(room, access)
        if isinstance(at, RoomToken):
            return self._states.root(await self._timeline.find_state_id_at(room.room_nid, at.max_stream))
        places = await self._timeline.list_before(room.room_nid, at.depth, at.stream, access.until, 1)
        if not places:
            return self._states.root(0)
        return self._states.after(await self._events.get(places[0].event_nid))


def _is_wanted_member(record: EventRecord, membership: str | None, not_membership: str | None) -> bool:
    if record.type != _MEMBER:
        return False
    if membership is None and not_membership is None:
        return True
    actual = record.content.get("membership")
    return (membership is not None and actual == membership) or (
        not_membership is not None and actual != not_membership
    )
