"""Auth records of state events: what auth rules and state resolution need, without the events' JSON."""

from collections.abc import Iterable, Sequence

from cachetools import LRUCache

from hs._fast import event_auth
from hs._fast.event_auth import AuthRecord
from hs.storage.database import Database

# About 600 bytes each with its strings: 120 MB when full, and the auth events of many large rooms.
_CACHED_RECORDS = 200_000


class AuthRecordStore:
    """Reads auth records; they never change, so what was read is kept."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._cache: LRUCache[int, AuthRecord] = LRUCache(_CACHED_RECORDS)

    async def get_many(self, room_nid: int, event_nids: Sequence[int]) -> dict[int, AuthRecord]:
        """The records of these state events of the room, by number; one query for all that is not cached."""
        found = {nid: record for nid in event_nids if (record := self._cache.get(nid)) is not None}
        missing = [nid for nid in event_nids if nid not in found]
        if missing:
            rows = await self._database.fetch(
                "SELECT event_nid, auth_nids, record FROM auth_records "
                "WHERE room_nid = $1 AND event_nid = ANY($2::bigint[])",
                room_nid,
                missing,
            )
            for row in rows:
                record = event_auth.unpack_record(row["event_nid"], row["auth_nids"], row["record"])
                found[record.nid] = self._cache[record.nid] = record
        return found

    async def list_edges(self, room_nid: int) -> list[tuple[int, list[int]]]:
        """(event_nid, auth_nids) of every state event of the room."""
        rows = await self._database.fetch(
            "SELECT event_nid, auth_nids FROM auth_records WHERE room_nid = $1", room_nid
        )
        return [(row["event_nid"], row["auth_nids"]) for row in rows]

    def put(self, records: Iterable[AuthRecord]) -> None:
        """Keep records that a commit has just written."""
        for record in records:
            self._cache[record.nid] = record
