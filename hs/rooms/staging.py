"""Events that lack something wait in the database while it is fetched, and nothing else waits for them.

    deliver(origin, room, events)        what can be placed at once, is; the rest
      _keep                              is written down, as far as there is room for it
      _wait                              and waited for a while: after that, the other server is told that we have it
      _attempt                           in turns: the gap is filled by whoever sent the event, or by others in the room

A row is deleted once its event is committed, or given up. Taking an event in a second time changes nothing, so a
crash in between is harmless.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from hs.matrix.errors import LimitExceeded
from hs.matrix.event import Event
from hs.rooms.arrivals import MissingAuth, MissingHistory
from hs.rooms.clock import Clock
from hs.rooms.gap_turns import GapTurns
from hs.rooms.gaps import Filled, GapFiller
from hs.rooms.other_servers import OtherServers
from hs.rooms.participation import Participation
from hs.storage.rooms import RoomInfo, RoomStore
from hs.storage.staged_events import StagedEventStore

logger = logging.getLogger(__name__)

# Rows; an event is 64 KiB at most. What is more, its own transaction waits for.
_MAX_KEPT: Final = 5_000
_MAX_KEPT_OF_ROOM: Final = 200
_MAX_KEPT_OF_SERVER: Final = 1_000
# Events that their transactions wait for, which are in memory.
_MAX_HELD: Final = 500
# Servers in the room that are asked where the one that sent an event is out of reach.
_MAX_OTHERS: Final = 2
# One try, whatever the servers make of it.
_ATTEMPT_S: Final = 900.0
# Tries, and the pause after the first; each is twice as long as the one before: four hours in all.
_MAX_ATTEMPTS: Final = 8
_PAUSE_MS: Final = 60_000


@dataclass(eq=False, slots=True)
class _Staged:
    """An event that waits."""

    room: RoomInfo
    event_id: str
    origin: str
    # Where it is not in the database.
    event: Event | None = None
    failed_attempts: int = 0
    # What the other server is told of it: None, or why it should come again. Done after the first try.
    answer: asyncio.Future[str | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    pause: asyncio.TimerHandle | None = None

    @property
    def key(self) -> tuple[int, str]:
        """What it is found by."""
        return self.room.room_nid, self.event_id

    def tell(self, error: str | None) -> None:
        """Let those go on who wait for it."""
        if not self.answer.done():
            self.answer.set_result(error)

    def tell_end(self) -> None:
        """Let them go on: nothing happens any more before the next start."""
        self.tell(None if self.event is None else "the server is shutting down")


class _Places:
    """Counts the rows."""

    def __init__(self) -> None:
        self._all = 0
        self._of_room: Counter[int] = Counter()
        self._of_server: Counter[str] = Counter()

    def take(self, room_nid: int, origin: str) -> bool:
        """One place, if there is one."""
        has_place = (
            self._all < _MAX_KEPT
            and self._of_room[room_nid] < _MAX_KEPT_OF_ROOM
            and self._of_server[origin] < _MAX_KEPT_OF_SERVER
        )
        if has_place:
            self.add(room_nid, origin)
        return has_place

    def add(self, room_nid: int, origin: str) -> None:
        """A row that is there already, whether there is a place for it or not."""
        self._count(room_nid, origin, 1)

    def give_back(self, room_nid: int, origin: str) -> None:
        """A place that was taken."""
        self._count(room_nid, origin, -1)

    def _count(self, room_nid: int, origin: str, change: int) -> None:
        self._all += change
        self._of_room[room_nid] += change
        self._of_server[origin] += change
        if self._of_room[room_nid] <= 0:
            del self._of_room[room_nid]
        if self._of_server[origin] <= 0:
            del self._of_server[origin]


class EventStaging:
    """Takes in events of other servers; `resume` once after a start, `close` before the end."""

    def __init__(
        self,
        gaps: GapFiller,
        store: StagedEventStore,
        rooms: RoomStore,
        participation: Participation,
        others: OtherServers,
        clock: Clock,
        patience_s: float,
    ) -> None:
        self._gaps = gaps
        self._store = store
        self._rooms = rooms
        self._participation = participation
        self._others = others
        self._clock = clock
        self._patience_s = patience_s
        self._staged: dict[tuple[int, str], _Staged] = {}
        self._places = _Places()
        self._held = 0
        self._turns = GapTurns()
        self._is_closed = False

    def __len__(self) -> int:
        """How many events wait."""
        return len(self._staged)

    async def deliver(self, origin: str, room: RoomInfo, events: Sequence[Event]) -> dict[str, str]:
        """Why events could not be dealt with, by event id: they may be taken if they come again.

        All others are done with. They are in the room, or in the database until they are; or the rules refuse
        them, or what is before them is not given: to that, too, no other server has anything to do.
        """
        errors: dict[str, str] = {}
        lacking: list[Event] = []

        async def place(event: Event) -> None:
            try:
                error = await self._gaps.place(room, event)
            except (MissingHistory, MissingAuth, LimitExceeded):
                lacking.append(event)
                return
            if error is not None:
                logger.info("%s of %s is not taken in: %s", event.event_id, origin, error)

        # Each for itself: one that lacks something does not hold up the others. The lane keeps their order.
        by_depth = sorted(events, key=lambda event: event.depth)
        await asyncio.gather(*(place(event) for event in by_depth))
        if lacking:
            lacking.sort(key=lambda event: event.depth)
            errors |= await self._wait(await self._stage(origin, room, lacking, errors))
        return errors

    async def resume(self) -> None:
        """Go on with what waited when the server ended."""
        rows = await self._store.list_rows()
        rooms = await self._rooms.list_by_nids(list({row.room_nid for row in rows}))
        for row in rows:
            # Nobody waits for its answer any more, and how many there are was decided when they came.
            self._places.add(row.room_nid, row.origin)
            staged = _Staged(
                rooms[row.room_nid], row.event_id, row.origin, failed_attempts=row.failed_attempts
            )
            self._staged[staged.key] = staged
            self._begin_in(staged, row.retry_ts - self._clock.now_ms())

    async def close(self) -> None:
        """Stop asking. Whoever waits is told what is true: the event is kept, or it is not; so is who comes later."""
        self._is_closed = True
        for staged in self._staged.values():
            if staged.pause is not None:
                staged.pause.cancel()
            staged.tell_end()
        await self._turns.close()

    # --- what a transaction waits for -----------------------------------------------------------------

    async def _stage(
        self, origin: str, room: RoomInfo, events: Sequence[Event], errors: dict[str, str]
    ) -> list[_Staged]:
        """The events as they wait now; what there is no room for is among the errors."""
        kept: list[Event] = []
        found: list[_Staged] = []
        for event in events:
            known = self._staged.get((room.room_nid, event.event_id))
            if known is not None:
                found.append(self._go_on(known, origin))
            elif self._places.take(room.room_nid, origin):
                kept.append(event)
            elif self._held < _MAX_HELD:
                self._held += 1
                found.append(self._begin(_Staged(room, event.event_id, origin, event)))
            else:
                errors[event.event_id] = "too many events wait for what is before them"
        return [*found, *await self._keep(origin, room, kept)]

    async def _keep(self, origin: str, room: RoomInfo, events: Sequence[Event]) -> list[_Staged]:
        """Write the events down, then begin with them: who is told that we have one can rely on it."""
        if not events:
            return []
        try:
            await self._store.insert_events(room.room_nid, origin, events, self._clock.now_ms())
        except BaseException:
            for _ in events:
                self._places.give_back(room.room_nid, origin)
            raise
        found = []
        for event in events:
            known = self._staged.get((room.room_nid, event.event_id))
            if known is not None:
                # It has come twice at the same time.
                self._places.give_back(room.room_nid, origin)
                found.append(known)
            else:
                found.append(self._begin(_Staged(room, event.event_id, origin)))
        return found

    def _go_on(self, staged: _Staged, origin: str) -> _Staged:
        """Where its server speaks of it again, a pause is over; others cannot use up its tries."""
        if staged.pause is not None and staged.origin == origin:
            self._begin(staged)
        return staged

    async def _wait(self, waiting: Sequence[_Staged]) -> dict[str, str]:
        """What is known of the events after a while."""
        held = [staged.answer for staged in waiting if staged.event is not None]
        kept = [staged.answer for staged in waiting if staged.event is None]
        if kept:
            await asyncio.wait(kept, timeout=self._patience_s)
        if held:
            await asyncio.wait(held)
        answers = {staged.event_id: staged.answer.result() for staged in waiting if staged.answer.done()}
        return {event_id: error for event_id, error in answers.items() if error is not None}

    # --- in turns ---------------------------------------------------------------------------------------

    def _begin_in(self, staged: _Staged, pause_ms: int) -> None:
        if pause_ms <= 0:
            self._begin(staged)
        else:
            loop = asyncio.get_running_loop()
            staged.pause = loop.call_later(pause_ms / 1000, self._begin, staged)

    def _begin(self, staged: _Staged) -> _Staged:
        if staged.pause is not None:
            staged.pause.cancel()
            staged.pause = None
        self._staged[staged.key] = staged
        if self._is_closed:
            staged.tell_end()
            return staged
        self._turns.submit(staged.room.room_nid, staged.origin, lambda: self._attempt(staged))
        return staged

    async def _attempt(self, staged: _Staged) -> None:
        filled = Filled("it took too long", is_unreachable=True)
        try:
            async with asyncio.timeout(_ATTEMPT_S):
                filled = await self._fill(staged)
        except TimeoutError:
            logger.info("what is before %s takes too long to fetch", staged.event_id)
        except Exception:
            # A worker: what it stumbles over must not keep the event waiting for ever.
            logger.exception("an event of %s cannot be taken in", staged.room.room_id)
            filled = Filled("an internal error", is_unreachable=True)
        if filled.is_unreachable and staged.event is None and staged.failed_attempts < _MAX_ATTEMPTS:
            await self._put_off(staged)
        else:
            await self._finish(staged, filled)

    async def _fill(self, staged: _Staged) -> Filled:
        room = staged.room
        if not await self._participation.is_in(room.room_nid):
            return Filled()
        event = staged.event or await self._store.find_event(room, staged.event_id)
        if event is None:
            return Filled()  # somebody else was done with it
        filled = await self._gaps.fill(staged.origin, room, event)
        if not filled.is_unreachable:
            return filled
        # What others do not know is no reason to give an event up.
        others = [name for name in await self._others.list(room, _MAX_OTHERS + 1) if name != staged.origin]
        for server_name in others[:_MAX_OTHERS]:
            by_other = await self._gaps.fill(server_name, room, event)
            if by_other.error is None:
                return by_other
        return filled

    async def _put_off(self, staged: _Staged) -> None:
        pause_ms = _PAUSE_MS << staged.failed_attempts
        staged.failed_attempts += 1
        self._begin_in(staged, pause_ms)
        staged.tell(None)
        retry_ts = self._clock.now_ms() + pause_ms
        await self._store.set_failed(*staged.key, staged.failed_attempts, retry_ts)

    async def _finish(self, staged: _Staged, filled: Filled) -> None:
        try:
            if staged.event is None:
                await self._store.delete_event(*staged.key)
        finally:
            del self._staged[staged.key]
            if staged.event is None:
                self._places.give_back(staged.room.room_nid, staged.origin)
            else:
                self._held -= 1
            staged.tell(filled.error if filled.is_unreachable else None)
            if filled.error is not None:
                logger.info("%s of %s is given up: %s", staged.event_id, staged.origin, filled.error)
