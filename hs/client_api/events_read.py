"""Reading single events, state and members.

Spec: client-server-api "Getting events for a room", "Room membership".
"""

from typing import Any, Literal

import msgspec

from hs.client_api.paths import v3
from hs.client_api.room_params import get_own_room
from hs.http.endpoint import Auth, Caller, RawJson, endpoint
from hs.matrix.errors import Forbidden, NotFound
from hs.matrix.tokens import parse_pagination_token
from hs.storage.rooms import RoomStore
from hs.sync.access import RoomAccess
from hs.sync.client_events import Viewer
from hs.sync.pagination import Pagination
from hs.sync.room_reader import RoomReader
from hs.sync.user_rooms import UserRooms

Membership = Literal["join", "invite", "knock", "leave", "ban"]


class StateQuery(msgspec.Struct):
    """The query of GET /state/{type}/{key}."""

    format: Literal["content", "event"] = "content"


class MembersQuery(msgspec.Struct):
    """The query of GET /members."""

    at: str | None = None
    membership: Membership | None = None
    not_membership: Membership | None = None


class EventsReadApi:
    """Shows what a room is and who is in it."""

    def __init__(
        self,
        rooms: RoomStore,
        access: RoomAccess,
        reader: RoomReader,
        pagination: Pagination,
        user_rooms: UserRooms,
    ) -> None:
        self._rooms = rooms
        self._access = access
        self._reader = reader
        self._pagination = pagination
        self._user_rooms = user_rooms

    @endpoint("GET", *v3("/rooms/{room_id}/event/{event_id}"), auth=Auth.USER, limit="read")
    async def get_event(self, caller: Caller, room_id: str, event_id: str) -> RawJson:
        """One event."""
        try:
            room = await get_own_room(self._rooms, room_id)
            access = await self._access.check_reader(room, caller.user_id)
        except Forbidden as error:
            # Spec: 404 also where the caller may not read the event.
            raise NotFound("there is no such event, or you may not see it") from error
        return RawJson(await self._pagination.event(room, _viewer(caller), access, event_id))

    @endpoint("GET", *v3("/rooms/{room_id}/state"), auth=Auth.USER, limit="read")
    async def get_state(self, caller: Caller, room_id: str) -> RawJson:
        """All state events of the room."""
        room = await get_own_room(self._rooms, room_id)
        access = await self._access.check_reader(room, caller.user_id)
        return RawJson(await self._reader.state(room, _viewer(caller), access))

    @endpoint(
        "GET",
        *v3("/rooms/{room_id}/state/{event_type}/{state_key}"),
        auth=Auth.USER,
        limit="read",
    )
    async def get_state_event(
        self, caller: Caller, room_id: str, event_type: str, state_key: str, query: StateQuery
    ) -> RawJson:
        """One state event, or its content."""
        return await self._state_event(caller, room_id, event_type, state_key, query)

    @endpoint("GET", *v3("/rooms/{room_id}/state/{event_type}"), auth=Auth.USER, limit="read")
    async def get_keyless_state_event(
        self, caller: Caller, room_id: str, event_type: str, query: StateQuery
    ) -> RawJson:
        """The same with an empty key: the slash is optional then."""
        return await self._state_event(caller, room_id, event_type, "", query)

    @endpoint("GET", *v3("/rooms/{room_id}/members"), auth=Auth.USER, limit="read")
    async def get_members(self, caller: Caller, room_id: str, query: MembersQuery) -> RawJson:
        """The member events of the room, now or at an earlier time."""
        at = None if query.at is None else parse_pagination_token(query.at)
        room = await get_own_room(self._rooms, room_id)
        access = await self._access.check_reader(room, caller.user_id)
        viewer = _viewer(caller)
        if at is None and not access.left_nid:
            found = await self._reader.members_now(room, viewer, query.membership, query.not_membership)
        else:
            found = await self._reader.members_at(
                room, viewer, access, at, query.membership, query.not_membership
            )
        return RawJson(found)

    @endpoint("GET", *v3("/rooms/{room_id}/joined_members"), auth=Auth.USER, limit="read")
    async def get_joined_members(self, caller: Caller, room_id: str) -> RawJson:
        """Who is in the room, with their profiles."""
        room = await get_own_room(self._rooms, room_id)
        await self._access.check_member(room, caller.user_id)
        return RawJson(await self._reader.joined_members(room))

    @endpoint("GET", *v3("/joined_rooms"), auth=Auth.USER, limit="read")
    async def get_joined_rooms(self, caller: Caller) -> dict[str, Any]:
        """The rooms that the caller is in."""
        rows = await self._user_rooms.get(caller.user_id)
        joined = [row.room_nid for row in rows.values() if row.membership == "join"]
        rooms = await self._rooms.list_by_nids(joined)
        return {"joined_rooms": [rooms[room_nid].room_id for room_nid in joined]}

    async def _state_event(
        self, caller: Caller, room_id: str, event_type: str, state_key: str, query: StateQuery
    ) -> RawJson:
        room = await get_own_room(self._rooms, room_id)
        access = await self._access.check_reader(room, caller.user_id)
        if query.format == "content":
            return RawJson(await self._reader.state_content(room, access, event_type, state_key))
        return RawJson(await self._reader.state_event(room, _viewer(caller), access, event_type, state_key))


def _viewer(caller: Caller) -> Viewer:
    return Viewer(caller.user_id, caller.device_id)
