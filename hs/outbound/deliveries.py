"""Transactions on their way: one at a time to each server, a bounded number to all, in turns.

Servers that answer are in one line, those that are tried again or catch up in another, so that the many that do
not answer after an outage do not hold up the others. Who takes long gives its place in line away.
"""

import asyncio
import heapq
import logging
import secrets
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from cachetools import LRUCache

from hs._fast import canonical_json
from hs.net.backoff import Backoff
from hs.net.bounds import Bounds
from hs.net.errors import RemoteError, RemoteRefused
from hs.net.federation_client import FederationClient, path_of
from hs.outbound.catch_up import CatchUp, Cursor
from hs.outbound.progress import SendProgress
from hs.outbound.queues import ServerQueue
from hs.outbound.stored_edus import StoredEdus
from hs.outbound.transactions import MAX_EDUS, MAX_PDUS, Pdu, Transaction, build_transaction
from hs.rooms.clock import Clock

logger = logging.getLogger(__name__)

# Transactions at once to servers that answer, and to the others.
MAX_SENDING: Final = 50
MAX_TRYING: Final = 20
# After this long an answer is slow: somebody else may be sent to meanwhile. So many at once of these.
SLOW_S: Final = 2.0
_MAX_SLOW: Final = 500
_BOUNDS: Final = Bounds(2**20, 60.0)
# A transaction that failed is kept and sent again so often (10, 20, 40 seconds later): a server that is started anew
# need not catch up. After that its queue is given up.
_KEPT_FAILURES: Final = 3
# Entries of all queues together; what is beyond is left to catching up.
_MAX_WAITING_IN_ALL: Final = 500_000
# A server that answers and refuses is asked again after this long, then twice that, and so on.
_FIRST_REFUSED_MS: Final = 60_000
_LAST_REFUSED_MS: Final = 6 * 3600 * 1000
_MAX_REFUSING: Final = 10_000
# Each time its transactions become half as long, so many times.
_MAX_HALVINGS: Final = 7
_LOOK_INTERVAL_S: Final = 1.0
_RETRY_OURS_S: Final = 5.0


class PduResult(msgspec.Struct):
    """What a server says of one event."""

    error: str | None = None


class TransactionResult(msgspec.Struct):
    """What a server says of a transaction."""

    pdus: dict[str, PduResult] = {}


@dataclass(frozen=True, slots=True)
class _Refusals:
    """How often in a row a server has refused, and when it did last."""

    count: int
    at_ms: int


class Deliveries:
    """Sends what is put in."""

    def __init__(
        self,
        client: FederationClient,
        backoff: Backoff,
        clock: Clock,
        progress: SendProgress,
        catch_up: CatchUp,
        stored_edus: StoredEdus,
        slow_s: float = SLOW_S,
    ) -> None:
        self._client = client
        self._backoff = backoff
        self._clock = clock
        self._progress = progress
        self._slow_s = slow_s
        self._origin = canonical_json.encode(client.own_name)
        self._catch_up = catch_up
        self._stored_edus = stored_edus
        # Servers to which something is under way.
        self._queues: dict[str, ServerQueue] = {}
        self._ready: deque[ServerQueue] = deque()
        self._doubtful: deque[ServerQueue] = deque()
        self._cursors: dict[str, Cursor] = {}
        # When to try servers again: (ms, server).
        self._plans: list[tuple[int, str]] = []
        self._planned: dict[str, int] = {}
        self._refusals: LRUCache[str, _Refusals] = LRUCache(_MAX_REFUSING)
        self._sending = 0
        self._trying = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._is_open = False
        self._txn_prefix = f"{clock.now_ms()}-{secrets.token_hex(4)}"
        self._txn_count = 0
        self._waiting = 0

    def start(self) -> None:
        """Send from now on; who is behind is tried when their time has come."""
        self._is_open = True
        for server_name in {*self._progress.behind, *self._stored_edus.servers}:
            self._plan(server_name, self._backoff.retry_ts(server_name))
        self._backoff.on_woken(self.wake)
        self._stored_edus.on_added(self.send_stored)
        self.look()

    @property
    def queues(self) -> Iterable[ServerQueue]:
        """Of servers to which something is under way."""
        return self._queues.values()

    @property
    def counts(self) -> tuple[int, int, int]:
        """Servers with a queue, events in all queues, transactions under way."""
        return len(self._queues), self._waiting, len(self._tasks)

    def send(self, server_name: str, pdus: Sequence[Pdu]) -> None:
        """Have events go to a server, after those that were put in before."""
        queue = self._queues.get(server_name)
        if queue is None:
            if server_name in self._progress.behind:
                self._leave_behind(server_name, pdus)
                return
            queue = self._open(server_name)
        now_s = asyncio.get_running_loop().time()
        for i, pdu in enumerate(pdus):
            if self._waiting >= _MAX_WAITING_IN_ALL or not queue.add(pdu, now_s):
                self._overflow(queue, pdus[i:])
                break
            self._waiting += 1
        self._place(queue)

    def open_for_edus(self, server_name: str) -> ServerQueue | None:
        """The queue to put EDUs into, followed by `flush`; None where the server does not answer at present."""
        queue = self._queues.get(server_name)
        if queue is None:
            left_alone = server_name in self._planned or self._backoff.retry_ts(server_name)
            if left_alone or server_name in self._progress.behind:
                return None
            queue = self._open(server_name)
        return queue

    def flush(self, queue: ServerQueue) -> None:
        """Send what was put into the queue."""
        self._place(queue)

    def send_stored(self, server_name: str) -> None:
        """Have what is stored for the server go to it, at once or when it is tried again."""
        queue = self._queues.get(server_name)
        if queue is not None:
            self._place(queue)
        elif server_name not in self._planned:
            self._plan(server_name, self._backoff.retry_ts(server_name))
            self.look()

    async def take_over(self, after: int, upto: int) -> None:
        """Have the servers that committed events in (after, upto] are for catch up."""
        for server_name in await self._progress.take_over(after, upto):
            queue = self._queues.get(server_name)
            if queue is None:
                self._plan(server_name, self._backoff.retry_ts(server_name))
            elif queue.is_catching_up:
                queue.has_dropped = True
            else:
                queue.is_catching_up = True
        self.look()

    def wake(self, server_name: str) -> None:
        """The server has spoken to us: try it now; where it has refused something, a minute after that."""
        planned_ms = self._planned.get(server_name)
        if planned_ms is not None:
            refused = self._refusals.get(server_name)
            when_ms = 0 if refused is None else refused.at_ms + _FIRST_REFUSED_MS
            if when_ms < planned_ms:
                self._plan(server_name, when_ms)
                self.look()

    def look(self) -> None:
        """Try the servers whose time has come."""
        now_ms = self._clock.now_ms()
        while self._plans and self._plans[0][0] <= now_ms:
            when_ms, server_name = heapq.heappop(self._plans)
            if self._planned.get(server_name) == when_ms:
                del self._planned[server_name]
                self._try_again(server_name)
        if self._plans and self._timer is None and self._is_open:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_INTERVAL_S, self._on_timer)

    async def close(self) -> None:
        """Stop; what is not confirmed stays in the queues."""
        self._is_open = False
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _on_timer(self) -> None:
        self._timer = None
        self.look()

    def _open(self, server_name: str) -> ServerQueue:
        # Who refuses a transaction may take a part of it: it was too large, or they choked on something in it.
        refused = self._refusals.get(server_name)
        halvings = 0 if refused is None else min(refused.count, _MAX_HALVINGS)
        queue = self._queues[server_name] = ServerQueue(server_name, halvings=halvings)
        return queue

    def _try_again(self, server_name: str) -> None:
        queue = self._queues.get(server_name)
        if queue is None:
            is_behind = server_name in self._progress.behind
            if not is_behind and server_name not in self._stored_edus.servers:
                return
            queue = self._open(server_name)
            queue.is_catching_up = is_behind
        queue.is_placed = False
        self._place(queue)

    def _place(self, queue: ServerQueue) -> None:
        """Put the queue in line, unless it is there, under way, or waits for its time."""
        if queue.is_placed:
            return
        queue.is_placed = True
        (self._doubtful if queue.failures or queue.is_catching_up else self._ready).append(queue)
        self._pump()

    def _pump(self) -> None:
        """Start what may be started."""
        while self._is_open and len(self._tasks) < _MAX_SLOW:
            if self._ready and self._sending < MAX_SENDING:
                self._sending += 1
                self._start(self._ready.popleft(), is_trying=False)
            elif self._doubtful and self._trying < MAX_TRYING:
                self._trying += 1
                self._start(self._doubtful.popleft(), is_trying=True)
            else:
                return

    def _start(self, queue: ServerQueue, is_trying: bool) -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._run(queue), name=f"send to {queue.server_name}")
        self._tasks.add(task)
        is_counted = True

        def leave_line() -> None:
            nonlocal is_counted
            if is_counted:
                is_counted = False
                self._sending -= not is_trying
                self._trying -= is_trying
                self._pump()

        slow = loop.call_later(self._slow_s, leave_line)

        def end(_: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            slow.cancel()
            leave_line()
            self._pump()

        task.add_done_callback(end)

    async def _run(self, queue: ServerQueue) -> None:
        """One transaction, and what follows from how it went."""
        try:
            transaction = await self._next_transaction(queue)
            if transaction is not None:
                await self._put(queue.server_name, transaction)
                await self._stored_edus.confirm(queue.server_name, transaction.stored_ids)
                self._refusals.pop(queue.server_name, None)
                queue.confirm(asyncio.get_running_loop().time())
        except RemoteError as error:
            self._fail(queue, error)
            return
        except asyncio.CancelledError:
            raise
        except Exception:
            # Ours, then: the database, perhaps.
            logger.exception("cannot send to %s; trying again", queue.server_name)
            self._cursors.pop(queue.server_name, None)
            self._plan(queue.server_name, self._clock.now_ms() + round(_RETRY_OURS_S * 1000))
            self.look()
            return
        queue.is_placed = False
        if queue.is_empty and queue.server_name not in self._stored_edus.servers:
            del self._queues[queue.server_name]
        else:
            self._place(queue)

    async def _next_transaction(self, queue: ServerQueue) -> Transaction | None:
        if queue.transaction is None:
            max_pdus, max_stored = max(MAX_PDUS >> queue.halvings, 1), max(MAX_EDUS >> queue.halvings, 1)
            stored = await self._stored_edus.list_next(queue.server_name, max_stored)
            pdus = await self._next_page(queue, max_pdus) if queue.is_catching_up else []
            head = self._origin, self._next_id(), self._clock.now_ms()
            if pdus:
                edus = queue.edus.take(MAX_EDUS - len(stored))
                queue.transaction = build_transaction(*head, pdus, edus, stored)
            else:
                waiting = len(queue.pdus)
                queue.take(*head, stored, max_pdus)
                self._waiting -= waiting - len(queue.pdus)
        return queue.transaction

    async def _next_page(self, queue: ServerQueue, limit: int) -> list[Pdu]:
        """What the server has missed; where that is nothing more, it is as good as the others again."""
        name = queue.server_name
        while True:
            cursor = self._cursors.get(name)
            if cursor is None:
                queue.has_dropped = False
                cursor = await self._catch_up.begin(
                    self._progress.behind.get(name, self._progress.dispatched)
                )
                self._cursors[name] = cursor
            pdus = await self._catch_up.next_page(name, cursor, limit)
            if pdus:
                return pdus
            del self._cursors[name]
            if not queue.has_dropped:
                break
            self._progress.note_came_to(name, cursor.upto)
        queue.is_catching_up = False
        self._progress.note_caught_up(name)
        return []

    async def _put(self, server_name: str, transaction: Transaction) -> None:
        answer = await self._client.ask(
            "PUT",
            server_name,
            path_of("/_matrix/federation/v1/send/{}", transaction.txn_id),
            TransactionResult,
            body=transaction.body,
            bounds=_BOUNDS,
        )
        if logger.isEnabledFor(logging.DEBUG):
            for event_id, result in answer.pdus.items():
                if result.error is not None:
                    logger.debug("%s: %s was not taken: %.200s", server_name, event_id, result.error)

    def _fail(self, queue: ServerQueue, error: RemoteError) -> None:
        name, now_ms = queue.server_name, self._clock.now_ms()
        logger.debug("cannot send to %s: %s", name, error)
        queue.failures += 1
        retry_ts = self._backoff.retry_ts(name)
        is_kept = not queue.is_catching_up and queue.failures <= _KEPT_FAILURES and retry_ts > 0
        if not retry_ts:
            # It answers, and will not have it.
            before = self._refusals.get(name)
            count = max(0 if before is None else before.count, queue.halvings) + 1
            self._refusals[name] = _Refusals(count, now_ms)
            retry_ts = now_ms + min(_FIRST_REFUSED_MS << min(count - 1, 16), _LAST_REFUSED_MS)
            if isinstance(error, RemoteRefused):
                logger.info("%s refuses our transactions: %s", name, error.status)
        if not is_kept:
            self._give_up(queue)
        self._plan(name, retry_ts)
        self.look()

    def _overflow(self, queue: ServerQueue, rest: Sequence[Pdu]) -> None:
        """There is no room for more events: the server will catch up."""
        if queue.is_catching_up:
            queue.has_dropped = True
            self._leave_behind(queue.server_name, rest)
            return
        oldest = queue.pdus[0].stream_ordering if queue.pdus else rest[0].stream_ordering
        if queue.transaction is not None and queue.transaction.pdus:
            # What is under way is confirmed on its own, if it is.
            oldest = min(oldest, queue.transaction.pdus[0].stream_ordering)
        self._progress.note_behind(queue.server_name, oldest - 1)
        self._leave_behind(queue.server_name, [*queue.pdus, *rest])
        self._waiting -= len(queue.pdus)
        queue.pdus.clear()
        queue.is_catching_up = True

    def _give_up(self, queue: ServerQueue) -> None:
        """Keep no more of the server than that it is behind."""
        name, oldest = queue.server_name, queue.oldest
        self._waiting -= len(queue.pdus)
        if oldest is not None and not queue.is_catching_up:
            self._progress.note_behind(name, oldest - 1)
        if name in self._progress.behind:
            self._leave_behind(name, queue.drop())
        self._cursors.pop(name, None)
        del self._queues[name]

    def _leave_behind(self, server_name: str, pdus: Iterable[Pdu]) -> None:
        """Events for a server that is behind: it finds them by itself, but for farewells."""
        for pdu in pdus:
            if pdu.is_farewell:
                self._progress.note_farewell(server_name, pdu)

    def _plan(self, server_name: str, when_ms: int) -> None:
        self._planned[server_name] = when_ms
        heapq.heappush(self._plans, (when_ms, server_name))

    def _next_id(self) -> str:
        self._txn_count += 1
        return f"{self._txn_prefix}-{self._txn_count}"
