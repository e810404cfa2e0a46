"""What we lack of a room's history is fetched: missing events, or where they cannot be had the state after them.

    deliver(origin, room, events)        events that a server has sent us; the network is never waited for in the lane
      _place                             the lane says what is missing
      _fetch_auth                        auth events: stored as outliers
      _fill                              the events between ours and theirs, by get_missing_events
      _fetch_state                       where a gap remains: the state before the event, by ids

Spec: server-server-api "Retrieving previous events", "Retrieving event authorisation information".
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hs._fast import extremity_rank
from hs.matrix.errors import MatrixError
from hs.matrix.event import Event
from hs.net.errors import RemoteError
from hs.net.room_client import RoomClient
from hs.rooms.arrivals import Arrival, MissingAuth, MissingHistory
from hs.rooms.checks import PduChecker
from hs.rooms.clock import Clock
from hs.rooms.fetched_state import FetchedStates
from hs.rooms.writer import RoomWriter
from hs.storage.backfill import BackfillStore
from hs.storage.events import Flag
from hs.storage.room_heads import HeadStore
from hs.storage.rooms import RoomInfo

logger = logging.getLogger(__name__)

# The spec's default is 10, and servers give up to 20.
_MISSING_AT_ONCE = 20
# Our newest events, which tell the other server where our history ends.
_MAX_EARLIEST = 20
# One request may make us fetch so many states; events behind further gaps are dropped and may come again.
_MAX_STATES = 5


@dataclass(slots=True)
class Delivery:
    """Events of one room from one server, and what became of them."""

    origin: str
    room: RoomInfo
    # Why events were dropped, by event id.
    errors: dict[str, str] = field(default_factory=dict)
    # Events that we have asked for in vain.
    failed_pulls: set[str] = field(default_factory=set)
    states_left: int = _MAX_STATES


class GapFiller:
    """Takes events of other servers into rooms, whatever is missing before them."""

    def __init__(
        self,
        writer: RoomWriter,
        heads: HeadStore,
        client: RoomClient,
        checker: PduChecker,
        states: FetchedStates,
        attempts: BackfillStore,
        clock: Clock,
    ) -> None:
        self._writer = writer
        self._heads = heads
        self._client = client
        self._checker = checker
        self._states = states
        self._attempts = attempts
        self._clock = clock
        # Gaps that are being filled, by room and event: whoever else comes upon them waits for that.
        self._filling: dict[tuple[int, str], asyncio.Future[None]] = {}

    async def deliver(self, origin: str, room: RoomInfo, events: Sequence[Event]) -> dict[str, str]:
        """Why events were dropped, by event id. What was rejected or soft-failed has been taken in, hidden."""
        delivery = Delivery(origin, room)
        # Each for itself: one that lacks something does not hold up the others. The lane keeps their order.
        ordered = sorted(events, key=lambda event: event.depth)
        await asyncio.gather(*(self._receive(delivery, event) for event in ordered))
        return delivery.errors

    async def _receive(self, delivery: Delivery, event: Event) -> None:
        """An event that a server has sent us."""
        try:
            await self._place(delivery, event)
        except MissingHistory:
            await self._across_gap(delivery, event)

    async def _across_gap(self, delivery: Delivery, event: Event) -> None:
        key = (delivery.room.room_nid, event.event_id)
        running = self._filling.get(key)
        if running is not None:
            await asyncio.shield(running)
            return
        self._filling[key] = asyncio.get_running_loop().create_future()
        try:
            await self._fill(delivery, event)
            await self._pull(delivery, event)
            await self._note_failures(delivery)
        finally:
            self._filling.pop(key).set_result(None)

    async def _fill(self, delivery: Delivery, event: Event) -> None:
        """Take in the events between what we have and this one, as far as they can be had."""
        head = await self._heads.load_head(delivery.room.room_nid)
        newest = sorted(head.extremities, key=lambda e: e.depth, reverse=True)[:_MAX_EARLIEST]
        try:
            pdus = await self._client.get_missing_events(
                delivery.origin,
                delivery.room.room_id,
                earliest=[extremity.event_id for extremity in newest],
                latest=[event.event_id],
                limit=_MISSING_AT_ONCE,
                min_depth=0,
            )
        except RemoteError as error:
            logger.info(
                "%s does not say what is missing in %s: %s", delivery.origin, delivery.room.room_id, error
            )
            return
        checked = await self._checker.check(pdus, delivery.room.version, delivery.room.room_id)
        delivery.failed_pulls |= checked.dropped.keys()
        ready = await self._list_ready(delivery, [e for e in checked.events if e.event_id != event.event_id])
        for missing in sorted(ready, key=lambda event: event.depth):
            await self._pull(delivery, missing)
            if missing.event_id in delivery.errors:
                delivery.failed_pulls.add(missing.event_id)

    async def _list_ready(self, delivery: Delivery, events: Sequence[Event]) -> list[Event]:
        """Those of the events that were not tried in vain a short while ago."""
        ids = [event.event_id for event in events]
        failed = await self._attempts.list_attempts(delivery.room.room_nid, ids)
        now_ms = self._clock.now_ms()
        waiting = {id for id, attempts in failed.items() if extremity_rank.retry_at(*attempts) > now_ms}
        return [event for event in events if event.event_id not in waiting]

    async def _note_failures(self, delivery: Delivery) -> None:
        """Let what could not be taken in wait, longer each time: whoever builds on it would make us try again."""
        if delivery.failed_pulls:
            failed = list(delivery.failed_pulls)
            await self._attempts.set_ids_failed(delivery.room.room_nid, failed, self._clock.now_ms())

    async def _pull(self, delivery: Delivery, event: Event) -> None:
        """An event that we have asked for: what is missing before it is bridged by the state after that."""
        try:
            await self._place(delivery, event)
        except MissingHistory:
            await self._bridge(delivery, event)

    async def _bridge(self, delivery: Delivery, event: Event) -> None:
        if delivery.states_left == 0:
            delivery.errors[event.event_id] = "too many events before it are missing"
            return
        delivery.states_left -= 1
        try:
            state = await self._states.fetch(delivery.origin, delivery.room, event.event_id)
            await self._place(delivery, event, state)
        except (RemoteError, MissingAuth) as error:
            delivery.errors[event.event_id] = f"the state before it cannot be had: {error}"

    async def _place(
        self, delivery: Delivery, event: Event, state: Mapping[tuple[str, str], int] | None = None
    ) -> None:
        """Put the event into the room; MissingHistory where we lack what is before it."""
        arrival = Arrival(event, state)
        try:
            try:
                [placed] = await self._writer.receive(delivery.room, [arrival])
            except MissingAuth:
                await self._states.fetch_auth(delivery.origin, delivery.room, event)
                [placed] = await self._writer.receive(delivery.room, [arrival])
        except (MissingAuth, RemoteError, MatrixError) as error:
            delivery.errors[event.event_id] = f"it cannot be judged: {error}"
            return
        if placed is not None and placed.flags & Flag.REJECTED:
            delivery.errors[event.event_id] = f"rejected: {placed.rule}"
