"""Where a room stands: its forward extremities and its current state."""

from collections.abc import Sequence
from dataclasses import dataclass

from hs.storage.database import Database

# Clients repeat a request for minutes, or hours where a device was off.
_TRANSACTION_LIFETIME_MS = 7 * 24 * 3600 * 1000
_MAX_DELETED_TRANSACTIONS = 20_000


@dataclass(frozen=True, slots=True)
class ExtremityRow:
    """An event that nobody refers to yet, with the root of the state after it."""

    event_nid: int
    event_id: str
    depth: int
    state_id: int


@dataclass(frozen=True, slots=True)
class HeadRow:
    """What the next event of a room builds on."""

    state_id: int
    next_key_ix: int
    # What lies below has happened before we came in.
    begins_at_depth: int
    extremities: tuple[ExtremityRow, ...]


@dataclass(frozen=True, slots=True)
class TransactionKey:
    """A request that a device may repeat."""

    user_id: str
    device_id: str
    key: str


class HeadStore:
    """Reads what a room's lane needs before it can go on."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load_head(self, room_nid: int) -> HeadRow:
        """The room's head as last committed."""
        # One statement is one snapshot: a COMMIT whose connection was lost may be carried out meanwhile.
        rows = await self._database.fetch(
            "SELECT r.state_id AS room_state_id, r.begins_at_depth, e.event_nid, e.event_id, e.depth, e.state_id, "
            "(SELECT coalesce(max(key_ix) + 1, 0) FROM state_keys WHERE room_nid = $1) AS next_ix "
            "FROM rooms r LEFT JOIN forward_extremities f USING (room_nid) "
            "LEFT JOIN events e ON e.room_nid = f.room_nid AND e.event_nid = f.event_nid "
            "WHERE r.room_nid = $1 ORDER BY e.event_nid",
            room_nid,
        )
        if not rows:
            raise LookupError(f"room {room_nid} is not in the database")
        extremities = tuple(
            ExtremityRow(r["event_nid"], r["event_id"], r["depth"], r["state_id"])
            for r in rows
            if r["event_nid"] is not None
        )
        return HeadRow(rows[0]["room_state_id"], rows[0]["next_ix"], rows[0]["begins_at_depth"], extremities)

    async def delete_transactions(self) -> None:
        """Forget requests that no client repeats any more, the oldest first; a bounded number at a time."""
        async with self._database.write() as writer:
            await writer.execute(
                "DELETE FROM event_transactions WHERE ctid = ANY(ARRAY("
                "SELECT ctid FROM event_transactions "
                "WHERE created_ts < (extract(epoch FROM now()) * 1000)::bigint - $1 ORDER BY created_ts LIMIT $2))",
                _TRANSACTION_LIFETIME_MS,
                _MAX_DELETED_TRANSACTIONS,
            )

    async def find_transactions(
        self, room_nid: int, keys: Sequence[TransactionKey]
    ) -> dict[TransactionKey, tuple[str, int, int]]:
        """(event_id, event_nid, stream_ordering) of those requests that have been carried out, by request."""
        rows = await self._database.fetch(
            "SELECT t.user_id, t.device_id, t.txn_key, t.event_id, t.event_nid, e.stream_ordering "
            "FROM unnest($2::text[], $3::text[], $4::text[]) AS k (user_id, device_id, txn_key) "
            "JOIN event_transactions t USING (user_id, device_id, txn_key) "
            "JOIN events e ON e.room_nid = t.room_nid AND e.event_nid = t.event_nid WHERE t.room_nid = $1",
            room_nid,
            [k.user_id for k in keys],
            [k.device_id for k in keys],
            [k.key for k in keys],
        )
        return {
            TransactionKey(r["user_id"], r["device_id"], r["txn_key"]): (
                r["event_id"],
                r["event_nid"],
                r["stream_ordering"],
            )
            for r in rows
        }
