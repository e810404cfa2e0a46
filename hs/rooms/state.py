"""Room state by tree: look-ups, lists, differences and resolution, nodes loaded as they are needed.

The kernel walks what is in memory and raises Missing with all ids it lacks at that frontier; `walk`
loads them in one query and starts again. A tree has at most a handful of levels, so has a walk.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import ParamSpec, TypeVar

from hs._fast import state_tree
from hs._fast.event_record import EventRecord
from hs._fast.state_tree import Missing, Node, NodeStore
from hs.storage.state import StateKey, StateStore
from hs.storage.streams import NidAllocator

P = ParamSpec("P")
T = TypeVar("T")

# Levels of a tree of 2^31 keys at the smallest fan-out: more rounds than this mean a damaged tree.
_MAX_ROUNDS = 16


class DamagedState(Exception):
    """Nodes of a state tree are missing from the database."""


class RoomStates:
    """Reads and grows the state trees of all rooms."""

    def __init__(self, store: StateStore, nodes: NodeStore, node_ids: NidAllocator) -> None:
        self._store = store
        self._nodes = nodes
        self._node_ids = node_ids

    def root(self, state_id: int) -> Node:
        """The tree with this root; its nodes are loaded when they are looked at."""
        return self._nodes.get(state_id)

    async def current(self, room_nid: int) -> Node:
        """The room's current state as last committed."""
        return self.root(await self._store.get_current_state_id(room_nid))

    async def get(self, room_nid: int, root: Node, type: str, state_key: str) -> int:
        """The event_nid at a key; 0 where the state has none."""
        return (await self.get_many(room_nid, root, [(type, state_key)])).get((type, state_key), 0)

    async def get_many(self, room_nid: int, root: Node, keys: Iterable[StateKey]) -> dict[StateKey, int]:
        """The event_nids of those keys that the state has."""
        keys = list(keys)
        ixs = await self._store.find_key_ixs(room_nid, keys)
        return await self.get_numbered(room_nid, root, {key: ixs[key] for key in keys if key in ixs})

    async def get_many_at(
        self, room_nid: int, roots: Sequence[Node], keys: Sequence[StateKey]
    ) -> list[dict[StateKey, int]]:
        """`get_many` of each of these states; what they lack of each level of the trees is loaded together."""
        ixs = await self._store.find_key_ixs(room_nid, keys)

        def look() -> list[list[int]]:
            found: list[list[int]] = []
            missing: dict[int, None] = {}
            for root in roots:
                try:
                    found.append(state_tree.get_many(root, list(ixs.values())))
                except Missing as lacking:
                    missing |= dict.fromkeys(lacking.ids)
            if missing:
                raise Missing(list(missing))
            return found

        return [
            {key: nid for key, nid in zip(ixs, nids, strict=True) if nid}
            for nids in await self.walk(room_nid, look)
        ]

    async def get_numbered(
        self, room_nid: int, root: Node, ix_by_key: Mapping[StateKey, int]
    ) -> dict[StateKey, int]:
        """The event_nids of those keys that the state has; the caller knows the keys' numbers."""
        nids = await self.walk(room_nid, state_tree.get_many, root, list(ix_by_key.values()))
        return {key: nid for key, nid in zip(ix_by_key, nids, strict=True) if nid}

    async def get_ix(self, room_nid: int, root: Node, key_ix: int) -> int:
        """The event_nid at a key's number; 0 where the state has none."""
        return await self.walk(room_nid, state_tree.get, root, key_ix)

    async def list_nids(self, room_nid: int, root: Node) -> list[int]:
        """The event_nids of the whole state, in order of key numbers."""
        return [nid for _, nid in await self.walk(room_nid, state_tree.items, root)]

    async def list_without_members(self, room_nid: int, root: Node) -> dict[int, int]:
        """{key_ix: event_nid} of a state near the current one, with few or no m.room.member entries.

        Costs the rest of the state and the difference to the current one. The member entries that are in
        that difference are left in: their types are not known here.
        """
        state_id, found = await self._store.list_current_without_members(room_nid)
        for ix, _, nid in await self.diff(room_nid, self.root(state_id), root):
            if nid:
                found[ix] = nid
            else:
                found.pop(ix, None)
        return found

    async def diff(self, room_nid: int, old: Node, new: Node) -> list[tuple[int, int, int]]:
        """(key_ix, old nid or 0, new nid or 0) of each key that differs; costs what differs."""
        return await self.walk(room_nid, state_tree.diff, old, new)

    async def set(self, room_nid: int, root: Node, changes: Sequence[tuple[int, int]]) -> Node:
        """The state with these (key_ix, event_nid or 0) changed."""
        return await self.walk(room_nid, state_tree.set_many, root, changes)

    def after(self, record: EventRecord) -> Node:
        """The state after an event."""
        return self.root(record.state_id)

    async def before(self, record: EventRecord) -> Node:
        """The state before an event."""
        root = self.after(record)
        if record.state_key is None:
            return root
        ixs = await self._store.find_key_ixs(record.room_nid, [(record.type, record.state_key)])
        ix = ixs[record.type, record.state_key]
        if await self.get_ix(record.room_nid, root, ix) != record.event_nid:
            return root  # rejected, or an outlier: it never entered its own state
        return await self.set(record.room_nid, root, [(ix, record.replaces_nid)])

    async def find_key_ixs(self, room_nid: int, keys: Iterable[StateKey]) -> dict[StateKey, int]:
        """Numbers of those keys that the room ever had."""
        return await self._store.find_key_ixs(room_nid, keys)

    async def key_names(self, room_nid: int, key_ixs: Sequence[int]) -> dict[int, StateKey]:
        """(type, state_key) of keys by number."""
        return await self._store.list_key_names(room_nid, key_ixs)

    async def pack(self, roots: Sequence[Node]) -> list[tuple[int, bytes]]:
        """(node_id, packed node) of what the database lacks of these trees; numbers them."""
        wanted = state_tree.count_new(roots)
        return state_tree.pack_new(roots, await self._node_ids.take(wanted) if wanted else [])

    def stored(
        self, room_nid: int, current: Node, roots: Sequence[Node], new_keys: Mapping[StateKey, int]
    ) -> None:
        """Keep trees and keys that a commit has just written; `current` is the room's state from now on."""
        self.stored_history(room_nid, roots, new_keys)
        self._store.remember_current(room_nid, current.id)

    def stored_history(self, room_nid: int, roots: Sequence[Node], new_keys: Mapping[StateKey, int]) -> None:
        """Keep trees and keys that were written without a change of the current state."""
        self._nodes.mark_stored(roots)
        self._store.remember_keys(room_nid, new_keys)

    def forget_current(self, room_nid: int) -> None:
        """Let the database say what the room's state is: a commit may or may not have changed it."""
        self._store.forget_current(room_nid)

    async def walk(self, room_nid: int, walk: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `walk` returns, once all nodes that it wants are in memory."""
        held = []  # keeps loaded nodes findable until the walk is through, whatever the cache drops
        for _ in range(_MAX_ROUNDS):
            try:
                return walk(*args, **kwargs)
            except Missing as missing:
                loaded = await self._store.load_nodes(room_nid, missing.ids)
                if len(loaded) != len(missing.ids):
                    raise DamagedState(f"state nodes of room {room_nid} are not in the database") from missing
                held.append(self._nodes.add(loaded))
        raise DamagedState(f"a state tree of room {room_nid} is too deep")
