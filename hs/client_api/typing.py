"""Typing notifications. Spec: client-server-api module "Typing Notifications"."""

from collections.abc import Callable

import msgspec

from hs.client_api.own_user import check_own
from hs.client_api.paths import v3
from hs.client_api.room_params import get_own_room
from hs.http.endpoint import Auth, Caller, Empty, endpoint
from hs.storage.rooms import RoomStore
from hs.sync.access import RoomAccess
from hs.sync.typing import Typing


class TypingBody(msgspec.Struct):
    """The body of PUT typing; `timeout` in milliseconds."""

    typing: bool
    timeout: int | None = None


class TypingApi:
    """Hears who is typing; `on_activity` is told of each user who is."""

    def __init__(
        self, rooms: RoomStore, access: RoomAccess, typing: Typing, on_activity: Callable[[str], None]
    ) -> None:
        self._rooms = rooms
        self._access = access
        self._typing = typing
        self._on_activity = on_activity

    @endpoint("PUT", *v3("/rooms/{room_id}/typing/{user_id}"), auth=Auth.USER, limit="typing")
    async def put_typing(self, caller: Caller, room_id: str, user_id: str, body: TypingBody) -> Empty:
        """Say whether the caller is typing."""
        check_own(caller, user_id)
        room = await get_own_room(self._rooms, room_id)
        await self._access.check_member(room, user_id)
        # Nothing is awaited in between: a leave that is committed later ends the typing.
        if body.typing:
            self._typing.start(room.room_nid, user_id, body.timeout)
            self._on_activity(user_id)
        else:
            self._typing.stop(room.room_nid, user_id)
        return Empty()
