"""What a change of an account means for the rooms that its user is in.

A user may be in hundreds of rooms, and each has to commit an event. So the telling is a task of its own, a few
rooms at a time; the client waits for the first rooms only. A later change takes the place of one that is still
being told: rooms get what is true when their turn comes. What a stop of the server interrupts goes on after the
next start, because the database remembers it until all rooms have heard.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hs.accounts.profiles import NAMES
from hs.matrix.errors import LimitExceeded, MatrixError
from hs.rooms.membership import ProfileSource, RoomMemberships
from hs.storage.events import EventStore
from hs.storage.members import MemberStore
from hs.storage.profiles import ProfileStore, UntoldChange
from hs.storage.rooms import RoomInfo, RoomStore

logger = logging.getLogger(__name__)

# So many rooms have heard before the client gets its answer: all rooms of nearly everybody.
AWAITED_ROOMS = 30
# Of one user, and of all: each commit holds a connection to the database, and others need some, too.
ROOMS_AT_ONCE = 4
_ROOMS_OF_ALL_AT_ONCE = 6
# After rooms could not be told, because the database was away.
RETRY_AFTER_S = 60.0
# Users taken up again after a start, in one query.
_PAGE = 500


@dataclass(eq=False)
class _Run:
    """The telling of one user's rooms; `wake` is set when there is something new to tell."""

    wake: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: list[asyncio.Future[None]] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    def release(self, waiting: list[asyncio.Future[None]]) -> None:
        """Let these go on."""
        for future in waiting:
            if not future.done():
                future.set_result(None)


class AccountRooms:
    """Carries changes of accounts into their rooms."""

    def __init__(
        self,
        changes: ProfileStore,
        profiles: ProfileSource,
        members: MemberStore,
        rooms: RoomStore,
        events: EventStore,
        memberships: RoomMemberships,
    ) -> None:
        self._changes = changes
        self._profiles = profiles
        self._members = members
        self._rooms = rooms
        self._events = events
        self._memberships = memberships
        self._runs: dict[str, _Run] = {}
        self._turns = asyncio.Semaphore(_ROOMS_OF_ALL_AT_ONCE)

    async def tell_rooms(self, user_id: str) -> None:
        """Tell all of the user's rooms of the change that was stored last; return when the first have heard.

        A new profile goes into the rooms the user is in; a user whose account is closed leaves all rooms,
        invites and knocks included.
        """
        run = self._start(user_id)
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        run.waiting.append(told)
        await told

    async def resume(self) -> None:
        """Go on with what the last stop of the server has interrupted."""
        last = ""
        while users := await self._changes.list_untold_users(last, _PAGE):
            for user_id in users:
                self._start(user_id)
            last = users[-1]

    async def close(self) -> None:
        """Stop after the rooms that are being told now."""
        tasks = [run.task for run in self._runs.values() if run.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for run in self._runs.values():
            # Tasks that had not begun yet.
            run.release(run.waiting)

    def _start(self, user_id: str) -> _Run:
        run = self._runs.get(user_id)
        if run is None:
            run = self._runs[user_id] = _Run()
            run.task = asyncio.create_task(self._run(user_id, run), name=f"rooms of {user_id}")
        run.wake.set()
        return run

    async def _run(self, user_id: str, run: _Run) -> None:
        try:
            while run.wake.is_set():
                run.wake.clear()
                waiting, run.waiting = run.waiting, []
                try:
                    is_done = await self._tell(user_id, run, waiting)
                finally:
                    run.release(waiting)
                if not is_done:
                    await self._wait_to_retry(run)
        finally:
            del self._runs[user_id]
            run.release(run.waiting)

    async def _wait_to_retry(self, run: _Run) -> None:
        try:
            async with asyncio.timeout(RETRY_AFTER_S):
                await run.wake.wait()
        except TimeoutError:
            run.wake.set()

    async def _tell(self, user_id: str, run: _Run, waiting: list[asyncio.Future[None]]) -> bool:
        """Whether nothing of it is to be tried again."""
        try:
            change = await self._changes.find_untold_change(user_id)
            if change is None:
                return True
            have_all_heard = await self._tell_rooms(change, run, waiting)
            # Where a later change has cut this one short, that one deletes the row.
            if have_all_heard and not run.wake.is_set():
                await self._changes.delete_untold_change(change)
            return have_all_heard
        except Exception:
            logger.exception("the rooms of %s could not be told of a change", user_id)
            return False

    async def _tell_rooms(self, change: UntoldChange, run: _Run, waiting: list[asyncio.Future[None]]) -> bool:
        """Whether all rooms have heard, or refused to."""
        rooms = await self._list_rooms(change)
        todo = iter(rooms)
        awaited = min(len(rooms), AWAITED_ROOMS)
        have_all_heard = True

        async def work() -> None:
            nonlocal awaited, have_all_heard
            for room in todo:
                if run.wake.is_set():
                    return
                async with self._turns:
                    has_heard = await self._tell_room(change, room)
                have_all_heard = have_all_heard and has_heard
                awaited -= 1
                if awaited <= 0:
                    run.release(waiting)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(len(rooms), ROOMS_AT_ONCE)):
                group.create_task(work())
        return have_all_heard

    async def _tell_room(self, change: UntoldChange, room: RoomInfo) -> bool:
        """False where the room is too busy to hear it now."""
        try:
            if change.kind == "departure":
                await self._memberships.leave(room, change.user_id)
            else:
                await self._memberships.set_profile_fields(room, change.user_id)
        except LimitExceeded:
            return False
        except MatrixError as refused:
            # A room may forbid it; the account itself and the other rooms have changed.
            logger.info("room %s refused a change of %s: %s", room.room_id, change.user_id, refused)
        return True

    async def _list_rooms(self, change: UntoldChange) -> list[RoomInfo]:
        """The rooms that have not heard yet; those the user came to last, and so may be looking at, first."""
        is_departure = change.kind == "departure"
        kinds = ("join", "invite", "knock") if is_departure else ("join",)
        rows = [row for row in await self._members.list_rooms_of(change.user_id) if row.membership in kinds]
        if not is_departure:
            names = await self._profiles.member_fields(change.user_id)
            records = await self._events.get_many([row.event_nid for row in rows])
            # After a stop, some have heard already.
            rows = [row for row in rows if _names_of(records[row.event_nid].content) != names]
        rows.sort(key=lambda row: row.stream_ordering, reverse=True)
        rooms = await self._rooms.list_by_nids([row.room_nid for row in rows])
        return [rooms[row.room_nid] for row in rows]


def _names_of(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: content[name] for name in NAMES if name in content}
