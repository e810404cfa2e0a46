"""GET /timestamp_to_event for other servers. Spec: server-server-api "Retrieving events"; events.yaml."""

from typing import Any, Literal

import msgspec

from hs.http.endpoint import Auth, endpoint
from hs.sync.server_access import ServerAccess
from hs.sync.timestamps import EventsByTime


class TimestampQuery(msgspec.Struct):
    """The query of GET /timestamp_to_event."""

    ts: int
    dir: Literal["f", "b"]


class TimestampsApi:
    """Finds events by time."""

    def __init__(self, access: ServerAccess, by_time: EventsByTime) -> None:
        self._access = access
        self._by_time = by_time

    @endpoint(
        "GET",
        "/_matrix/federation/v1/timestamp_to_event/{room_id}",
        "/_matrix/federation/unstable/org.matrix.msc3030/timestamp_to_event/{room_id}",
        auth=Auth.SERVER,
        limit="federation",
    )
    async def get_timestamp_to_event(
        self, origin: str, room_id: str, query: TimestampQuery
    ) -> dict[str, Any]:
        """The event closest to a time, in one direction, of those that we have."""
        room, access = await self._access.check_reader(origin, room_id)
        backwards = query.dir == "b"
        record = await self._by_time.get_closest(room, origin, access, query.ts, backwards=backwards)
        return {"event_id": record.event_id, "origin_server_ts": record.origin_server_ts}
