"""State resolution as the engine runs it: kernels do the work, this loads what they find missing.

Spec: rooms/v1, v2 and v12 "State resolution". The cost follows the conflict: of the trees only what
differs is read, of the auth graph only what the conflict reaches, and records only of the events that
take part.
"""

from collections.abc import Iterable, Sequence

from cachetools import LRUCache

from hs._fast import state_res, state_tree
from hs._fast.auth_graph import AuthGraph
from hs._fast.event_auth import AuthRecord
from hs._fast.state_tree import Node
from hs.matrix.auth_rules import verify_third_party_signed
from hs.matrix.room_versions import RoomVersion, StateResolution
from hs.rooms.state import RoomStates
from hs.storage.auth_records import AuthRecordStore
from hs.storage.rooms import RoomInfo
from hs.storage.state import StateKey

# About 100 bytes an event: 6 MB for the largest rooms known.
_CACHED_GRAPHS = 100
# Records and keys are asked for in a few rounds; more mean that an event is not in the database.
_MAX_ROUNDS = 64


class _MissingKeys(Exception):
    """Numbers of state keys that have not been looked up yet."""

    def __init__(self, keys: Iterable[StateKey]) -> None:
        super().__init__()
        self.keys = list(keys)


class StateResolver:
    """Merges states of a room."""

    def __init__(self, states: RoomStates, auth_records: AuthRecordStore) -> None:
        self._states = states
        self._auth_records = auth_records
        self._graphs: LRUCache[int, tuple[AuthGraph, int]] = LRUCache(_CACHED_GRAPHS)

    async def resolve(self, room: RoomInfo, roots: Sequence[Node]) -> Node:
        """The state that `roots`, states of the room, resolve to; shares what all of them agree on.

        Whoever calls holds the room's lane.
        """
        states = _distinct(roots)
        if len(states) == 1:
            return states[0]
        rows = await self._states.walk(room.room_nid, state_tree.conflicted, states)
        if not rows:
            return states[0]
        agreed = await self._states.set(room.room_nid, states[0], [(ix, 0) for ix, _ in rows])
        resolution = _Resolution(room.version, rows, agreed, await self._graph(room))
        resolved = await self._run(room.room_nid, resolution)
        changes = dict.fromkeys((ix for ix, _ in rows), 0)
        ixs = await self._states.find_key_ixs(room.room_nid, resolved)
        changes |= {ixs[key]: nid for key, nid in resolved.items()}
        return await self._states.set(room.room_nid, agreed, list(changes.items()))

    async def _run(self, room_nid: int, resolution: "_Resolution") -> dict[StateKey, int]:
        for _ in range(_MAX_ROUNDS):
            try:
                return await self._states.walk(room_nid, resolution.attempt)
            except state_res.Missing as missing:
                resolution.records |= await self._auth_records.get_many(room_nid, missing.nids)
            except _MissingKeys as missing_keys:
                found = await self._states.find_key_ixs(room_nid, missing_keys.keys)
                resolution.key_ixs |= {key: found.get(key) for key in missing_keys.keys}
        raise LookupError(f"state resolution in room {room_nid} needs events that are not in the database")

    async def _graph(self, room: RoomInfo) -> AuthGraph:
        """The room's auth graph, with everything that is committed."""
        graph, newest = self._graphs.get(room.room_nid) or (AuthGraph(), 0)
        edges = await self._auth_records.list_edges(room.room_nid, newest)
        graph.add_many(edges)
        self._graphs[room.room_nid] = graph, max((nid for nid, _ in edges), default=newest)
        return graph


class _Resolution:
    """One resolution, tried again with more records and keys until it has what it needs."""

    def __init__(
        self,
        version: RoomVersion,
        rows: Sequence[tuple[int, tuple[int, ...]]],
        agreed: Node,
        graph: AuthGraph,
    ) -> None:
        self._version = version
        self._agreed = agreed
        self._graph = graph
        self._conflicted = {nid for _, values in rows for nid in values if nid}
        # What each state has that not all of them have.
        self._sets = [[nid for nid in column if nid] for column in zip(*(v for _, v in rows), strict=True)]
        self.records: dict[int, AuthRecord] = {}
        self.key_ixs: dict[StateKey, int | None] = {}

    def attempt(self) -> dict[StateKey, int]:
        """What the resolved state has besides what all agree on."""
        extra: set[int] = set()
        if self._version.state_resolution is not StateResolution.V1:
            extra |= set(self._graph.difference(self._sets, self._find_common))
        if self._version.state_resolution is StateResolution.V2_1:
            extra |= set(self._graph.conflicted_subgraph(self._conflicted))
        return state_res.resolve(
            self._version.number,
            self._conflicted,
            extra - self._conflicted,
            self._look_up,
            self.records,
            verify_third_party_signed,
        )

    def _find_common(self, nids: list[int]) -> list[int]:
        """Those of the events that are in every state."""
        missing = [nid for nid in nids if nid not in self.records]
        if missing:
            raise state_res.Missing(missing)
        agreed = self._look_up([self._key(nid) for nid in nids])
        return [nid for nid, common in zip(nids, agreed, strict=True) if nid == common]

    def _key(self, nid: int) -> StateKey:
        record = self.records[nid]
        assert record.state_key is not None
        return record.type, record.state_key

    def _look_up(self, keys: list[StateKey]) -> list[int]:
        unknown = [key for key in keys if key not in self.key_ixs]
        if unknown:
            raise _MissingKeys(unknown)
        ixs = [self.key_ixs[key] for key in keys]
        known = [ix for ix in ixs if ix is not None]
        found = dict(zip(known, state_tree.get_many(self._agreed, known), strict=True))
        return [0 if ix is None else found[ix] for ix in ixs]


def _distinct(roots: Sequence[Node]) -> list[Node]:
    """The roots without repetitions, in order."""
    distinct: list[Node] = []
    for root in roots:
        if not any(root is other or (root.id and root.id == other.id) for other in distinct):
            distinct.append(root)
    return distinct
