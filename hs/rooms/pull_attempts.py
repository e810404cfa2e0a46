"""Events that were asked for in vain: they are asked for again, less and less often."""

from collections.abc import Collection, Sequence

from hs._fast import extremity_rank
from hs.rooms.clock import Clock
from hs.storage.backfill import BackfillStore


class PullAttempts:
    """Remembers them; after n failures an event waits for 2 to the power of n hours, 256 at most."""

    def __init__(self, store: BackfillStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def list_waiting(self, room_nid: int, event_ids: Sequence[str]) -> set[str]:
        """Those of the events that are not to be tried yet."""
        failed = await self._store.list_attempts(room_nid, event_ids)
        now_ms = self._clock.now_ms()
        return {id for id, attempts in failed.items() if extremity_rank.retry_at(*attempts) > now_ms}

    async def note_failed(self, room_nid: int, event_ids: Collection[str]) -> None:
        """One more failure of each."""
        if event_ids:
            await self._store.set_ids_failed(room_nid, list(event_ids), self._clock.now_ms())
