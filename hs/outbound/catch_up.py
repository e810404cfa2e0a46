"""What a server has missed while it did not answer, as transactions: its farewells, then room by room.

Rooms come by their newest event, newest first. Of a room where little has happened all that we said is sent; of
others our newest event only: the server asks for what lies between, if it wants it (`get_missing_events`). What is
missed is not stored: it is the rooms that the server is in whose newest event is after `since`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hs.outbound.progress import SendProgress
from hs.outbound.transactions import MAX_PDUS, Pdu
from hs.storage.events import EventStore
from hs.storage.outbound import MissedEvent, OutboundStore

_ROOMS_AT_ONCE = 10
# Events of a room since the server was last heard of, anybody's: up to so many, ours are all sent.
_FEW = MAX_PDUS


@dataclass(slots=True)
class Cursor:
    """How far a server has come in catching up: what is in (since, before) is left."""

    since: int
    upto: int
    before: int
    # The last farewell that was sent and is not confirmed.
    farewell: int = 0
    has_farewells: bool = True


class CatchUp:
    """Finds what servers have missed."""

    def __init__(
        self,
        store: OutboundStore,
        events: EventStore,
        progress: SendProgress,
    ) -> None:
        self._store = store
        self._events = events
        self._progress = progress

    async def begin(self, since: int) -> Cursor:
        """A cursor over what happened after `since` and until now."""
        upto = await self._progress.save()
        return Cursor(since, upto, upto + 1)

    async def next_page(self, server_name: str, cursor: Cursor, limit: int = MAX_PDUS) -> list[Pdu]:
        """What the next transaction has; nothing where that was all. Call it when the last was confirmed.

        Of a room that has more than `limit` events it is the newest alone.
        """
        if cursor.farewell:
            await self._store.delete_farewells(server_name, cursor.farewell)
            cursor.farewell = 0
        if cursor.has_farewells:
            missed = await self._store.list_farewells(server_name, limit)
            if missed:
                cursor.farewell = missed[-1].stream_ordering
                return await self._load(missed, is_farewell=True)
            cursor.has_farewells = False
        while missed := await self._store.list_missed(
            server_name, cursor.since, cursor.before, _ROOMS_AT_ONCE
        ):
            page = await self._choose(server_name, cursor, missed, limit)
            if pdus := await self._load(page):
                return pdus
        return []

    async def _choose(
        self, server_name: str, cursor: Cursor, missed: Sequence[MissedEvent], limit: int
    ) -> list[MissedEvent]:
        """The events of as many of these rooms as go into a transaction; the cursor is moved behind them."""
        nids = [one.room_nid for one in missed]
        few = await self._store.list_few(server_name, nids, cursor.since, cursor.upto, min(_FEW, limit))
        page: list[MissedEvent] = []
        for newest in missed:
            events = few.get(newest.room_nid, [newest])
            if len(page) + len(events) > limit:
                break
            cursor.before = newest.stream_ordering
            page += events
        return page

    async def _load(self, missed: Sequence[MissedEvent], is_farewell: bool = False) -> list[Pdu]:
        found = await self._events.get_pdu_json([one.event_nid for one in missed])
        return [
            Pdu(one.room_nid, one.event_nid, one.stream_ordering, found[one.event_nid], is_farewell)
            for one in missed
            if one.event_nid in found
        ]
