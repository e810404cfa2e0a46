"""The state of a room at an event, and what events rest on.

Spec: server-server-api "Retrieving events", "Retrieving event authorization information"; events.yaml, event_auth.yaml.
"""

import msgspec

from hs.http.endpoint import Auth, LargeJson, RawJson, endpoint
from hs.sync.server_states import ServerStates

_API = "/_matrix/federation/v1"


class StateQuery(msgspec.Struct):
    """The query of GET /state and /state_ids: before which event."""

    event_id: str


class StateApi:
    """Gives states away."""

    def __init__(self, states: ServerStates) -> None:
        self._states = states

    @endpoint("GET", _API + "/state/{room_id}", auth=Auth.SERVER, limit="federation")
    async def get_state(self, origin: str, room_id: str, query: StateQuery) -> LargeJson:
        """The state before an event, and its auth chain."""
        return LargeJson(await self._states.state(origin, room_id, query.event_id))

    @endpoint("GET", _API + "/state_ids/{room_id}", auth=Auth.SERVER, limit="federation")
    async def get_state_ids(self, origin: str, room_id: str, query: StateQuery) -> RawJson:
        """The same, by ids."""
        return RawJson(await self._states.state_ids(origin, room_id, query.event_id))

    @endpoint("GET", _API + "/event_auth/{room_id}/{event_id}", auth=Auth.SERVER, limit="federation")
    async def get_event_auth(self, origin: str, room_id: str, event_id: str) -> LargeJson:
        """All that an event rests on."""
        return LargeJson(await self._states.event_auth(origin, room_id, event_id))
