"""Which other servers may know a room's past."""

from hs.storage.memberships import MembershipStore
from hs.storage.rooms import RoomInfo


class OtherServers:
    """Lists the servers in rooms, without our own."""

    def __init__(self, members: MembershipStore, server_name: str) -> None:
        self._members = members
        self._server_name = server_name

    async def list(self, room: RoomInfo, limit: int) -> list[str]:
        """At most `limit` servers with users in the room, those longest in it first."""
        found = await self._members.list_joined_servers(room.room_nid, limit + 1)
        return [name for name in found if name != self._server_name][:limit]
