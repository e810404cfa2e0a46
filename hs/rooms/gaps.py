"""What we lack of a room's history is fetched: missing events, or where they cannot be had the state after them.

    place(room, event)                   the lane says what is missing; the network is never waited for in it
    fill(server, room, event)
      _fetch_auth                        auth events: stored as outliers
      _fetch_missing                     the events between ours and theirs, by get_missing_events
        _take_old                        those that ours build on: history, no news
      _bridge                            where a gap remains: the state after what is missing, by ids

Spec: server-server-api "Retrieving previous events", "Retrieving event authorisation information".
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hs.matrix.errors import LimitExceeded, MatrixError
from hs.matrix.event import Event
from hs.net.errors import RemoteError, RemoteRefused, Unreachable
from hs.net.room_client import RoomClient
from hs.rooms.arrivals import Arrival, DoubtfulState, MissingAuth, MissingHistory
from hs.rooms.backfill import Backfiller
from hs.rooms.checks import PduChecker
from hs.rooms.fetched_state import FetchedStates, list_followers
from hs.rooms.flights import Flights
from hs.rooms.pull_attempts import PullAttempts
from hs.rooms.writer import RoomWriter
from hs.storage.events import Flag
from hs.storage.room_heads import HeadStore
from hs.storage.rooms import RoomInfo

logger = logging.getLogger(__name__)

# The spec's default is 10, and servers give up to 20.
_MISSING_AT_ONCE = 20
# Our newest events, which tell the other server where our history ends.
_MAX_EARLIEST = 20
# One event may make us fetch so many states; events behind further gaps are dropped and may come again.
_MAX_STATES = 5
_TOO_MANY_REQUESTS = 429


@dataclass(frozen=True, slots=True)
class Filled:
    """What became of an event; with an error it is not in the room, or rejected there."""

    error: str | None = None
    # The server that was to help could not be asked, for now, or we were too busy.
    is_unreachable: bool = False


@dataclass(slots=True)
class _Filling:
    """A gap that is being filled with the help of one server."""

    server_name: str
    room: RoomInfo
    # Why events were dropped, by event id.
    errors: dict[str, str] = field(default_factory=dict)
    # Of those, the ones for which the server was out of reach.
    unreached: set[str] = field(default_factory=set)
    # Events that we have asked for in vain.
    failed_pulls: set[str] = field(default_factory=set)
    # Events that we were told of and do not try: nobody can verify them, or they failed a short while ago.
    passed_over: set[str] = field(default_factory=set)
    states_left: int = _MAX_STATES

    def drop(self, event: Event, what: str, error: Exception) -> None:
        """Note why an event could not be taken in."""
        self.errors[event.event_id] = f"{what}: {error}"
        if _is_passing(error):
            self.unreached.add(event.event_id)


class GapFiller:
    """Takes events of other servers into rooms, whatever is missing before them."""

    def __init__(
        self,
        writer: RoomWriter,
        heads: HeadStore,
        client: RoomClient,
        checker: PduChecker,
        states: FetchedStates,
        history: Backfiller,
        attempts: PullAttempts,
    ) -> None:
        self._writer = writer
        self._heads = heads
        self._client = client
        self._checker = checker
        self._states = states
        self._history = history
        self._attempts = attempts
        # By room, and an event that is missing there.
        self._fillings: Flights[tuple[int, str], bool] = Flights()

    async def place(self, room: RoomInfo, event: Event) -> str | None:
        """Why an event was dropped or rejected; what is soft-failed has been taken in, hidden.

        Raises MissingHistory and MissingAuth where something has to be fetched first, and LimitExceeded where the
        room is too busy for now. Asks nobody.
        """
        try:
            return await self._receive(room, Arrival(event))
        except LimitExceeded:
            raise
        except MatrixError as error:
            return f"it cannot be judged: {error}"

    async def fill(self, server_name: str, room: RoomInfo, event: Event) -> Filled:
        """Take an event in, with all that is missing before it, as far as the server gives it."""
        filling = _Filling(server_name, room)
        try:
            await self._place(filling, event)
        except MissingHistory as missing:
            await self._fill_behind(filling, event, missing.event_ids)
            # Whoever builds on what could not be taken in would make us try it again and again.
            await self._attempts.note_failed(room.room_nid, filling.failed_pulls)
        error = filling.errors.get(event.event_id)
        # What is before it may be had another time.
        return Filled(error, error is not None and bool(filling.unreached))

    async def _fill_behind(self, filling: _Filling, event: Event, missing: Sequence[str]) -> None:
        key = (filling.room.room_nid, missing[0])
        if await self._fillings.join(key):
            # Another server has helped with what comes before its own event, and that is the same.
            try:
                await self._place(filling, event)
            except MissingHistory as still_missing:
                key = (filling.room.room_nid, still_missing.event_ids[0])
            else:
                return
        is_told = await self._fillings.run(key, lambda: self._fetch_missing(filling, event))
        await self._place_sent(filling, event, is_told=is_told)

    async def _place_sent(self, filling: _Filling, event: Event, *, is_told: bool) -> None:
        """Put the event itself into the room.

        Who has told us what is before it, and left out its previous events, does not choose the state that it is
        judged by. Where nothing could be told, or where we pass over it, that state is all there is.
        """
        try:
            await self._place(filling, event)
        except MissingHistory as missing:
            if is_told and not filling.passed_over.issuperset(missing.event_ids):
                filling.errors[event.event_id] = "the events before it cannot be had"
            else:
                await self._bridge(filling, event, missing.event_ids)

    async def _fetch_missing(self, filling: _Filling, event: Event) -> bool:
        """Take in the events between what we have and this one; whether the server has told any."""
        head = await self._heads.load_head(filling.room.room_nid)
        newest = sorted(head.extremities, key=lambda e: e.depth, reverse=True)[:_MAX_EARLIEST]
        try:
            pdus = await self._client.get_missing_events(
                filling.server_name,
                filling.room.room_id,
                earliest=[extremity.event_id for extremity in newest],
                latest=[event.event_id],
                limit=_MISSING_AT_ONCE,
                min_depth=0,
            )
        except RemoteError as error:
            logger.info(
                "%s does not say what is missing in %s: %s", filling.server_name, filling.room.room_id, error
            )
            return False
        checked = await self._checker.check(pdus, filling.room.version, filling.room.room_id)
        filling.passed_over |= checked.dropped.keys()
        told = [e for e in checked.events if e.event_id != event.event_id]
        ready = await self._take_old(filling, told, head.begins_at_depth)
        ready.sort(key=lambda event: event.depth)
        for missing in ready:
            await self._pull(filling, missing, list_followers(missing, [*ready, event]))
            # Who does not have an event's past, or lies about it, says nothing of what its own server would give.
            is_its_own = missing.sender.endswith(":" + filling.server_name)
            if is_its_own and missing.event_id in filling.errors.keys() - filling.unreached:
                filling.failed_pulls.add(missing.event_id)
        return True

    async def _take_old(
        self, filling: _Filling, events: Sequence[Event], begins_at_depth: int
    ) -> list[Event]:
        """What is news of the events, without those that were tried in vain a short while ago.

        What something that we have builds on, or what is from before we came, is old history: it is taken in as such,
        and nobody is notified.
        """
        room = filling.room
        waiting = await self._attempts.list_waiting(room.room_nid, [event.event_id for event in events])
        filling.passed_over |= waiting
        ready = [event for event in events if event.event_id not in waiting]
        old = await self._history.list_old(room, ready, begins_at_depth)
        try:
            await self._history.take_old(room, filling.server_name, old)
        except RemoteError as error:
            logger.info("old events of %s cannot be judged: %s", room.room_id, error)
        old_ids = {event.event_id for event in old}
        return [event for event in ready if event.event_id not in old_ids]

    async def _pull(self, filling: _Filling, event: Event, followers: Sequence[Event]) -> None:
        """An event that we have asked for: what is missing before it is bridged by the state after that."""
        try:
            await self._place(filling, event)
        except MissingHistory as missing:
            await self._bridge(filling, event, missing.event_ids, followers)

    async def _bridge(
        self, filling: _Filling, event: Event, missing: Sequence[str], followers: Sequence[Event] = ()
    ) -> None:
        if filling.states_left == 0:
            filling.errors[event.event_id] = "too many events before it are missing"
            return
        filling.states_left -= 1
        try:
            state = await self._states.fetch_before(
                filling.server_name, filling.room, event, missing, followers
            )
            await self._place(filling, event, state)
        except DoubtfulState as error:
            filling.drop(event, "the state before it is told otherwise", error)
        except (RemoteError, MissingAuth) as error:
            filling.drop(event, "the state before it cannot be had", error)

    async def _place(
        self, filling: _Filling, event: Event, state: Mapping[tuple[str, str], int] | None = None
    ) -> None:
        """Put the event into the room; MissingHistory where we lack what is before it."""
        arrival = Arrival(event, state)
        try:
            try:
                error = await self._receive(filling.room, arrival)
            except MissingAuth:
                await self._states.fetch_auth(filling.server_name, filling.room, event)
                error = await self._receive(filling.room, arrival)
        except (MissingAuth, RemoteError, MatrixError) as lacking:
            filling.drop(event, "it cannot be judged", lacking)
            return
        if error is not None:
            filling.errors[event.event_id] = error

    async def _receive(self, room: RoomInfo, arrival: Arrival) -> str | None:
        [placed] = await self._writer.receive(room, [arrival])
        return f"rejected: {placed.rule}" if placed is not None and placed.flags & Flag.REJECTED else None


def _is_passing(error: Exception) -> bool:
    """Whether it may go well another time."""
    if isinstance(error, RemoteRefused):
        return error.status >= 500 or error.status == _TOO_MANY_REQUESTS
    return isinstance(error, Unreachable | LimitExceeded)
