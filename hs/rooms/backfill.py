"""Old history of a room is fetched from other servers, where a reader comes upon its end.

Spec: server-server-api "Backfilling and retrieving missing events"; the order of points is that of the
kernel `extremity_rank`.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cachetools import LRUCache

from hs._fast import extremity_rank
from hs._fast.state_tree import Node
from hs.matrix.event import Event
from hs.net.errors import RemoteError, RemoteRefused
from hs.net.room_client import RoomClient
from hs.rooms.arrivals import Arrival, MissingAuth, MissingHistory
from hs.rooms.checks import PduChecker
from hs.rooms.clock import Clock
from hs.rooms.drafts import Committed
from hs.rooms.fetched_state import FetchedStates, list_followers
from hs.rooms.history_access import HistoryAccess
from hs.rooms.inferred_states import InferredStates
from hs.rooms.other_servers import OtherServers
from hs.rooms.writer import RoomWriter
from hs.storage.arrivals import ArrivalStore
from hs.storage.backfill import BackfillPoint, BackfillStore
from hs.storage.rooms import RoomInfo
from hs.storage.state import StateKey

logger = logging.getLogger(__name__)

# Points that are looked at, and those that one request names.
_MAX_RANKED = 50
_MAX_POINTS = 5
_EVENTS_AT_ONCE = 100
# Those that hold the room's lane together; each takes less than a millisecond.
_PER_COMMIT = 25
# States that one answer may make us fetch; a history without branches needs one.
_MAX_STATES = 5
# Servers tried, and how many of them may say no before we stop bothering the room's servers.
_MAX_SERVERS = 10
_MAX_REFUSALS = 5
# One server, whatever it makes us fetch: single requests may take long, and be many.
_SERVER_S = 300.0
# Rooms without a gap; about 100 bytes each.
_REMEMBERED = 100_000
# Deeper than any event.
_END = 2**63 - 1


@dataclass(frozen=True, slots=True)
class HistorySource:
    """Where old history comes from."""

    client: RoomClient
    checker: PduChecker
    states: FetchedStates
    inferred: InferredStates
    others: OtherServers


@dataclass(slots=True)
class _Placing:
    """Events of one answer that get their places."""

    room: RoomInfo
    server_name: str
    # All of them, oldest first.
    events: Sequence[Event]
    # Ids of events that have theirs.
    placed: set[str]
    # States that need not be asked for.
    inferred: Mapping[str, Node]
    states_left: int = _MAX_STATES


class Backfiller:
    """Extends the history that we hold of rooms."""

    def __init__(
        self,
        writer: RoomWriter,
        store: BackfillStore,
        known: ArrivalStore,
        source: HistorySource,
        access: HistoryAccess,
        clock: Clock,
        server_name: str,
    ) -> None:
        self._writer = writer
        self._store = store
        self._known = known
        self._source = source
        self._access = access
        self._clock = clock
        self._server_name = server_name
        # One at a time in each room: readers who come upon the same end wait for the same answer.
        self._running: dict[int, asyncio.Task[bool]] = {}
        # How often history of any room was fetched.
        self._fetched = 0
        # Rooms that we have all of, and a count of what may have changed that.
        self._whole: LRUCache[int, None] = LRUCache(_REMEMBERED)
        self._arrivals = 0

    async def is_broken_off(self, room: RoomInfo, least_depth: int, most_depth: int) -> bool:
        """Whether history that we lack belongs between these depths."""
        if room.room_nid in self._whole:
            return False
        before = self._arrivals
        is_broken = await self._store.has_points(room.room_nid, least_depth, most_depth)
        if (
            not is_broken
            and before == self._arrivals
            and not await self._store.has_points(room.room_nid, 0, _END)
        ):
            self._whole[room.room_nid] = None
        return is_broken

    def on_commit(self, committed: Committed) -> None:
        """Look again where events of other servers have come in."""
        own = ":" + self._server_name
        if committed.is_uncertain or not all(record.sender.endswith(own) for record in committed.records):
            self._arrivals += 1
            self._whole.pop(committed.room.room_nid, None)

    async def fill(self, room: RoomInfo, depth: int) -> bool:
        """Fetch history near a depth; whether there is more of it now.

        Who is cancelled while waiting stops nothing: the next reader finds it done.
        """
        task = self._running.get(room.room_nid)
        if task is None:
            task = asyncio.create_task(self._fill(room, depth), name=f"backfill {room.room_nid}")
            self._running[room.room_nid] = task
            task.add_done_callback(lambda done: self._end(room))
        return await asyncio.shield(task)

    def mark(self, room: RoomInfo) -> int | None:
        """The same before and after where no history was fetched meanwhile; None while it is."""
        return None if room.room_nid in self._running else self._fetched

    async def list_old(self, room: RoomInfo, events: Sequence[Event], begins_at_depth: int) -> list[Event]:
        """Those of the events that come before what we have, oldest first.

        What lies below the depth at which we came into the room has happened before, also on another branch.
        """
        known = await self._known.find(room.room_nid, [event.event_id for event in events])
        ordered = sort_by_history(events)
        before = set(known.awaited)
        before.update(event.event_id for event in events if event.depth < begins_at_depth)
        for event in reversed(ordered):
            if event.event_id in before:
                before.update(event.prev_events)
        return [event for event in ordered if event.event_id in before]

    async def take_old(self, room: RoomInfo, server_name: str, events: Sequence[Event]) -> bool:
        """Take in old events that a server has given; whether that was any. Raises RemoteError."""
        if not events:
            return False
        try:
            return await self._take_in(room, server_name, events)
        finally:
            self._fetched += 1

    async def take_event(self, room: RoomInfo, server_name: str, event_id: str) -> bool:
        """Take in one old event; whether there is more of the room's history now. Raises RemoteError."""
        event = await self._source.states.fetch_event(server_name, room, event_id)
        return await self.take_old(room, server_name, [event])

    async def close(self) -> None:
        """Stop what is under way."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _end(self, room: RoomInfo) -> None:
        self._running.pop(room.room_nid, None)
        self._fetched += 1

    async def _fill(self, room: RoomInfo, depth: int) -> bool:
        points = await self._choose_points(room, depth)
        if not points:
            return False
        refusals = 0
        for server_name in await self._source.others.list(room, _MAX_SERVERS):
            try:
                async with asyncio.timeout(_SERVER_S):
                    if await self._fetch(room, server_name, points):
                        return True
            except RemoteRefused:
                refusals += 1
                if refusals == _MAX_REFUSALS:
                    break
            except TimeoutError:
                logger.info("%s takes too long to give history of %s", server_name, room.room_id)
            except RemoteError as error:
                logger.info("%s gives no history of %s: %s", server_name, room.room_id, error)
        await self._store.set_failed(
            room.room_nid, [point.event_nid for point in points], self._clock.now_ms()
        )
        return False

    async def _choose_points(self, room: RoomInfo, depth: int) -> list[BackfillPoint]:
        """The nearest points that other servers would tell us about, looked at one by one until there are enough."""
        now_ms = self._clock.now_ms()
        found = await self._store.list_points(room.room_nid, depth, now_ms)
        points = {point.event_nid: point for point in found}
        ranked = extremity_rank.rank(
            [(p.event_nid, p.depth, p.failed_attempts, p.last_attempt_ts) for p in points.values()],
            depth,
            now_ms,
            _MAX_RANKED,
        )
        chosen: list[BackfillPoint] = []
        for nid in ranked:
            if await self._access.may_read(room, points[nid].successor_nid):
                chosen.append(points[nid])
                if len(chosen) == _MAX_POINTS:
                    break
        return chosen

    async def _fetch(self, room: RoomInfo, server_name: str, points: Sequence[BackfillPoint]) -> bool:
        """Take in what the server gives; whether it was anything."""
        source = self._source
        pdus = await source.client.backfill(
            server_name, room.room_id, [point.event_id for point in points], _EVENTS_AT_ONCE
        )
        checked = await source.checker.check(pdus, room.version, room.room_id)
        return await self._take_in(room, server_name, checked.events)

    async def _take_in(self, room: RoomInfo, server_name: str, events: Sequence[Event]) -> bool:
        known = await self._known.find(
            room.room_nid, [id for event in events for id in (event.event_id, *event.prev_events)]
        )
        placed = {event_id for event_id, held in known.held.items() if not held.is_outlier}
        new = {event.event_id: event for event in events if event.event_id not in placed}
        ordered = sort_by_history(list(new.values()))
        await self._source.states.fetch_missing_auth(server_name, room, ordered)
        nids = known.awaited | {event_id: held.event_nid for event_id, held in known.held.items()}
        inferred = await self._source.inferred.find(room, ordered, nids)
        placing = _Placing(room, server_name, ordered, placed, inferred)
        took_any = False
        for start in range(0, len(ordered), _PER_COMMIT):
            took_any |= await self._place_part(placing, ordered[start : start + _PER_COMMIT])
        return took_any

    async def _place_part(self, placing: _Placing, events: Sequence[Event]) -> bool:
        """Put old events behind what we have: together where nothing has to be asked for, else one by one."""
        known = placing.placed | {event.event_id for event in events}
        arrivals = []
        for event in events:
            is_open = any(id not in known for id in event.prev_events)
            root = placing.inferred.get(event.event_id) if is_open else None
            if not is_open or root is not None:
                arrivals.append(Arrival(event, root_before=root, is_history=True))
        if len(arrivals) == len(events):
            try:
                await self._writer.receive_history(placing.room, arrivals)
                placing.placed |= known
                return True
            except (MissingHistory, MissingAuth) as error:
                logger.debug("old events of %s are placed one by one: %s", placing.room.room_id, error)
        took_any = False
        for event in events:
            took_any |= await self._place(placing, event)
        return took_any

    async def _place(self, placing: _Placing, event: Event) -> bool:
        """Put one old event behind what we have; whether that went well."""
        root = placing.inferred.get(event.event_id)
        if all(event_id in placing.placed for event_id in event.prev_events):
            root = None
        try:
            try:
                await self._writer.receive_history(
                    placing.room, [Arrival(event, root_before=root, is_history=True)]
                )
            except MissingHistory:
                state = await self._fetch_state(placing, event)
                await self._writer.receive_history(placing.room, [Arrival(event, state, is_history=True)])
        except (RemoteError, MissingHistory, MissingAuth) as error:
            logger.info("an old event of %s cannot be placed: %s", placing.room.room_id, error)
            return False
        placing.placed.add(event.event_id)
        return True

    async def _fetch_state(self, placing: _Placing, event: Event) -> Mapping[StateKey, int]:
        if placing.states_left == 0:
            raise MissingHistory(event.prev_events)
        placing.states_left -= 1
        followers = list_followers(event, placing.events)
        return await self._source.states.fetch(placing.server_name, placing.room, event, followers)


def sort_by_history(events: Sequence[Event]) -> list[Event]:
    """The events, each after those of its previous events that are among them; what is in a cycle is left out."""
    by_id = {event.event_id: event for event in events}
    waiting = {id: sum(prev in by_id for prev in event.prev_events) for id, event in by_id.items()}
    followed_by: dict[str, list[str]] = {}
    for event in events:
        for prev in event.prev_events:
            if prev in by_id:
                followed_by.setdefault(prev, []).append(event.event_id)
    ready = sorted((id for id, count in waiting.items() if count == 0), key=lambda id: -by_id[id].depth)
    ordered = []
    while ready:
        event_id = ready.pop()
        ordered.append(by_id[event_id])
        for follower in followed_by.get(event_id, ()):
            waiting[follower] -= 1
            if waiting[follower] == 0:
                ready.append(follower)
    return ordered
