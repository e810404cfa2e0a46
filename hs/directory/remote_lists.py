"""The published rooms of other servers.

Spec: server-server-api "Public Room Directory"; public_rooms.yaml.
"""

from typing import Any

import msgspec

from hs.directory.public_rooms import DEFAULT_LIMIT, check_limit
from hs.matrix.errors import NotFound
from hs.matrix.ids import is_server_name
from hs.net.bounds import Bounds
from hs.net.errors import RemoteError
from hs.net.federation_client import FederationClient

_PATH = "/_matrix/federation/v1/publicRooms"
_BOUNDS = Bounds(2 * 2**20, 20.0)


class ListedRoom(msgspec.Struct, omit_defaults=True):
    """A room as another server lists it; what is not of these types is not passed on."""

    room_id: str
    num_joined_members: int
    world_readable: bool
    guest_can_join: bool
    name: str | None = None
    topic: str | None = None
    avatar_url: str | None = None
    canonical_alias: str | None = None
    join_rule: str | None = None
    room_type: str | None = None


class RoomList(msgspec.Struct, omit_defaults=True):
    """A page of them."""

    chunk: list[ListedRoom]
    next_batch: str | None = None
    prev_batch: str | None = None
    total_room_count_estimate: int | None = None


class RemoteLists:
    """Asks other servers for their lists."""

    def __init__(self, client: FederationClient) -> None:
        self._client = client

    async def list_page(self, server_name: str, request: dict[str, Any]) -> dict[str, Any]:
        """A page of the server's list; `request` is the body of a client's POST /publicRooms.

        Raises NotFound where the server cannot be asked or makes no sense, InvalidParam for a negative limit.
        """
        limit = check_limit(request.get("limit")) or DEFAULT_LIMIT
        body = {key: value for key, value in request.items() if value is not None} | {"limit": limit}
        if not is_server_name(server_name):
            raise NotFound("that is no server's name")
        try:
            found = await self._client.ask("POST", server_name, _PATH, RoomList, body=body, bounds=_BOUNDS)
        except RemoteError as error:
            raise NotFound("the list of that server cannot be had") from error
        found.chunk = found.chunk[:limit]
        page: dict[str, Any] = msgspec.to_builtins(found)
        return page
