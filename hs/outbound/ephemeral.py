"""What is only of the moment: typing, receipts and presence of our users, told to the servers that share rooms.

Nothing here is stored or waited for. In rooms with many servers, receipts are collected for longer: everybody
who reads there would cost a request to each of them.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Final

from cachetools import LRUCache

from hs.matrix.ids import server_of
from hs.outbound.deliveries import Deliveries
from hs.outbound.queues import ReceiptEntry, WaitingEdus
from hs.outbound.room_servers import RoomServers
from hs.outbound.transactions import encode_edu
from hs.storage.receipts import READ, Receipt
from hs.storage.rooms import RoomStore

logger = logging.getLogger(__name__)

# Who goes on typing is told of again: servers take them to have stopped after 30 to 60 seconds.
_TELL_AGAIN_S: Final = 25.0
_TYPISTS: Final = 20_000
# Of one room: receipts wait so long for each server in it, at most for as long as the second says.
_PAUSE_PER_SERVER_S: Final = 0.02
_MAX_PAUSE_S: Final = 10.0
# Typing is told to so many servers at most: in a larger room nobody looks at it.
_MAX_TYPING_SERVERS: Final = 500
# Things being looked up at once; what is more is dropped.
_MAX_TASKS: Final = 1_000
_MAX_RECEIPTS: Final = 5_000


class EphemeralSender:
    """Sends EDUs of our users; what is of others' users is ignored."""

    def __init__(
        self,
        deliveries: Deliveries,
        room_servers: RoomServers,
        rooms: RoomStore,
        settle: Callable[[], Awaitable[None]],
        server_name: str,
    ) -> None:
        """`settle` returns when it is known who is in the rooms now."""
        self._deliveries = deliveries
        self._room_servers = room_servers
        self._rooms = rooms
        self._settle = settle
        self._server_name = server_name
        # By room and user: when it was told that they are typing, in the loop's time.
        self._told: LRUCache[tuple[int, str], float] = LRUCache(_TYPISTS)
        self._receipts: dict[int, dict[tuple[str, str], Receipt]] = {}
        self._pauses: dict[int, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def on_typing(self, room_nid: int, user_id: str, is_typing: bool) -> None:
        """A user is typing, still is, or has stopped."""
        if server_of(user_id) != self._server_name:
            return
        key, now = (room_nid, user_id), asyncio.get_running_loop().time()
        if not is_typing:
            self._told.pop(key, None)
        elif now - self._told.get(key, -_TELL_AGAIN_S) < _TELL_AGAIN_S:
            return
        else:
            self._told[key] = now
        self._run(self._send_typing(room_nid, user_id, is_typing))

    def on_receipts(self, receipts: Iterable[Receipt]) -> None:
        """Users have read; what is private stays here."""
        for receipt in receipts:
            if receipt.receipt_type != READ or server_of(receipt.user_id) != self._server_name:
                continue
            room_nid = receipt.room_nid
            waiting = self._receipts.setdefault(room_nid, {})
            if len(waiting) < _MAX_RECEIPTS:
                waiting[receipt.user_id, receipt.thread_id] = receipt
            if room_nid not in self._pauses:
                self._run(self._send_receipts(room_nid))

    def on_presence(
        self, entries: Sequence[Mapping[str, Any]], rooms_by_user: Mapping[str, Collection[int]]
    ) -> None:
        """Users have changed (`entries` as in m.presence); their changes are for those in these rooms of theirs."""
        ours = [entry for entry in entries if server_of(entry["user_id"]) == self._server_name]
        if ours:
            self._run(self._send_presence(ours, rooms_by_user))

    async def close(self) -> None:
        """Drop what is under way."""
        self._is_closed = True
        for timer in self._pauses.values():
            timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _send_typing(self, room_nid: int, user_id: str, is_typing: bool) -> None:
        room = await self._rooms.by_nid(room_nid)
        servers = await self._room_servers.list_servers(room)
        if not servers or len(servers) > _MAX_TYPING_SERVERS:
            return
        content = {"room_id": room.room_id, "user_id": user_id, "typing": is_typing}
        edu = encode_edu("m.typing", content)
        self._put(servers, lambda edus: edus.put_typing(room.room_id, user_id, edu))

    async def _send_receipts(self, room_nid: int) -> None:
        waiting = self._receipts.pop(room_nid, None)
        if not waiting:
            return
        room = await self._rooms.by_nid(room_nid)
        servers = await self._room_servers.list_servers(room)
        if not servers:
            return
        entries = [
            ReceiptEntry(room.room_id, one.user_id, one.thread_id, one.event_id, one.ts)
            for one in waiting.values()
        ]
        self._put(servers, lambda edus: edus.put_receipts(entries))
        pause_s = min(len(servers) * _PAUSE_PER_SERVER_S, _MAX_PAUSE_S)
        if not self._is_closed and room_nid not in self._pauses:
            loop = asyncio.get_running_loop()
            self._pauses[room_nid] = loop.call_later(pause_s, self._end_pause, room_nid)

    def _end_pause(self, room_nid: int) -> None:
        del self._pauses[room_nid]
        if room_nid in self._receipts:
            self._run(self._send_receipts(room_nid))

    async def _send_presence(
        self, entries: Sequence[Mapping[str, Any]], rooms_by_user: Mapping[str, Collection[int]]
    ) -> None:
        nids = {nid for entry in entries for nid in rooms_by_user.get(entry["user_id"], ())}
        rooms = await self._rooms.list_by_nids(list(nids))
        servers = {nid: await self._room_servers.list_servers(room) for nid, room in rooms.items()}
        for entry in entries:
            user_id = entry["user_id"]
            found = frozenset[str]().union(*(servers.get(nid, ()) for nid in rooms_by_user.get(user_id, ())))
            self._put_presence(found, user_id, entry)

    def _put_presence(self, servers: Collection[str], user_id: str, entry: Mapping[str, Any]) -> None:
        self._put(servers, lambda edus: edus.put_presence(user_id, entry))

    def _put(self, servers: Collection[str], put: Callable[[WaitingEdus], None]) -> None:
        for name in servers:
            queue = self._deliveries.open_for_edus(name)
            if queue is not None:
                put(queue.edus)
                self._deliveries.flush(queue)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        if self._is_closed or len(self._tasks) >= _MAX_TASKS:
            work.close()
            return
        task = asyncio.create_task(self._log_failure(work), name="outbound EDUs")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _log_failure(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await self._settle()
            await work
        except Exception:
            logger.exception("an ephemeral event was not sent")
        finally:
            work.close()
