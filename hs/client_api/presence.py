"""Presence. Spec: client-server-api module "Presence"."""

from typing import Literal

import msgspec

from hs.client_api.own_user import check_own
from hs.client_api.paths import v3
from hs.http.endpoint import Auth, Caller, Empty, RawJson, endpoint
from hs.matrix.ids import parse_user_id
from hs.sync.presence import Presence

_STATUS = v3("/presence/{user_id}/status")


class PresenceBody(msgspec.Struct):
    """The body of PUT presence; without `status_msg` there is none any longer."""

    presence: Literal["online", "offline", "unavailable"]
    status_msg: str | None = None


class PresenceApi:
    """Says and hears who is online."""

    def __init__(self, presence: Presence) -> None:
        self._presence = presence

    @endpoint("PUT", *_STATUS, auth=Auth.USER, limit="profile")
    async def put_presence(self, caller: Caller, user_id: str, body: PresenceBody) -> Empty:
        """Say what the caller is."""
        check_own(caller, user_id)
        # PostgreSQL's text holds no NUL.
        status_msg = None if body.status_msg is None else body.status_msg.replace("\x00", "\ufffd")
        await self._presence.set(user_id, caller.device_id, body.presence, status_msg or None)
        return Empty()

    @endpoint("GET", *_STATUS, auth=Auth.USER, limit="other")
    async def get_presence(self, caller: Caller, user_id: str) -> RawJson:
        """What a user is whom the caller shares a room with."""
        parse_user_id(user_id)
        return RawJson(await self._presence.get_status(caller.user_id, user_id))
