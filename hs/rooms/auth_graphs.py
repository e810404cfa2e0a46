"""The auth graphs of rooms in use: read from the database when first wanted, extended as rooms grow."""

from collections.abc import Sequence

from cachetools import LRUCache

from hs._fast import auth_graph
from hs._fast.auth_graph import AuthGraph
from hs.storage.auth_records import AuthRecordStore

# About 100 bytes an event: 6 MB for the largest rooms known.
_CACHED_GRAPHS = 100


class AuthGraphs:
    """One graph per room."""

    def __init__(self, auth_records: AuthRecordStore) -> None:
        self._auth_records = auth_records
        self._graphs: LRUCache[int, AuthGraph] = LRUCache(_CACHED_GRAPHS)

    def get(self, room_nid: int) -> AuthGraph:
        """The room's graph, as far as it was read."""
        graph = self._graphs.get(room_nid)
        if graph is None:
            graph = self._graphs[room_nid] = AuthGraph()
        return graph

    async def extend(
        self,
        graph: AuthGraph,
        room_nid: int,
        unknown: Sequence[int],
        staged: Sequence[tuple[int, Sequence[int]]] = (),
    ) -> None:
        """Add what the graph lacks: these events and what came with them; LookupError where they are nowhere.

        Whatever it lacks was committed since it was read, or is `staged`, about to be: the room's edges are read
        anew. Edges of a stage that fails do no harm, for its numbers are never used again.
        """
        graph.add_many([*await self._auth_records.list_edges(room_nid), *staged])
        if graph.list_unknown(unknown):
            raise LookupError(f"auth events of room {room_nid} are not in the database")

    async def chain(self, room_nid: int, event_nids: Sequence[int]) -> list[int]:
        """The auth chain of state events: all that they rest on, themselves only where they do so, too."""
        graph = self.get(room_nid)
        try:
            return graph.auth_chain(event_nids)
        except auth_graph.Missing as unknown:
            await self.extend(graph, room_nid, unknown.ids)
            return graph.auth_chain(event_nids)
