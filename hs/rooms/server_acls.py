"""Which servers may take part in a room, by its current m.room.server_acl.

Spec: client-server-api module "Server Access Control Lists"; server-server-api of that name.
"""

from collections.abc import Collection

from cachetools import LRUCache

from hs.matrix.errors import Forbidden
from hs.matrix.server_acl import is_allowed
from hs.rooms.state import RoomStates
from hs.storage.events import EventStore
from hs.storage.rooms import RoomInfo

# Verdicts by list and server: about 200 bytes each.
_REMEMBERED = 50_000


class ServerAcls:
    """Judges servers by the rooms' lists."""

    def __init__(self, states: RoomStates, events: EventStore) -> None:
        self._states = states
        self._events = events
        self._verdicts: LRUCache[tuple[int, str], bool] = LRUCache(_REMEMBERED)

    async def is_allowed(self, room: RoomInfo, server_name: str) -> bool:
        """Whether the room lets the server take part."""
        return bool(await self.list_allowed(room, [server_name]))

    async def list_allowed(self, room: RoomInfo, server_names: Collection[str]) -> Collection[str]:
        """Those of the servers that the room lets take part."""
        root = await self._states.current(room.room_nid)
        nid = await self._states.get(room.room_nid, root, "m.room.server_acl", "")
        if not nid:
            return server_names
        # A list is redacted as an event, and that makes another one of it.
        record = await self._events.get(nid)
        list_nid = nid if not record.redacted_by_nid else -nid
        verdicts = {name: self._verdicts.get((list_nid, name)) for name in server_names}
        if None in verdicts.values():
            content = record.content
            for name, verdict in verdicts.items():
                if verdict is None:
                    verdicts[name] = self._verdicts[list_nid, name] = is_allowed(content, name)
        return [name for name, verdict in verdicts.items() if verdict]

    async def check(self, room: RoomInfo, server_name: str) -> None:
        """Forbidden where the room does not let the server take part."""
        if not await self.is_allowed(room, server_name):
            raise Forbidden("your server is denied in this room")
