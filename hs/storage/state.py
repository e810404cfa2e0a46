"""State trees and state keys in the database."""

from collections.abc import Iterable, Mapping, Sequence

from cachetools import LRUCache

from hs.storage.batching import Batcher
from hs.storage.database import Database

# About 200 bytes each with their strings.
_CACHED_KEYS = 500_000
# About 150 bytes each.
_CACHED_ROOMS = 100_000

StateKey = tuple[str, str]
_NodeKeys = tuple[int, tuple[int, ...]]
_NamedKeys = tuple[int, tuple[StateKey, ...]]


class StateStore:
    """Reads nodes of state trees and the numbers of state keys."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._nodes: Batcher[_NodeKeys, list[tuple[int, bytes]]] = Batcher(self._load_nodes)
        self._keys: Batcher[_NamedKeys, dict[StateKey, int]] = Batcher(self._load_keys)
        self._without_members: Batcher[int, tuple[int, dict[int, int]]] = Batcher(self._load_without_members)
        self._current: LRUCache[int, int] = LRUCache(_CACHED_ROOMS)
        self._key_ix: LRUCache[tuple[int, str, str], int] = LRUCache(_CACHED_KEYS)

    async def load_nodes(self, room_nid: int, node_ids: Sequence[int]) -> list[tuple[int, bytes]]:
        """(node_id, packed node) of the room's nodes with these ids."""
        return await self._nodes.get((room_nid, tuple(node_ids))) or []

    async def _load_nodes(self, wanted: Sequence[_NodeKeys]) -> dict[_NodeKeys, list[tuple[int, bytes]]]:
        rows = await self._database.fetch(
            "SELECT n.room_nid, n.node_id, n.blob FROM unnest($1::bigint[], $2::bigint[]) AS w (room_nid, node_id) "
            "JOIN state_nodes n USING (room_nid, node_id)",
            [room_nid for room_nid, ids in wanted for _ in ids],
            [node_id for _, ids in wanted for node_id in ids],
        )
        blobs = {(row["room_nid"], row["node_id"]): row["blob"] for row in rows}
        return {
            (room_nid, ids): [(id, blobs[room_nid, id]) for id in ids if (room_nid, id) in blobs]
            for room_nid, ids in wanted
        }

    async def find_key_ixs(self, room_nid: int, keys: Iterable[StateKey]) -> dict[StateKey, int]:
        """Numbers of those keys that the room has ever had; the answer for them never changes."""
        found: dict[StateKey, int] = {}
        missing: list[StateKey] = []
        for key in keys:
            if "\x00" in key[0] or "\x00" in key[1]:
                continue  # cannot be stored, so the room never had it
            ix = self._key_ix.get((room_nid, *key))
            if ix is None:
                missing.append(key)
            else:
                found[key] = ix
        if missing:
            loaded = await self._keys.get((room_nid, tuple(missing))) or {}
            self.remember_keys(room_nid, loaded)
            found |= loaded
        return found

    async def _load_keys(self, wanted: Sequence[_NamedKeys]) -> dict[_NamedKeys, dict[StateKey, int]]:
        rows = await self._database.fetch(
            "SELECT w.n, s.type, s.state_key, s.key_ix "
            "FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[]) AS w (n, room_nid, type, state_key) "
            "JOIN state_keys s USING (room_nid, type, state_key)",
            [n for n, (_, keys) in enumerate(wanted) for _ in keys],
            [room_nid for room_nid, keys in wanted for _ in keys],
            [type for _, keys in wanted for type, _ in keys],
            [state_key for _, keys in wanted for _, state_key in keys],
        )
        found: dict[_NamedKeys, dict[StateKey, int]] = {}
        for row in rows:
            found.setdefault(wanted[row["n"]], {})[row["type"], row["state_key"]] = row["key_ix"]
        return found

    async def list_key_names(self, room_nid: int, key_ixs: Sequence[int]) -> dict[int, StateKey]:
        """(type, state_key) of keys by number."""
        rows = await self._database.fetch(
            "SELECT key_ix, type, state_key FROM state_keys WHERE room_nid = $1 AND key_ix = ANY($2::int[])",
            room_nid,
            key_ixs,
        )
        return {row["key_ix"]: (row["type"], row["state_key"]) for row in rows}

    async def get_current_state_id(self, room_nid: int) -> int:
        """Root of the room's current state; 0 for a room without state."""
        known = self._current.get(room_nid)
        if known is not None:
            return known
        return await self._database.fetchval("SELECT state_id FROM rooms WHERE room_nid = $1", room_nid) or 0

    def remember_current(self, room_nid: int, state_id: int) -> None:
        """The room's current state after a commit; what was read is not kept: a commit may have overtaken it."""
        self._current[room_nid] = state_id

    def forget_current(self, room_nid: int) -> None:
        """Let the database say what the current state is."""
        self._current.pop(room_nid, None)

    def remember_keys(self, room_nid: int, keys: Mapping[StateKey, int]) -> None:
        """Keep keys that were read or that a commit has just written."""
        for key, ix in keys.items():
            self._key_ix[(room_nid, *key)] = ix

    async def list_current_without_members(self, room_nid: int) -> tuple[int, dict[int, int]]:
        """(root, {key_ix: event_nid}) of the room's current state, m.room.member left out."""
        state_id, found = await self._without_members.get(room_nid) or (0, {})
        # Whoever asked at the same time got the same dict.
        return state_id, dict(found)

    async def _load_without_members(self, room_nids: Sequence[int]) -> dict[int, tuple[int, dict[int, int]]]:
        # Two ranges of the primary key: the members, most of a large room's state, are never read.
        rows = await self._database.fetch(
            "SELECT r.room_nid, r.state_id, s.key_ix, s.event_nid FROM rooms r LEFT JOIN LATERAL ("
            " SELECT key_ix, event_nid FROM current_state WHERE room_nid = r.room_nid AND type < 'm.room.member'"
            " UNION ALL"
            " SELECT key_ix, event_nid FROM current_state WHERE room_nid = r.room_nid AND type > 'm.room.member'"
            ") s ON true WHERE r.room_nid = ANY($1::bigint[])",
            room_nids,
        )
        found: dict[int, tuple[int, dict[int, int]]] = {}
        for row in rows:
            _, state = found.setdefault(row["room_nid"], (row["state_id"], {}))
            if row["key_ix"] is not None:
                state[row["key_ix"]] = row["event_nid"]
        return found
