"""GET /timestamp_to_event.

Spec: client-server-api "Getting events for a room".
"""

from typing import Any, Literal

import msgspec

from hs.client_api.room_params import get_own_room
from hs.http.endpoint import Auth, Caller, endpoint
from hs.storage.rooms import RoomStore
from hs.sync.access import RoomAccess
from hs.sync.far_timestamps import AllEventsByTime


class TimestampQuery(msgspec.Struct):
    """The query of GET /timestamp_to_event."""

    ts: int
    dir: Literal["f", "b"]


class TimestampsApi:
    """Finds events by time."""

    def __init__(self, rooms: RoomStore, access: RoomAccess, by_time: AllEventsByTime) -> None:
        self._rooms = rooms
        self._access = access
        self._by_time = by_time

    @endpoint(
        "GET",
        "/_matrix/client/v1/rooms/{room_id}/timestamp_to_event",
        "/_matrix/client/unstable/org.matrix.msc3030/rooms/{room_id}/timestamp_to_event",
        auth=Auth.USER,
        limit="read",
    )
    async def get_timestamp_to_event(
        self, caller: Caller, room_id: str, query: TimestampQuery
    ) -> dict[str, Any]:
        """The event closest to a time, in one direction."""
        room = await get_own_room(self._rooms, room_id)
        access = await self._access.check_reader(room, caller.user_id)
        backwards = query.dir == "b"
        record = await self._by_time.get_closest(room, caller.user_id, access, query.ts, backwards=backwards)
        return {"event_id": record.event_id, "origin_server_ts": record.origin_server_ts}
