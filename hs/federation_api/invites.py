"""Other servers' users invite ours.

Spec: server-server-api "Inviting to a room"; invites-v1.yaml, invites-v2.yaml.
"""

from typing import Any

import msgspec

from hs.http.endpoint import Auth, endpoint
from hs.matrix.errors import IncompatibleRoomVersion, InvalidParam, UnsupportedRoomVersion
from hs.matrix.event import pdu_dict
from hs.matrix.room_versions import get_room_version
from hs.rooms.invites import InvitedUsers

# A member event, and as many events around it as servers send.
_MAX_BODY = 2 * 2**20


class InviteBody(msgspec.Struct):
    """An invite, and what names the room."""

    room_version: str
    event: dict[str, Any]
    invite_room_state: list[Any] = []


class InvitesApi:
    """Takes invites in."""

    def __init__(self, invited: InvitedUsers) -> None:
        self._invited = invited

    @endpoint(
        "PUT",
        "/_matrix/federation/v2/invite/{room_id}/{event_id}",
        auth=Auth.SERVER,
        limit="federation",
        max_body=_MAX_BODY,
    )
    async def put_invite(self, origin: str, room_id: str, event_id: str, body: InviteBody) -> dict[str, Any]:
        """Sign the invite and tell the user."""
        try:
            version = get_room_version(body.room_version)
        except UnsupportedRoomVersion as error:
            raise IncompatibleRoomVersion(
                "this server does not know the version of the room", room_version=body.room_version[:50]
            ) from error
        signed = await self._invited.receive(
            origin, room_id, event_id, version, body.event, body.invite_room_state
        )
        return {"event": pdu_dict(signed)}

    @endpoint(
        "PUT",
        "/_matrix/federation/v1/invite/{room_id}/{event_id}",
        auth=Auth.SERVER,
        limit="federation",
        max_body=_MAX_BODY,
    )
    async def put_invite_v1(
        self, origin: str, room_id: str, event_id: str, body: dict[str, Any]
    ) -> list[Any]:
        """As `put_invite`, for rooms of versions 1 and 2, which are not told apart."""
        unsigned = body.get("unsigned")
        stripped = unsigned.get("invite_room_state") if isinstance(unsigned, dict) else None
        if not isinstance(body.get("event_id"), str):
            raise InvalidParam("rooms of this version have invites of version 2")
        signed = await self._invited.receive(
            origin,
            room_id,
            event_id,
            get_room_version("1"),
            body,
            stripped if isinstance(stripped, list) else [],
        )
        return [200, {"event": pdu_dict(signed)}]
