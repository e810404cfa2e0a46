"""Other servers' users come into our rooms, leave them and knock at them.

Spec: server-server-api "Joining Rooms", "Knocking upon a room", "Leaving Rooms (Rejecting Invites)"; joins-v1.yaml,
joins-v2.yaml, knocks.yaml, leaving-v1.yaml, leaving-v2.yaml.
"""

from typing import Any

import msgspec

from hs.http.endpoint import Auth, LargeJson, RawJson, endpoint
from hs.matrix.errors import Forbidden
from hs.matrix.event import pdu_dict
from hs.net.spool import Body
from hs.rooms.admissions import Admission
from hs.rooms.naming import NamingState
from hs.rooms.resident import ResidentServer
from hs.rooms.whole_states import WholeStates

_API = "/_matrix/federation"


class VersionsQuery(msgspec.Struct):
    """Room versions that the other server knows."""

    ver: list[str] = msgspec.field(default_factory=lambda: ["1"])


class SendJoinQuery(msgspec.Struct):
    """Whether a reduced answer will do; we always give all of it."""

    omit_members: bool = False


class MembershipsApi:
    """What resident servers do for others."""

    def __init__(
        self, resident: ResidentServer, states: WholeStates, naming: NamingState, server_name: str
    ) -> None:
        self._resident = resident
        self._states = states
        self._naming = naming
        self._server_name = server_name

    @endpoint("GET", _API + "/v1/make_join/{room_id}/{user_id}", auth=Auth.SERVER, limit="federation")
    async def get_make_join(
        self, origin: str, room_id: str, user_id: str, query: VersionsQuery
    ) -> dict[str, Any]:
        """An event by which the user joins."""
        return await self._resident.make(origin, "join", room_id, user_id, query.ver)

    @endpoint("GET", _API + "/v1/make_leave/{room_id}/{user_id}", auth=Auth.SERVER, limit="federation")
    async def get_make_leave(self, origin: str, room_id: str, user_id: str) -> dict[str, Any]:
        """An event by which the user leaves, or rejects an invite."""
        return await self._resident.make(origin, "leave", room_id, user_id, None)

    @endpoint("GET", _API + "/v1/make_knock/{room_id}/{user_id}", auth=Auth.SERVER, limit="federation")
    async def get_make_knock(
        self, origin: str, room_id: str, user_id: str, query: VersionsQuery
    ) -> dict[str, Any]:
        """An event by which the user knocks."""
        try:
            return await self._resident.make(origin, "knock", room_id, user_id, query.ver)
        except Forbidden as error:
            raise Forbidden("you are not permitted to knock on this room") from error

    @endpoint("PUT", _API + "/v2/send_join/{room_id}/{event_id}", auth=Auth.SERVER, limit="federation")
    async def put_send_join(
        self, origin: str, room_id: str, event_id: str, body: dict[str, Any], query: SendJoinQuery
    ) -> LargeJson:
        """Take the join in; answers with the state before it, and what that rests on."""
        admission = await self._resident.admit(origin, "join", room_id, event_id, body)
        return LargeJson(await self._render_join(admission))

    # Left the specification in v1.18; servers of old rooms ask for it still.
    @endpoint("PUT", _API + "/v1/send_join/{room_id}/{event_id}", auth=Auth.SERVER, limit="federation")
    async def put_send_join_v1(
        self, origin: str, room_id: str, event_id: str, body: dict[str, Any]
    ) -> LargeJson:
        """As `put_send_join`, in the shape of the first version."""
        admission = await self._resident.admit(origin, "join", room_id, event_id, body)
        return LargeJson(await self._render_join(admission, b"[200,", b"]"))

    @endpoint("PUT", _API + "/v2/send_leave/{room_id}/{event_id}", auth=Auth.SERVER, limit="federation")
    async def put_send_leave(
        self, origin: str, room_id: str, event_id: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        """Take the departure in."""
        await self._resident.admit(origin, "leave", room_id, event_id, body)
        return {}

    @endpoint("PUT", _API + "/v1/send_leave/{room_id}/{event_id}", auth=Auth.SERVER, limit="federation")
    async def put_send_leave_v1(
        self, origin: str, room_id: str, event_id: str, body: dict[str, Any]
    ) -> RawJson:
        """As `put_send_leave`, in the shape of the first version."""
        await self._resident.admit(origin, "leave", room_id, event_id, body)
        return RawJson(b"[200,{}]")

    @endpoint("PUT", _API + "/v1/send_knock/{room_id}/{event_id}", auth=Auth.SERVER, limit="federation")
    async def put_send_knock(
        self, origin: str, room_id: str, event_id: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        """Take the knock in; answers with what names the room."""
        admission = await self._resident.admit(origin, "knock", room_id, event_id, body)
        return {"knock_room_state": await self._naming.list_pdus(admission.room)}

    async def _render_join(self, admission: Admission, before: bytes = b"", after: bytes = b"") -> Body:
        state, chain = await self._states.list_nids(admission.room, admission.before)
        origin = msgspec.json.encode(self._server_name)
        event = msgspec.json.encode(pdu_dict(admission.event))
        head = b'%b{"origin":%b,"members_omitted":false,"event":%b,"state":' % (before, origin, event)
        return await self._states.render(head, state, b',"auth_chain":', chain, b"}" + after)
