"""How far other servers have come, written down about once a second.

At each moment, an event that a server has not confirmed is after the written position, or the server is written
down as behind from before it. So whatever is not sent when the process is killed is found again, and an event
to thousands of servers that answer writes one row: its room's.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from hs.matrix.ids import is_server_name
from hs.outbound.queues import ServerQueue
from hs.outbound.transactions import Pdu
from hs.rooms.worker import Worker
from hs.storage.outbound import Farewell, MissedEvent, OutboundStore, Progress

logger = logging.getLogger(__name__)

_SAVE_AFTER_S: Final = 1.0
# A server that has not confirmed an event after this long is written down by name; the position waits for the others.
_PATIENCE_S: Final = 10.0


class SendProgress:
    """What is to be written down, and what was."""

    def __init__(self, store: OutboundStore, list_queues: Callable[[], Iterable[ServerQueue]]) -> None:
        """`list_queues` gives the queues of servers that something is under way to."""
        self._store = store
        self._list_queues = list_queues
        # Up to here events are in queues, or their servers are behind.
        self.dispatched = 0
        self._saved = 0
        # From where on servers lack events; those with a queue that catches up, and those without.
        self.behind: dict[str, int] = {}
        # What the rows of servers say now.
        self._written: dict[str, int] = {}
        self._changed: set[str] = set()
        self._rooms: dict[int, MissedEvent] = {}
        self._farewells: list[Farewell] = []
        self._saver = Worker("outbound progress", self._save_all, delay_s=_SAVE_AFTER_S)
        self._lock = asyncio.Lock()

    async def load(self, current: int) -> None:
        """Go on where an earlier process ended; `current` is the newest event of all."""
        position = await self._store.find_position()
        if position is None:
            await self._store.save(Progress(current))
        elif position < current:
            servers = await self._store.take_over(position, current)
            logger.info("%d servers may lack events of the last moments", len(servers))
        self.dispatched = self._saved = max(current, position or 0)
        self._written = await self._store.list_behind()
        # Names of servers in user ids are anybody's text; what is none loses its row with the next `save`.
        self.behind = {name: since for name, since in self._written.items() if is_server_name(name)}

    def advance(self, position: int) -> None:
        """Events up to here are in queues."""
        self.dispatched = position
        self._saver.wake()

    def note_sent(self, room_nid: int, event_nid: int, stream_ordering: int) -> None:
        """An event of ours is on its way; one after the other, by their stream orderings."""
        self._rooms[room_nid] = MissedEvent(room_nid, event_nid, stream_ordering)

    def note_behind(self, server_name: str, since: int) -> None:
        """The server lacks events after `since`."""
        self.behind[server_name] = min(since, self.behind.get(server_name, since))
        self._changed.add(server_name)
        self._saver.wake()

    def note_came_to(self, server_name: str, since: int) -> None:
        """A server that is behind lacks nothing up to `since`."""
        self.behind[server_name] = since
        self._changed.add(server_name)
        self._saver.wake()

    def note_caught_up(self, server_name: str) -> None:
        """The server lacks nothing but what is in its queue."""
        if self.behind.pop(server_name, None) is not None:
            self._changed.add(server_name)
            self._saver.wake()

    def note_farewell(self, server_name: str, pdu: Pdu) -> None:
        """A server that is behind, and not in the room any more, is to have this event."""
        event = MissedEvent(pdu.room_nid, pdu.event_nid, pdu.stream_ordering)
        self._farewells.append(Farewell(server_name, event))

    async def save(self) -> int:
        """Write everything down; the position up to which `outbound_rooms` is complete."""
        async with self._lock:
            dispatched = self.dispatched
            position, held = self._look_at_queues(dispatched)
            wanted = {**held, **self.behind}
            changes: dict[str, int | None] = {
                name: wanted.get(name)
                for name in self._changed | held.keys() | (self._written.keys() - wanted.keys())
                if wanted.get(name) != self._written.get(name)
            }
            rooms, self._rooms = self._rooms, {}
            farewells, self._farewells = self._farewells, []
            self._changed = set()
            if changes or rooms or farewells or position != self._saved:
                try:
                    await self._store.save(Progress(position, list(rooms.values()), changes, farewells))
                except BaseException:
                    self._rooms = rooms | self._rooms
                    self._farewells = farewells + self._farewells
                    self._changed |= changes.keys()
                    raise
                self._saved = position
                for name, since in changes.items():
                    if since is None:
                        self._written.pop(name, None)
                    else:
                        self._written[name] = since
            return dispatched

    async def take_over(self, after: int, upto: int) -> list[str]:
        """Have the servers that events in (after, upto] are for count as behind; the servers."""
        async with self._lock:
            found = await self._store.take_over(after, upto)
        servers = [name for name in found if is_server_name(name)]
        for name in found:
            self._written[name] = min(after, self._written.get(name, after))
        for name in servers:
            self.behind[name] = min(after, self.behind.get(name, after))
        self.dispatched = self._saved = max(self.dispatched, upto)
        return servers

    async def close(self) -> None:
        """Write down who has not confirmed what."""
        await self._saver.close()
        for queue in self._list_queues():
            if (oldest := queue.oldest) is not None:
                self.note_behind(queue.server_name, oldest - 1)
                for pdu in queue.drop():
                    if pdu.is_farewell:
                        self.note_farewell(queue.server_name, pdu)
        await self.save()

    def _look_at_queues(self, dispatched: int) -> tuple[int, dict[str, int]]:
        """The position that may be written, and servers to write down by name, with where they are."""
        position, held = dispatched, dict[str, int]()
        impatient_s = asyncio.get_running_loop().time() - _PATIENCE_S
        for queue in self._list_queues():
            if queue.server_name in self.behind or (oldest := queue.oldest) is None:
                continue
            if queue.waiting_since < impatient_s:
                held[queue.server_name] = oldest - 1
            else:
                position = min(position, oldest - 1)
        return position, held

    async def _save_all(self) -> None:
        await self.save()
        if self._saved < self.dispatched:
            # Somebody has not confirmed yet.
            self._saver.wake()
