"""Events of our users, from commits to the queues of the servers they are for.

Sent are events of our users, and those that other servers have brought into our rooms through us. They go to all
servers with users in the room after the event; the end of a membership goes to the server of its user, too. A server that
has come in through us is sent the ends of the room's history that its join does not build on: they came about while it
was joining, and nobody else may know that it should hear of them.
"""

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from hs._fast.event_record import EventRecord
from hs.matrix.ids import is_server_name, server_of
from hs.outbound.deliveries import Deliveries
from hs.outbound.progress import SendProgress
from hs.outbound.room_servers import RoomServers
from hs.outbound.transactions import Pdu
from hs.rooms.drafts import Committed
from hs.rooms.worker import Worker
from hs.storage.events import EventStore
from hs.storage.room_heads import HeadStore

logger = logging.getLogger(__name__)

# Commits that wait; when the database is too slow for more, the servers they are for catch up.
_MAX_WAITING: Final = 10_000
# Commits that are looked at together: their events are read by one query.
_MAX_BATCH: Final = 100
# Ends of a room's history that a server is sent which has come in; what is more, or before them, it can ask for.
_MAX_ENDS: Final = 20


@dataclass(frozen=True, slots=True)
class _Outgoing:
    """An event, and the servers that it goes to."""

    record: EventRecord
    servers: frozenset[str]
    # Not in the room any more.
    farewells: frozenset[str] = frozenset()
    # The others have it already.
    is_late: bool = False


class FederationSender:
    """Sends what happens in rooms to the servers in them."""

    def __init__(
        self,
        room_servers: RoomServers,
        heads: HeadStore,
        events: EventStore,
        progress: SendProgress,
        deliveries: Deliveries,
        server_name: str,
    ) -> None:
        self._room_servers = room_servers
        self._heads = heads
        self._events = events
        self._progress = progress
        self._deliveries = deliveries
        self._server_name = server_name
        self._waiting: deque[Committed] = deque()
        # Commits were dropped, up to this stream ordering.
        self._lost_upto = 0
        # Who waits until the commits up to a stream ordering are in queues.
        self._settling: list[tuple[int, asyncio.Future[None]]] = []
        self._worker = Worker("outbound events", self._work)
        self._is_open = False

    async def start(self, current: int) -> None:
        """Go on where an earlier process ended; `current` is the newest committed stream ordering."""
        await self._progress.load(current)
        self._deliveries.start()
        self._is_open = True
        self._wake()

    def on_commit(self, committed: Committed) -> None:
        """Have the commit's events sent."""
        if len(self._waiting) >= _MAX_WAITING:
            self._lost_upto = self._waiting[-1].position.stream
            self._waiting.clear()
        if self._lost_upto:
            self._lost_upto = committed.position.stream
        self._waiting.append(committed)
        self._wake()

    async def settle(self) -> None:
        """Return when all commits until now are in queues, so that it is known who is in the rooms."""
        if self._waiting and self._is_open:
            done = asyncio.get_running_loop().create_future()
            self._settling.append((self._waiting[-1].position.stream, done))
            await done

    async def close(self) -> None:
        """Stop sending, and write down what is not sent."""
        self._is_open = False
        await self._worker.close()
        for _, done in self._settling:
            done.cancel()
        await self._deliveries.close()
        await self._progress.close()

    def _wake(self) -> None:
        if self._is_open and self._waiting:
            self._worker.wake()

    async def _work(self) -> None:
        while self._waiting:
            await self._work_through(list(self._waiting)[:_MAX_BATCH])
            self._tell_settled()

    def _tell_settled(self) -> None:
        upto = self._progress.dispatched
        for stream_ordering, done in self._settling:
            if stream_ordering <= upto and not done.done():
                done.set_result(None)
        self._settling = [waiting for waiting in self._settling if not waiting[1].done()]

    async def _work_through(self, batch: Sequence[Committed]) -> None:
        if self._lost_upto:
            await self._take_over()
            return
        outgoing: list[_Outgoing] = []
        for committed in batch:
            await self._room_servers.take_over(committed)
            if committed.is_uncertain:
                await self._find_lost(committed)
            elif ours := [record for record in committed.records if self._is_ours(committed, record)]:
                outgoing += await self._address(committed, ours)
        await self._enqueue(outgoing)
        self._progress.advance(batch[-1].position.stream)
        for _ in batch:
            self._waiting.popleft()

    async def _take_over(self) -> None:
        """Let the database say what was dropped."""
        upto, self._lost_upto = self._lost_upto, 0
        logger.warning("too many commits wait to be sent: servers are to catch up")
        self._room_servers.forget()
        await self._deliveries.take_over(self._progress.dispatched, upto)
        while self._waiting and self._waiting[0].position.stream <= upto:
            self._waiting.popleft()

    async def _find_lost(self, committed: Committed) -> None:
        """Nobody knows whether the commit was carried out: if it was, its events are sent by catching up."""
        await self._deliveries.take_over(self._progress.dispatched, committed.position.stream)

    def _is_ours(self, committed: Committed, record: EventRecord) -> bool:
        if record.stream_ordering <= 0:
            return False
        if server_of(record.sender) == self._server_name:
            return record.event_nid not in committed.told_nids
        return record.event_nid in committed.relayed_nids

    async def _address(self, committed: Committed, records: Sequence[EventRecord]) -> list[_Outgoing]:
        servers = await self._room_servers.list_servers(committed.room)
        ended = {
            change.state_key
            for change in committed.state_changes
            if change.type == "m.room.member" and change.old_nid
        }
        outgoing = []
        for record in records:
            farewells = frozenset[str]()
            user_id = record.state_key
            if record.type == "m.room.member" and user_id in ended:
                name = server_of(user_id) if user_id else ""
                if name not in servers and name != self._server_name and is_server_name(name):
                    farewells = frozenset([name])
            # Who has brought a membership of their own here has it; invites by third-party identifiers are made
            # here, in the name of others.
            origin = {server_of(record.sender)} if record.sender == record.state_key else set()
            if (servers | farewells) - origin:
                outgoing.append(_Outgoing(record, servers - origin, farewells - origin))
            if origin and origin <= servers and record.event_nid in committed.relayed_nids:
                outgoing += await self._welcome(record, frozenset(origin))
        return outgoing

    async def _welcome(self, join: EventRecord, came: frozenset[str]) -> list[_Outgoing]:
        """What a server has missed that has come in by this join: what it builds on is older."""
        if join.content.get("membership") != "join":
            return []
        head = await self._heads.load_head(join.room_nid)
        found = await self._events.get_many([extremity.event_nid for extremity in head.extremities])
        missed = [record for record in found.values() if 0 < record.stream_ordering < join.stream_ordering]
        missed.sort(key=lambda record: record.stream_ordering)
        return [_Outgoing(record, came, is_late=True) for record in missed[-_MAX_ENDS:]]

    async def _enqueue(self, outgoing: Sequence[_Outgoing]) -> None:
        pdus = await self._events.get_pdu_json([one.record.event_nid for one in outgoing])
        by_server: dict[str, list[Pdu]] = defaultdict(list)
        for one in outgoing:
            record = one.record
            nid, stream_ordering = record.event_nid, record.stream_ordering
            if nid not in pdus:
                logger.error("event %s is gone and was not sent", record.event_id)
                continue
            pdu = Pdu(record.room_nid, nid, stream_ordering, pdus[nid])
            if not one.is_late:
                self._progress.note_sent(record.room_nid, nid, stream_ordering)
            for name in one.servers:
                by_server[name].append(pdu)
            if one.farewells:
                farewell = replace(pdu, is_farewell=True)
                for name in one.farewells:
                    by_server[name].append(farewell)
        for name, found in by_server.items():
            self._deliveries.send(name, found)
