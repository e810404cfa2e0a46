"""Rooms of a space, for other servers. Spec: server-server-api "Spaces"; space_hierarchy.yaml."""

from typing import Any

import msgspec

from hs.directory.server_spaces import ServerSpaces
from hs.http.endpoint import Auth, endpoint
from hs.matrix.errors import Forbidden, NotFound
from hs.rooms.resident import RoomDoors


class SpaceQuery(msgspec.Struct):
    """Which children to show."""

    suggested_only: bool = False


class SpacesApi:
    """Shows spaces."""

    def __init__(self, doors: RoomDoors, spaces: ServerSpaces) -> None:
        self._doors = doors
        self._spaces = spaces

    @endpoint("GET", "/_matrix/federation/v1/hierarchy/{room_id}", auth=Auth.SERVER, limit="federation")
    async def get_hierarchy(self, origin: str, room_id: str, query: SpaceQuery) -> dict[str, Any]:
        """A room and, where it is a space, those in it."""
        try:
            room = await self._doors.open(origin, room_id)
        except Forbidden as error:
            raise NotFound("unknown room") from error
        return await self._spaces.describe(origin, room, suggested_only=query.suggested_only)
