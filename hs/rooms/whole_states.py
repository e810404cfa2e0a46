"""Whole states of rooms as other servers are given them: PDUs as they are stored, never decoded
where they were not redacted.

Spec: server-server-api "Joining Rooms", "Retrieving previous events" (GET /state).
"""

from collections.abc import Sequence

from hs._fast.state_tree import Node
from hs.rooms.auth_graphs import AuthGraphs
from hs.rooms.state import RoomStates
from hs.storage.history import PduStore
from hs.storage.rooms import RoomInfo

# PDUs that one query reads.
_CHUNK = 1000


class WholeStates:
    """Lists and renders states with their auth chains."""

    def __init__(self, states: RoomStates, pdus: PduStore, graphs: AuthGraphs) -> None:
        self._states = states
        self._pdus = pdus
        self._graphs = graphs

    async def list_nids(self, room: RoomInfo, root: Node) -> tuple[list[int], list[int]]:
        """The events of a state, and those of its auth chain."""
        state = await self._states.list_nids(room.room_nid, root)
        return state, await self._graphs.chain(room.room_nid, state)

    async def list_with_chain(self, room: RoomInfo, event_nids: Sequence[int]) -> list[int]:
        """State events and all that they rest on, ascending."""
        return sorted({*event_nids, *await self._graphs.chain(room.room_nid, event_nids)})

    async def render(self, room: RoomInfo, root: Node) -> tuple[bytes, bytes]:
        """The PDUs of a state, and those of its auth chain, each as a JSON array."""
        state, chain = await self.list_nids(room, root)
        return await self.render_pdus(state), await self.render_pdus(chain)

    async def render_pdus(self, event_nids: Sequence[int]) -> bytes:
        """The PDUs of these events as a JSON array."""
        parts: list[bytes] = []
        for start in range(0, len(event_nids), _CHUNK):
            nids = event_nids[start : start + _CHUNK]
            found = await self._pdus.get_many(nids)
            parts += [found[nid] for nid in nids if nid in found]
        return b"[%b]" % b",".join(parts)
