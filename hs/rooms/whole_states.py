"""Whole states of rooms as other servers are given them: PDUs as they are stored, never decoded
where they were not redacted.

Spec: server-server-api "Joining Rooms", "Retrieving previous events" (GET /state).
"""

from collections.abc import Sequence
from contextlib import closing

from hs._fast.state_tree import Node
from hs.net.spool import Body, Spool
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

    async def render(self, *pieces: bytes | Sequence[int]) -> Body:
        """The pieces one after the other: JSON text as it is, and for numbers of events the array of their PDUs.

        However large the room is, a part of it at a time is in memory.
        """
        with closing(Spool()) as spool:
            for piece in pieces:
                if isinstance(piece, bytes):
                    await spool.add(piece)
                else:
                    await self._add_pdus(spool, piece)
            return await spool.finish()

    async def _add_pdus(self, spool: Spool, event_nids: Sequence[int]) -> None:
        before = b"["
        for start in range(0, len(event_nids), _CHUNK):
            nids = event_nids[start : start + _CHUNK]
            found = await self._pdus.get_many(nids)
            if found:
                await spool.add(before + b",".join([found[nid] for nid in nids if nid in found]))
                before = b","
        await spool.add(b"[]" if before == b"[" else b"]")
