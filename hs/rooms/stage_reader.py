"""State and auth records as a stage sees them: those of the database, and those of the batch itself."""

from collections.abc import Iterable, Mapping, Sequence

from hs._fast import state_tree
from hs._fast.event_auth import AuthRecord
from hs._fast.state_tree import Node
from hs.matrix.auth_rules import Verdict, check_auth_state, list_needed_keys
from hs.matrix.room_versions import RoomVersion
from hs.rooms.stage import PlacedEvent, Stage
from hs.rooms.state import RoomStates
from hs.storage.auth_records import AuthRecordStore
from hs.storage.state import StateKey

CREATE: StateKey = ("m.room.create", "")
POWER: StateKey = ("m.room.power_levels", "")


class StageReader:
    """Looks things up for whoever adds events to a stage, and holds the room's lane."""

    def __init__(self, states: RoomStates, auth_records: AuthRecordStore) -> None:
        self._states = states
        self._auth_records = auth_records

    async def look_up(self, stage: Stage, keys: Iterable[StateKey]) -> None:
        """Make the stage know the numbers of these keys. Only the lane's holder adds any: each is asked for once."""
        unknown = [key for key in keys if key not in stage.stored_keys]
        if unknown:
            # A room without any is new.
            has_keys = stage.committed.next_key_ix > 0
            room_nid = stage.head.room.room_nid
            found = await self._states.find_key_ixs(room_nid, unknown) if has_keys else {}
            stage.stored_keys.update((key, found.get(key)) for key in unknown)

    async def find_nids(self, stage: Stage, root: Node, keys: Sequence[StateKey]) -> dict[StateKey, int]:
        """The event numbers of those keys that a state of the room, perhaps one of the stage, has."""
        await self.look_up(stage, keys)
        numbered = {key: ix for key in keys if (ix := stage.find_key_ix(key)) is not None}
        return await self._states.get_numbered(stage.head.room.room_nid, root, numbered)

    async def records(self, stage: Stage, nids: Sequence[int]) -> list[AuthRecord]:
        """The auth records of these state events, in their order."""
        staged = {nid: placed.auth for nid in nids if (placed := stage.find_staged(nid)) is not None}
        stored = await self._auth_records.get_many(
            stage.head.room.room_nid, [nid for nid in nids if nid not in staged]
        )
        return [staged.get(nid) or stored[nid] for nid in nids]

    async def records_at(
        self, stage: Stage, root: Node, keys: Sequence[StateKey]
    ) -> dict[StateKey, AuthRecord]:
        """The auth records that a state has at those of the keys that it has."""
        nids = await self.find_nids(stage, root, keys)
        return dict(zip(nids, await self.records(stage, list(nids.values())), strict=True))

    async def judge_by_state(
        self, stage: Stage, root: Node, record: AuthRecord, version: RoomVersion
    ) -> Verdict:
        """Whether a state of the room allows the event."""
        state = await self.records_at(stage, root, list_needed_keys(version, record))
        return check_auth_state(version, record, state)

    async def enter_state(self, stage: Stage, placed: PlacedEvent, state_key: str) -> None:
        """Make the state after a state event hold it."""
        room_nid, key = stage.head.room.room_nid, (placed.event.type, state_key)
        await self.look_up(stage, [key])
        known = stage.find_key_ix(key)
        placed.key_ix = stage.number_key(key) if known is None else known
        placed.replaces_nid = await self._states.get_ix(room_nid, placed.root, placed.key_ix)
        placed.root = state_tree.set_many(placed.root, [(placed.key_ix, placed.event_nid)])

    async def make_root(self, stage: Stage, state: Mapping[StateKey, int]) -> Node:
        """The tree of a whole state that was learnt elsewhere; shares with the room's own what is the same."""
        await self.look_up(stage, state)
        wanted = {}
        for key, nid in state.items():
            ix = stage.find_key_ix(key)
            wanted[stage.number_key(key) if ix is None else ix] = nid
        room_nid, base = stage.head.room.room_nid, stage.head.root
        present = dict(await self._states.walk(room_nid, state_tree.items, base))
        changes = [(ix, 0) for ix in present if ix not in wanted]
        changes += [(ix, nid) for ix, nid in wanted.items() if present.get(ix) != nid]
        return await self._states.set(room_nid, base, changes)
