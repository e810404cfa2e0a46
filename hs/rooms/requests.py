"""Requests that clients repeat: each is carried out once.

Spec: client-server-api "Transaction identifiers". The database has a unique key for each request, written
with its event. Most requests are new, so nobody asks it beforehand: one that is not fails its batch, which
then looks up what was carried out before.
"""

from collections.abc import Sequence

import asyncpg
from cachetools import LRUCache

from hs.rooms.drafts import Draft, SentEvent
from hs.storage.room_heads import HeadStore, TransactionKey
from hs.storage.rooms import RoomInfo

# Those that are repeated at all are repeated within seconds; about 400 bytes each.
_REMEMBERED = 20_000
_CONSTRAINT = "event_transactions_pkey"


class Requests:
    """What requests have led to; the latest of them in memory."""

    def __init__(self, store: HeadStore) -> None:
        self._store = store
        self._latest: LRUCache[tuple[int, TransactionKey], SentEvent] = LRUCache(_REMEMBERED)

    def recall(self, room: RoomInfo, keys: Sequence[TransactionKey]) -> dict[TransactionKey, SentEvent]:
        """Those of the requests that are remembered here."""
        found = ((key, self._latest.get((room.room_nid, key))) for key in keys)
        return {key: sent for key, sent in found if sent is not None}

    async def find(self, room: RoomInfo, keys: Sequence[TransactionKey]) -> dict[TransactionKey, SentEvent]:
        """Those of the requests that have been carried out."""
        if not keys:
            return {}
        found = await self._store.find_transactions(room.room_nid, keys)
        return {key: SentEvent(*outcome) for key, outcome in found.items()}

    def remember(self, room: RoomInfo, keys: Sequence[TransactionKey], answer: Sequence[SentEvent]) -> None:
        """What the drafts of a job have led to; `keys` are those of all its drafts, or nothing is kept."""
        if len(keys) == len(answer):
            for key, sent in zip(keys, answer, strict=True):
                self._latest[room.room_nid, key] = sent


def list_keys(drafts: Sequence[Draft]) -> list[TransactionKey]:
    """The keys of those drafts that have one."""
    return [
        TransactionKey(draft.sender, draft.transaction.device_id, draft.transaction.key)
        for draft in drafts
        if draft.transaction is not None
    ]


def is_repeated(error: Exception) -> bool:
    """Whether a commit failed because one of its requests was carried out before."""
    return isinstance(error, asyncpg.UniqueViolationError) and error.constraint_name == _CONSTRAINT
