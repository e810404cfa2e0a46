"""Which other servers may know a room's past."""

from hs.storage.backfill import BackfillStore
from hs.storage.rooms import RoomInfo


class OtherServers:
    """Lists the servers in rooms, without our own."""

    def __init__(self, store: BackfillStore, server_name: str) -> None:
        self._store = store
        self._server_name = server_name

    async def list(self, room: RoomInfo, limit: int) -> list[str]:
        """At most `limit` servers with users in the room, those longest in it first."""
        found = await self._store.list_servers(room.room_nid, limit + 1)
        return [name for name in found if name != self._server_name][:limit]
