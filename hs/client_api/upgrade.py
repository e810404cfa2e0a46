"""POST /rooms/{roomId}/upgrade.

Spec: client-server-api module "Room upgrades".
"""

from typing import Any

import msgspec

from hs.accounts.room_moves import RoomMoves
from hs.client_api.paths import v3
from hs.client_api.room_params import get_own_room
from hs.http.endpoint import Auth, Caller, endpoint
from hs.rooms.upgrade import RoomUpgrader
from hs.storage.rooms import RoomStore


class UpgradeBody(msgspec.Struct):
    """The body of POST /upgrade."""

    new_version: str
    additional_creators: list[str] | None = None


class UpgradeApi:
    """Replaces rooms."""

    def __init__(self, rooms: RoomStore, upgrader: RoomUpgrader, moves: RoomMoves) -> None:
        self._rooms = rooms
        self._upgrader = upgrader
        self._moves = moves

    @endpoint("POST", *v3("/rooms/{room_id}/upgrade"), auth=Auth.USER, limit="room_creation")
    async def post_upgrade(self, caller: Caller, room_id: str, body: UpgradeBody) -> dict[str, Any]:
        """Have the room replaced by one of another version."""
        room = await get_own_room(self._rooms, room_id)
        others = body.additional_creators or []
        new_id = await self._upgrader.upgrade(room, caller.user_id, body.new_version, others)
        # Whoever makes a room is in it without having joined.
        await self._moves.carry_over(await self._rooms.get(new_id), caller.user_id)
        return {"replacement_room": new_id}
