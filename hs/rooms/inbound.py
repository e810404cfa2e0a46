"""Transactions of other servers: each is carried out once, its events delivered room by room.

Spec: server-server-api "Transactions", "Server Access Control Lists".
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias

from cachetools import LRUCache

from hs.rooms.checks import PduChecker
from hs.rooms.early_events import EarlyEvents
from hs.rooms.ends import end_tasks
from hs.rooms.outside import OutsideRooms
from hs.rooms.participation import Participation
from hs.rooms.server_acls import ServerAcls
from hs.rooms.staging import EventStaging
from hs.storage.rooms import RoomStore

logger = logging.getLogger(__name__)

# Servers repeat a transaction for as long as they hear no answer. Counted in events: one is some 200 bytes.
_REMEMBERED = 100_000

# For each event None, or why it was not taken in.
Results: TypeAlias = dict[str, str | None]

# (origin, kind, content) of an ephemeral event.
OnEdu = Callable[[str, str, Mapping[str, Any]], Awaitable[None]]


class InboundRooms:
    """Takes in what other servers send for single rooms."""

    def __init__(
        self,
        rooms: RoomStore,
        participation: Participation,
        acls: ServerAcls,
        checker: PduChecker,
        staging: EventStaging,
        outside: OutsideRooms,
        early: EarlyEvents,
    ) -> None:
        self._rooms = rooms
        self._participation = participation
        self._acls = acls
        self._checker = checker
        self._staging = staging
        self._outside = outside
        self._early = early

    def __len__(self) -> int:
        """How many events wait for what is before them."""
        return len(self._staging)

    async def resume(self) -> None:
        """Go on with the events that waited for something when the server ended."""
        await self._staging.resume()
        await self._early.start(self.deliver)

    async def close(self) -> None:
        """Stop asking others; nothing is lost."""
        await self._early.close()
        await self._staging.close()

    async def deliver(self, origin: str, room_id: str, pdus: Sequence[dict[str, Any]]) -> Results:
        """What became of each event; those of a room that one of us is joining wait for that, and are left out."""
        is_awaited = self._early.is_awaited(room_id)
        room = await self._rooms.find(room_id)
        is_here = room is not None and await self._participation.is_in(room.room_nid)
        if not is_here and (is_awaited or self._early.is_awaited(room_id)):
            await self._early.keep(origin, room_id, pdus)
            return {}
        if room is None:
            return {}
        checked = await self._checker.check(pdus, room.version, room.room_id)
        if not await self._participation.is_in(room.room_nid):
            # Not ours to keep, or the other server has not heard yet that our last user left.
            for event in checked.events:
                await self._outside.end(room, event)
            return dict.fromkeys((event.event_id for event in checked.events), None)
        if (await self._rooms.get(room_id)).version is not room.version:
            # One of us has joined meanwhile, which has proven another version than somebody had said.
            return await self.deliver(origin, room_id, pdus)
        if not await self._acls.is_allowed(room, origin):
            return {event.event_id: "your server is denied in this room" for event in checked.events}
        errors = await self._staging.deliver(origin, room, checked.events)
        return checked.dropped | {event.event_id: errors.get(event.event_id) for event in checked.events}


class InboundTransactions:
    """Takes in what other servers send."""

    def __init__(self, rooms: InboundRooms, on_edu: OnEdu) -> None:
        self._rooms = rooms
        self._on_edu = on_edu
        self._done: LRUCache[tuple[str, str], Results] = LRUCache(
            _REMEMBERED, getsizeof=lambda results: len(results) + 1
        )
        self._running: dict[tuple[str, str], asyncio.Task[Results]] = {}

    async def receive(
        self,
        origin: str,
        txn_id: str,
        pdus: Sequence[dict[str, Any]],
        edus: Sequence[tuple[str, Mapping[str, Any]]],
    ) -> Results:
        """What became of each event; the same for a transaction that is repeated.

        What has no error is committed, or waits in the database until it can be. The work goes on when the
        caller is cancelled: the other server will ask again, and should find it done.
        """
        key = (origin, txn_id)
        done = self._done.get(key)
        if done is not None:
            return done
        task = self._running.get(key)
        if task is None:
            task = asyncio.create_task(self._carry_out(origin, pdus, edus), name=f"transaction of {origin}")
            self._running[key] = task
            task.add_done_callback(lambda ended: self._finish(key, ended))
        return await asyncio.shield(task)

    @property
    def staged(self) -> int:
        """How many events wait for what is before them."""
        return len(self._rooms)

    async def resume(self) -> None:
        """Go on with the events that waited for something when the server ended."""
        await self._rooms.resume()

    async def close(self) -> None:
        """Wait a while for what is being carried out, then cut it; nobody is asked for what is missing any more."""
        await self._rooms.close()
        await end_tasks(self._running.values())

    def _finish(self, key: tuple[str, str], task: asyncio.Task[Results]) -> None:
        del self._running[key]
        if not task.cancelled() and task.exception() is None:
            self._done[key] = task.result()

    async def _carry_out(
        self, origin: str, pdus: Sequence[dict[str, Any]], edus: Sequence[tuple[str, Mapping[str, Any]]]
    ) -> Results:
        by_room: dict[str, list[dict[str, Any]]] = {}
        for pdu in pdus:
            room_id = pdu.get("room_id")
            # Since v12 create events have none; nobody sends one to a server that is in the room already.
            if isinstance(room_id, str) and "\x00" not in room_id:
                by_room.setdefault(room_id, []).append(pdu)
        results = await asyncio.gather(
            *(self._rooms.deliver(origin, room_id, found) for room_id, found in by_room.items())
        )
        for kind, content in edus:
            await self._take_edu(origin, kind, content)
        return {event_id: error for result in results for event_id, error in result.items()}

    async def _take_edu(self, origin: str, kind: str, content: Mapping[str, Any]) -> None:
        try:
            await self._on_edu(origin, kind, content)
        except Exception:
            # What is wrong with its content is passed over; this is for faults of ours. An error instead of an
            # answer would have the other server repeat the transaction for ever, and send us nothing else.
            logger.exception("an ephemeral event of %s from %s failed", kind[:100], origin)
