"""POST /createRoom.

Spec: client-server-api "Creation".
"""

from typing import Any

from hs.client_api.paths import v3
from hs.directory.aliases import AliasDirectory
from hs.http.endpoint import Auth, Caller, endpoint
from hs.matrix.errors import ThreepidDenied
from hs.rooms.create import CreateRoom, RoomCreator


class RoomsApi:
    """Makes rooms."""

    def __init__(self, creator: RoomCreator, directory: AliasDirectory) -> None:
        self._creator = creator
        self._directory = directory

    @endpoint("POST", *v3("/createRoom"), auth=Auth.USER, limit="room_creation")
    async def post_create_room(self, caller: Caller, body: CreateRoom) -> dict[str, Any]:
        """Make a room whose first events, alias and publication stand or fall together."""
        if body.invite_3pid:
            raise ThreepidDenied("this server does not invite by third-party identifiers")
        alias = None if body.room_alias_name is None else self._directory.full_alias(body.room_alias_name)
        on_write = self._directory.on_create(caller.user_id, alias, body.visibility == "public")
        room_id = await self._creator.create(caller.user_id, body, alias=alias, on_write=on_write)
        return {"room_id": room_id}
