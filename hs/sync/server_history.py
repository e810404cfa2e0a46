"""Stretches of history for other servers: backfill, and what they have missed.

Spec: server-server-api "Backfilling and retrieving missing events". Events that the server may not see are given
redacted, so that its history stays whole; rejected ones are not given at all, but passed on the way back. State is
never redacted for who is in the room: they get it by GET /state, too, and must not take a redacted copy for the event.
"""

import heapq
from collections.abc import Iterable, Sequence

from hs.storage.events import EventStore, Flag
from hs.storage.history import HistoryStore, PduStore, Step
from hs.sync.server_access import OpenRoom, ServerAccess
from hs.sync.server_visibility import ServerVisibility

MOST_BACKFILLED = 100
MOST_MISSING = 20
# Events that are read ahead: history is mostly one line, so one query reads all of an answer.
_AHEAD = 150
# Events passed, and queries made, for one answer at most, however the room's branches lie.
_MOST_PASSED = 2_000
_MOST_QUERIES = 30


class _Walk:
    """Steps back through the history of one room, read ahead."""

    def __init__(self, store: HistoryStore, room_nid: int) -> None:
        self._store = store
        self._room_nid = room_nid
        self._known: dict[int, Step] = {}
        self._queries = 0

    async def take(self, event_nids: Sequence[int]) -> list[Step]:
        """Those of the events that have a place in history."""
        missing = [nid for nid in event_nids if nid not in self._known]
        if missing and self._queries < _MOST_QUERIES:
            self._queries += 1
            self._known |= await self._store.list_steps(self._room_nid, missing, _AHEAD)
        found = [self._known[nid] for nid in event_nids if nid in self._known]
        return [step for step in found if not step.flags & Flag.OUTLIER]


class ServerHistory:
    """Reads history for servers."""

    def __init__(
        self,
        access: ServerAccess,
        visibility: ServerVisibility,
        events: EventStore,
        store: HistoryStore,
        pdus: PduStore,
    ) -> None:
        self._access = access
        self._visibility = visibility
        self._events = events
        self._store = store
        self._pdus = pdus

    async def get_event(self, origin: str, event_id: str) -> bytes:
        """The PDU of an event; NotFound, or Forbidden where the server may not see it."""
        record = await self._access.get_event(origin, event_id)
        return (await self._pdus.get_many([record.event_nid]))[record.event_nid]

    async def backfill(self, origin: str, room_id: str, event_ids: Sequence[str], limit: int) -> list[bytes]:
        """The PDUs of these events and of what was before them, deepest first; MOST_BACKFILLED at most."""
        opened, starts = await self._access.open(origin, room_id, event_ids)
        walk = _Walk(self._store, opened.room.room_nid)
        limit = min(limit, MOST_BACKFILLED)
        seen, found = set(starts), list[int]()
        waiting = [_deepest_first(step) for step in await walk.take(starts)]
        heapq.heapify(waiting)
        while waiting and len(found) < limit and len(seen) < _MOST_PASSED:
            *_, step = heapq.heappop(waiting)
            if not step.flags & Flag.REJECTED:
                found.append(step.event_nid)
            new = [nid for nid in step.prev_nids if nid not in seen]
            seen.update(new)
            for before in await walk.take(new):
                heapq.heappush(waiting, _deepest_first(before))
        return await self._list_pdus(origin, opened, found)

    async def list_missing(
        self,
        origin: str,
        room_id: str,
        latest: Sequence[str],
        earliest: Sequence[str],
        limit: int,
        min_depth: int,
    ) -> list[bytes]:
        """The PDUs between `earliest` and `latest`, both left out, that are nearest to `latest`; oldest first."""
        opened, starts = await self._access.open(origin, room_id, latest)
        known = await self._events.find_nids(opened.room.room_nid, earliest)
        walk = _Walk(self._store, opened.room.room_nid)
        limit = min(limit, MOST_MISSING)
        seen = {*starts, *known.values()}
        found: list[Step] = []
        front = await walk.take(starts)
        while front and len(found) < limit and len(seen) < _MOST_PASSED:
            new = _unseen((nid for step in front for nid in step.prev_nids), seen)
            seen.update(new)
            front = [step for step in await walk.take(new) if step.depth >= min_depth]
            found += [step for step in front if not step.flags & Flag.REJECTED]
        ordered = sorted(found[:limit], key=lambda step: (step.depth, step.stream_ordering))
        return await self._list_pdus(origin, opened, [step.event_nid for step in ordered])

    async def _list_pdus(self, origin: str, opened: OpenRoom, event_nids: Sequence[int]) -> list[bytes]:
        records = await self._events.get_many(event_nids)
        judged = [one for one in records.values() if one.state_key is None or not opened.is_in]
        hidden = await self._visibility.list_hidden(origin, judged, is_in=opened.is_in)
        pdus = await self._pdus.get_many(event_nids, hidden)
        return [pdus[nid] for nid in event_nids if nid in pdus]


def _deepest_first(step: Step) -> tuple[int, int, int, Step]:
    return -step.depth, -step.stream_ordering, step.event_nid, step


def _unseen(event_nids: Iterable[int], seen: set[int]) -> list[int]:
    return [nid for nid in dict.fromkeys(event_nids) if nid not in seen]
