"""Single events and stretches of history.

Spec: server-server-api "Retrieving events", "Backfilling and retrieving missing events"; events.yaml, backfill.yaml.
"""

from collections.abc import Sequence

import msgspec

from hs.http.endpoint import Auth, RawJson, endpoint
from hs.matrix.errors import InvalidParam
from hs.rooms.clock import Clock
from hs.sync.server_history import ServerHistory

_API = "/_matrix/federation/v1"
# Rooms have had thousands of forward extremities; what is more than this is not looked at.
_MOST_EARLIEST = 1_000
_MOST_LATEST = 100


class BackfillQuery(msgspec.Struct):
    """The query of GET /backfill."""

    v: list[str]
    limit: int


class MissingBody(msgspec.Struct):
    """Which events are wanted: those between the earliest and the latest, none where nobody says which."""

    earliest_events: list[str] = []
    latest_events: list[str] = []
    limit: int = 10
    min_depth: int = 0


class EventsApi:
    """Gives events away."""

    def __init__(self, history: ServerHistory, clock: Clock, server_name: str) -> None:
        self._history = history
        self._clock = clock
        self._server_name = server_name

    @endpoint("GET", _API + "/event/{event_id}", auth=Auth.SERVER, limit="federation")
    async def get_event(self, origin: str, event_id: str) -> RawJson:
        """One event."""
        return self._transaction([await self._history.get_event(origin, event_id)])

    @endpoint("GET", _API + "/backfill/{room_id}", auth=Auth.SERVER, limit="federation")
    async def get_backfill(self, origin: str, room_id: str, query: BackfillQuery) -> RawJson:
        """Events and what was before them."""
        if query.limit < 1:
            raise InvalidParam("limit must be at least 1")
        return self._transaction(await self._history.backfill(origin, room_id, query.v, query.limit))

    @endpoint("POST", _API + "/get_missing_events/{room_id}", auth=Auth.SERVER, limit="federation")
    async def post_get_missing_events(self, origin: str, room_id: str, body: MissingBody) -> RawJson:
        """Events between what the other server has and what it has been sent."""
        if body.limit < 0 or body.min_depth < 0:
            raise InvalidParam("limit and min_depth must not be negative")
        pdus = await self._history.list_missing(
            origin,
            room_id,
            body.latest_events[:_MOST_LATEST],
            body.earliest_events[:_MOST_EARLIEST],
            body.limit,
            body.min_depth,
        )
        return RawJson(b'{"events":[%b]}' % b",".join(pdus))

    def _transaction(self, pdus: Sequence[bytes]) -> RawJson:
        origin, now_ms = msgspec.json.encode(self._server_name), self._clock.now_ms()
        return RawJson(b'{"origin":%b,"origin_server_ts":%d,"pdus":[%b]}' % (origin, now_ms, b",".join(pdus)))
