"""State trees and state keys in the database."""

from collections.abc import Iterable, Mapping, Sequence

from cachetools import LRUCache

from hs.storage.database import Database

# About 200 bytes each with their strings.
_CACHED_KEYS = 500_000

StateKey = tuple[str, str]


class StateStore:
    """Reads nodes of state trees and the numbers of state keys."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._key_ix: LRUCache[tuple[int, str, str], int] = LRUCache(_CACHED_KEYS)

    async def load_nodes(self, room_nid: int, node_ids: Sequence[int]) -> list[tuple[int, bytes]]:
        """(node_id, packed node) of the room's nodes with these ids."""
        rows = await self._database.fetch(
            "SELECT node_id, blob FROM state_nodes WHERE room_nid = $1 AND node_id = ANY($2::bigint[])",
            room_nid,
            node_ids,
        )
        return [(row["node_id"], row["blob"]) for row in rows]

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
            rows = await self._database.fetch(
                "SELECT s.type, s.state_key, s.key_ix FROM unnest($2::text[], $3::text[]) AS k (type, state_key) "
                "JOIN state_keys s USING (type, state_key) WHERE s.room_nid = $1",
                room_nid,
                [type for type, _ in missing],
                [state_key for _, state_key in missing],
            )
            loaded = {(row["type"], row["state_key"]): row["key_ix"] for row in rows}
            self.remember_keys(room_nid, loaded)
            found |= loaded
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
        return await self._database.fetchval("SELECT state_id FROM rooms WHERE room_nid = $1", room_nid) or 0

    def remember_keys(self, room_nid: int, keys: Mapping[StateKey, int]) -> None:
        """Keep keys that were read or that a commit has just written."""
        for key, ix in keys.items():
            self._key_ix[(room_nid, *key)] = ix

    async def list_current_without_members(self, room_nid: int) -> tuple[int, dict[int, int]]:
        """(root, {key_ix: event_nid}) of the room's current state, m.room.member left out."""
        # Two ranges of the primary key: the members, most of a large room's state, are never read.
        rows = await self._database.fetch(
            "SELECT r.state_id, s.key_ix, s.event_nid FROM rooms r LEFT JOIN ("
            " SELECT key_ix, event_nid FROM current_state WHERE room_nid = $1 AND type < 'm.room.member'"
            " UNION ALL"
            " SELECT key_ix, event_nid FROM current_state WHERE room_nid = $1 AND type > 'm.room.member'"
            ") s ON true WHERE r.room_nid = $1",
            room_nid,
        )
        state_id = rows[0]["state_id"] if rows else 0
        return state_id, {row["key_ix"]: row["event_nid"] for row in rows if row["key_ix"] is not None}
