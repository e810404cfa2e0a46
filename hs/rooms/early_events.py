"""Events that come for a room while one of us is joining it: kept until the room is here.

    joining(room_id)          around a join; the room's servers hear of it before we have the room
    keep(...)                 what comes meanwhile is written down
    _deliver_room             once no join is under way: into the room, or nowhere where the join has failed

To deliver an event twice changes nothing, so a crash is harmless: what is there after it is delivered then.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from hs.matrix.errors import LimitExceeded
from hs.rooms.worker import Worker
from hs.storage.early_events import EarlyEventStore

# Bytes of PDUs, of a room and in all; a transaction has 3 MiB at most. What is more is to come again.
_MAX_OF_ROOM: Final = 16 * 2**20
_MAX: Final = 64 * 2**20
_RETRY_AFTER_MS: Final = 30_000
# Transactions that are delivered together.
_AT_ONCE: Final = 20

# (origin, room_id, pdus): take these in, or do not, for good.
Deliver = Callable[[str, str, Sequence[dict[str, Any]]], Awaitable[object]]


class EarlyEvents:
    """Keeps them; `start` before use, `close` before the end."""

    def __init__(self, store: EarlyEventStore) -> None:
        self._store = store
        # Joins under way, and bytes kept, by room id.
        self._joins: Counter[str] = Counter()
        self._kept: Counter[str] = Counter()
        # Rooms whose events are to be delivered.
        self._due: dict[str, None] = {}
        self._worker = Worker("early events", self._deliver_all)
        self._deliver: Deliver | None = None

    async def start(self, deliver: Deliver) -> None:
        """Deliver from now on, first what was kept when the server ended."""
        self._deliver = deliver
        self._due |= dict.fromkeys(await self._store.list_rooms())
        self._worker.hurry()

    async def settle(self) -> None:
        """Return when nothing is being delivered."""
        await self._worker.settle()

    async def close(self) -> None:
        """Stop; what is kept is delivered after the next start."""
        await self._worker.close(waits=False)

    def is_awaited(self, room_id: str) -> bool:
        """Whether one of us is joining the room."""
        return room_id in self._joins

    @contextmanager
    def joining(self, room_id: str) -> Iterator[None]:
        """Around a join."""
        self._joins[room_id] += 1
        try:
            yield
        finally:
            self._joins[room_id] -= 1
            if not self._joins[room_id]:
                del self._joins[room_id]
                self._end(room_id)

    async def keep(self, origin: str, room_id: str, pdus: Sequence[dict[str, Any]]) -> None:
        """Have the PDUs delivered later; LimitExceeded where there is no room for them."""
        encoded = msgspec.json.encode(pdus)
        size = len(encoded)
        if self._kept[room_id] + size > _MAX_OF_ROOM or self._kept.total() + size > _MAX:
            raise LimitExceeded("the room is being joined", retry_after_ms=_RETRY_AFTER_MS)
        self._kept[room_id] += size
        try:
            await self._store.insert(room_id, origin, encoded)
        except BaseException:
            self._kept[room_id] -= size
            raise
        if room_id not in self._joins:
            # The join has ended meanwhile.
            self._end(room_id)

    def _end(self, room_id: str) -> None:
        self._due[room_id] = None
        self._worker.hurry()

    async def _deliver_all(self) -> None:
        while self._due:
            room_id = next(iter(self._due))
            del self._due[room_id]
            try:
                await self._deliver_room(room_id)
            except BaseException:
                self._due[room_id] = None
                raise

    async def _deliver_room(self, room_id: str) -> None:
        assert self._deliver is not None  # `start` comes before all joins
        while room_id not in self._joins and (rows := await self._store.list_rows(room_id, _AT_ONCE)):
            for row in rows:
                await self._deliver(row.origin, room_id, row.pdus)
            if room_id in self._joins:
                # Another join has begun, and what was put off again waits for that.
                return
            await self._store.delete([row.nid for row in rows])
        self._kept.pop(room_id, None)
