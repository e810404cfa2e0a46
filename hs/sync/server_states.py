"""States of rooms for other servers, whole: ids and PDUs spliced together, never decoded.

Spec: server-server-api "Retrieving events", GET /state, /state_ids, /event_auth.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from cachetools import LRUCache

from hs._fast.event_record import EventRecord
from hs._fast.state_tree import Node
from hs.matrix.errors import LimitExceeded, NotFound
from hs.net.spool import Body
from hs.rooms.state import RoomStates
from hs.rooms.whole_states import WholeStates
from hs.storage.events import EventStore
from hs.storage.history import HistoryStore
from hs.storage.rooms import RoomInfo
from hs.sync.server_access import ServerAccess

# Answers of /state_ids that are kept: some of the largest rooms, 100 bytes a member.
_KEPT_BYTES = 32 * 2**20
# Whole states that are put together at once: a second of work each where the room is one of the largest.
_AT_ONCE = 2
# Of one server, so many wait for that at most.
_WAITING = 8
_RETRY_MS = 5_000
# Ids that one query reads.
_CHUNK = 5_000


class ServerStates:
    """Answers with the state of a room before an event."""

    def __init__(
        self,
        access: ServerAccess,
        states: RoomStates,
        whole: WholeStates,
        events: EventStore,
        store: HistoryStore,
    ) -> None:
        self._access = access
        self._states = states
        self._whole = whole
        self._events = events
        self._store = store
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._waiting = Counter[str]()
        # Which events a state consists of never changes.
        self._ids: LRUCache[tuple[int, int], bytes] = LRUCache(_KEPT_BYTES, getsizeof=len)

    async def state(self, origin: str, room_id: str, event_id: str) -> Body:
        """The body of /state."""
        room, record = await self._access.open_at(origin, room_id, event_id)
        async with self._turn(origin):
            state, chain = await self._whole.list_nids(room, await self._states.before(record))
            return await self._whole.render(b'{"pdus":', state, b',"auth_chain":', chain, b"}")

    async def state_ids(self, origin: str, room_id: str, event_id: str) -> bytes:
        """The body of /state_ids."""
        room, record = await self._access.open_at(origin, room_id, event_id)
        # Messages that follow each other have the same state before them.
        key = (0, record.state_id) if record.state_key is None else (record.event_nid, 0)
        known = self._ids.get(key)
        if known is None:
            async with self._turn(origin):
                # Whoever waited for somebody else's turn finds what they have made.
                known = self._ids.get(key) or await self._render_ids(room, await self._states.before(record))
            if len(known) < _KEPT_BYTES:
                self._ids[key] = known
        return known

    async def event_auth(self, origin: str, room_id: str, event_id: str) -> Body:
        """The body of /event_auth."""
        room, record = await self._access.open_at(origin, room_id, event_id, with_outliers=True)
        chain = await self._auth_chain(room, record)
        return await self._whole.render(b'{"auth_chain":', chain, b"}")

    async def _auth_chain(self, room: RoomInfo, record: EventRecord) -> Sequence[int]:
        found = await self._events.find_nids(room.room_nid, record.auth_event_ids)
        try:
            return await self._whole.list_with_chain(room, list(found.values()))
        except LookupError as error:
            raise NotFound("this server does not have all that the event rests on") from error

    @asynccontextmanager
    async def _turn(self, origin: str) -> AsyncIterator[None]:
        """Until it is the server's turn; LimitExceeded where it asks for too much at once."""
        if self._waiting[origin] >= _WAITING:
            raise LimitExceeded("your server asks for too many states at once", retry_after_ms=_RETRY_MS)
        self._waiting[origin] += 1
        try:
            async with self._turns:
                yield
        finally:
            self._waiting[origin] -= 1
            if not self._waiting[origin]:
                del self._waiting[origin]

    async def _render_ids(self, room: RoomInfo, root: Node) -> bytes:
        state, chain = await self._whole.list_nids(room, root)
        return b'{"pdu_ids":[%b],"auth_chain_ids":[%b]}' % (
            await self._list_ids(room, state),
            await self._list_ids(room, chain),
        )

    async def _list_ids(self, room: RoomInfo, event_nids: Sequence[int]) -> bytes:
        chunks = [event_nids[start : start + _CHUNK] for start in range(0, len(event_nids), _CHUNK)]
        return b",".join([await self._store.list_event_ids(room.room_nid, chunk) for chunk in chunks])
