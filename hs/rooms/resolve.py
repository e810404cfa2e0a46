"""State resolution as the engine runs it: loads what the pure resolution finds missing.

Spec: rooms/v1, v2 and v12 "State resolution". The cost follows the conflict: of the trees only what
differs is read, of the auth graph only what the conflict reaches, and records only of the events that
take part.
"""

from collections.abc import Sequence

from hs._fast import auth_graph, state_res
from hs._fast.event_auth import AuthRecord
from hs._fast.state_tree import Node
from hs.matrix.state_res import MissingKeys, Resolved, StateResolution
from hs.rooms.auth_graphs import AuthGraphs
from hs.rooms.branches import distinct_roots
from hs.rooms.stage import Stage
from hs.rooms.state import RoomStates
from hs.storage.auth_records import AuthRecordStore

# Records and keys are asked for in a few rounds; more mean that an event is not in the database.
_MAX_ROUNDS = 64


class StateResolver:
    """Merges states of a room."""

    def __init__(self, states: RoomStates, auth_records: AuthRecordStore, graphs: AuthGraphs) -> None:
        self._states = states
        self._auth_records = auth_records
        self._graphs = graphs

    async def resolve(self, stage: Stage, roots: Sequence[Node]) -> Node:
        """The state that `roots`, states of the room, resolve to; shares what all of them agree on.

        Events of the stage may be among them, and it numbers keys that no state of the room ever had.
        Whoever calls holds the room's lane.
        """
        states = distinct_roots(roots)
        if len(states) == 1:
            return states[0]
        resolved = await self._run(stage, states)
        changes = resolved.changes + [(stage.number_key(key), nid) for key, nid in resolved.new_keys.items()]
        return await self._states.set(stage.head.room.room_nid, states[0], changes)

    async def _run(self, stage: Stage, states: Sequence[Node]) -> Resolved:
        room, room_nid = stage.head.room, stage.head.room.room_nid
        graph = self._graphs.get(room_nid)
        resolution = StateResolution(room.version, states, graph)
        for _ in range(_MAX_ROUNDS):
            try:
                return await self._states.walk(room_nid, resolution.run)
            except auth_graph.Missing as unknown:
                await self._graphs.extend(graph, room_nid, unknown.ids, stage.list_auth_edges())
            except state_res.Missing as lacking:
                resolution.add_records(await self._records(stage, lacking.ids))
            except MissingKeys as missing:
                resolution.add_keys(missing.keys, await self._states.find_key_ixs(room_nid, missing.keys))
        raise LookupError(f"state resolution in room {room_nid} needs events that are not in the database")

    async def _records(self, stage: Stage, nids: Sequence[int]) -> dict[int, AuthRecord]:
        staged = {nid: placed.auth for nid in nids if (placed := stage.find_staged(nid)) is not None}
        stored = [nid for nid in nids if nid not in staged]
        return staged | await self._auth_records.get_many(stage.head.room.room_nid, stored)
