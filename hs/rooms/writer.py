"""The writer: queues what is wanted of each room and commits it, batch by batch, in the room's lane."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import asyncpg

from hs.matrix.errors import Forbidden, InvalidRoomState, LimitExceeded, MatrixError
from hs.matrix.event import Event
from hs.matrix.room_versions import RoomVersion
from hs.rooms.arrivals import Arrival, ArrivalPlacer, MissingAuth, MissingHistory
from hs.rooms.build import EventBuilder
from hs.rooms.commit import Committer
from hs.rooms.drafts import Draft, OnWrite, SentEvent, check_draft
from hs.rooms.head import RoomHeads, new_head
from hs.rooms.lane import Lanes
from hs.rooms.requests import Requests, is_repeated, list_keys
from hs.rooms.stage import PlacedEvent, Stage
from hs.storage.arrivals import Known
from hs.storage.database import is_rolled_back
from hs.storage.room_heads import HeadStore, TransactionKey
from hs.storage.rooms import RoomInfo

logger = logging.getLogger(__name__)

# After so many batches old transaction ids are deleted: more of them at once than so many batches bring.
_BATCHES_PER_CLEANING = 200
# One transaction holds at most so many jobs: it keeps the wait of the first in a batch short.
MAX_BATCH = 100
# What the database may say at any time, about whatever was asked of it.
_DATABASE_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError)
# A room whose queue is this long refuses further work: at 1,000 commits/s this is ten seconds.
MAX_QUEUE = 10_000


# Called in the lane with the events just placed; may refuse by raising, which takes them back.
OnPlaced = Callable[[Stage, Sequence[PlacedEvent | None]], Awaitable[None]]


_Outcome: TypeAlias = SentEvent | PlacedEvent | None


@dataclass(eq=False, slots=True)
class _Job:
    """Drafts or arrivals that go in together, and what to do with the outcome."""

    drafts: Sequence[Draft] = ()
    arrivals: Sequence[Arrival] = ()
    answer: asyncio.Future[Any] = field(kw_only=True)
    on_placed: OnPlaced | None = None
    on_write: OnWrite | None = None
    # Of those drafts that a client may repeat.
    keys: Sequence[TransactionKey] = ()


@dataclass(eq=False, slots=True)
class _Queue:
    jobs: deque[_Job] = field(default_factory=deque)
    worker: asyncio.Task[None] | None = None


class RoomWriter:
    """Takes drafts of local users, and events that were made elsewhere, into rooms."""

    def __init__(
        self,
        lanes: Lanes,
        heads: RoomHeads,
        store: HeadStore,
        builder: EventBuilder,
        placer: ArrivalPlacer,
        committer: Committer,
    ) -> None:
        self._lanes = lanes
        self._heads = heads
        self._store = store
        self._requests = Requests(store)
        self._builder = builder
        self._placer = placer
        self._committer = committer
        self._queues: dict[int, _Queue] = {}
        # Those that no queue has: new rooms and old history.
        self._commits: set[asyncio.Task[Any]] = set()
        self._batches = 0

    async def send(self, room: RoomInfo, draft: Draft, on_write: OnWrite | None = None) -> SentEvent:
        """Where the draft ended up, once it is committed and visible to readers.

        Raises Forbidden where the auth rules refuse it, and what is wrong with the event's size or shape.
        A caller that is cancelled before its turn sends nothing; after it, the event is sent all the same.
        """
        return (await self.send_all(room, [draft], on_write))[0]

    async def send_all(
        self, room: RoomInfo, drafts: Sequence[Draft], on_write: OnWrite | None = None
    ) -> list[SentEvent]:
        """The drafts one after the other, in one commit: all of them or none."""
        for draft in drafts:
            check_draft(draft)
        answer: asyncio.Future[list[SentEvent]] = asyncio.get_running_loop().create_future()
        self._submit(room, _Job(drafts, answer=answer, on_write=on_write, keys=list_keys(drafts)))
        return await answer

    async def draw_up(self, room: RoomInfo, draft: Draft) -> Event:
        """The event that the draft would be now, signed by us; the room stays as it is.

        Raises Forbidden where the auth rules refuse it, and what is wrong with the event's size or shape.
        """
        check_draft(draft)
        async with self._lanes.turn(room.room_nid):
            stage = Stage(await self._heads.get(room), {})
            await self._builder.prepare(stage, [draft])
            placed = await self._builder.add(stage, replace(draft, deduplicate=False, transaction=None))
        assert isinstance(placed, PlacedEvent)  # nothing is found to be there already
        return placed.event

    async def receive(
        self,
        room: RoomInfo,
        arrivals: Sequence[Arrival],
        on_placed: OnPlaced | None = None,
    ) -> list[PlacedEvent | None]:
        """What became of events that were made elsewhere, once that is committed; None for those that we had.

        All of them go in or none: MissingHistory and MissingAuth say what has to be fetched first.
        """
        answer: asyncio.Future[list[PlacedEvent | None]] = asyncio.get_running_loop().create_future()
        job = _Job(arrivals=arrivals, answer=answer, on_placed=on_placed)
        self._submit(room, job)
        return await answer

    def _submit(self, room: RoomInfo, job: _Job) -> None:
        queue = self._queues.setdefault(room.room_nid, _Queue())
        if len(queue.jobs) >= MAX_QUEUE:
            raise LimitExceeded("the room is too busy", retry_after_ms=10_000)
        queue.jobs.append(job)
        if queue.worker is None:
            # The worker is a task of its own, so that no client's departure interrupts a commit.
            queue.worker = asyncio.create_task(self._work(room, queue), name=f"room {room.room_nid}")

    async def create_room(
        self, version: RoomVersion, room_id: str | None, drafts: Sequence[Draft], on_write: OnWrite | None
    ) -> RoomInfo:
        """A new room whose first events are `drafts`, the m.room.create first.

        `room_id` is None where the version derives it from the create event. Raises InvalidRoomState
        where the auth rules refuse one of the drafts.
        """
        room, create = await self._builder.build_create(version, room_id, drafts[0])
        stage = Stage(new_head(room), {})
        for draft in drafts:
            check_draft(draft)
        try:
            await self._builder.place_create(stage, create)
            for draft in drafts[1:]:
                await self._builder.add(stage, draft)
        except Forbidden as refused:
            raise InvalidRoomState(f"the room's initial state is not allowed: {refused}") from refused
        commit = asyncio.create_task(self._commit_new(room, stage, on_write), name=f"create {room.room_id}")
        self._commits.add(commit)
        commit.add_done_callback(self._commits.discard)
        await asyncio.shield(commit)
        return room

    async def receive_history(self, room: RoomInfo, arrivals: Sequence[Arrival]) -> list[PlacedEvent | None]:
        """Old events get their places behind what we have of the room; as `receive` otherwise.

        Who is cancelled stops nothing: the lane must be held until the commit is through.
        """
        work = asyncio.create_task(self._place_history(room, arrivals), name=f"history of {room.room_id}")
        self._commits.add(work)
        work.add_done_callback(self._commits.discard)
        return await asyncio.shield(work)

    async def close(self) -> None:
        """Wait until all queued work is done; nothing should be submitted any more."""
        while tasks := [q.worker for q in self._queues.values() if q.worker is not None] + [*self._commits]:
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _place_history(self, room: RoomInfo, arrivals: Sequence[Arrival]) -> list[PlacedEvent | None]:
        async with self._lanes.turn(room.room_nid):
            stage = Stage(await self._heads.get(room), {})
            arrived = await self._placer.prepare(stage, arrivals)
            placed = [await self._placer.add(stage, arrival, arrived) for arrival in arrivals]
            if stage.placed:
                await self._committer.commit_history(stage)
        return placed

    async def _commit_new(self, room: RoomInfo, stage: Stage, on_write: OnWrite | None) -> None:
        async with self._lanes.turn(room.room_nid):
            await self._committer.commit(stage, [] if on_write is None else [on_write], is_new=True)

    async def _work(self, room: RoomInfo, queue: _Queue) -> None:
        """Commit the queue's jobs until none is left."""
        jobs: list[_Job] = []
        try:
            while queue.jobs:
                async with self._lanes.turn(room.room_nid):
                    # Taken only now: what queued up while others held the lane goes together.
                    jobs = [queue.jobs.popleft() for _ in range(min(len(queue.jobs), MAX_BATCH))]
                    await self._run(room, [job for job in jobs if not job.answer.done()])
                await self._clean_up()
        finally:
            queue.worker = None
            self._queues.pop(room.room_nid, None)
            # Some wait still only where the loop itself is being ended: nobody will take them over.
            for job in (*jobs, *queue.jobs):
                job.answer.cancel()

    async def _clean_up(self) -> None:
        self._batches += 1
        if self._batches % _BATCHES_PER_CLEANING == 0:
            try:
                await self._store.delete_transactions()
            except _DATABASE_ERRORS:
                logger.exception("old transaction ids cannot be deleted")

    async def _run(self, room: RoomInfo, jobs: Sequence[_Job], looks_up: bool = False) -> None:
        """Commit the jobs; `looks_up` asks the database first which of them were carried out before."""
        try:
            await self._run_batch(room, jobs, looks_up)
        except Exception as error:  # worker loop: whatever went wrong must reach the waiting callers
            self._heads.forget(room.room_nid)
            if is_repeated(error) and not looks_up:
                await self._run(room, jobs, looks_up=True)
                return
            if len(jobs) > 1 and _is_definite(error):
                # One job may have spoilt the commit for the others: each gets a try of its own.
                for job in jobs:
                    if not job.answer.done():
                        await self._run(room, [job], looks_up)
                return
            if not isinstance(error, MatrixError):
                logger.exception("a commit to room %s failed", room.room_id)
            for job in jobs:
                _fail(job, error)

    async def _run_batch(self, room: RoomInfo, jobs: Sequence[_Job], looks_up: bool) -> None:
        keys = [key for job in jobs for key in job.keys]
        known = await self._requests.find(room, keys) if looks_up else self._requests.recall(room, keys)
        stage = Stage(await self._heads.get(room), known)
        await self._builder.prepare(stage, (draft for job in jobs for draft in job.drafts))
        arrivals = [arrival for job in jobs for arrival in job.arrivals]
        arrived = await self._placer.prepare(stage, arrivals) if arrivals else Known()
        built: list[tuple[_Job, list[_Outcome]]] = []
        refused: list[tuple[_Job, Exception]] = []
        for job in jobs:
            mark = stage.mark()
            try:
                built.append((job, await self._build(stage, job, arrived)))
            except Exception as error:  # worker loop: a job that cannot be built fails alone
                if isinstance(error, _DATABASE_ERRORS):
                    raise
                if not isinstance(error, MatrixError | MissingHistory | MissingAuth):
                    logger.exception("an event for room %s cannot be built", room.room_id)
                stage.take_back(mark)
                refused.append((job, error))
        on_writes = [job.on_write for job, _ in built if job.on_write is not None]
        sent: dict[int, SentEvent] = {}
        if stage.placed or on_writes:
            sent = await self._committer.commit(stage, on_writes)
        for job, outcomes in built:
            if job.arrivals:
                _answer(job, outcomes)
                continue
            answer = [sent[o.event_nid] if isinstance(o, PlacedEvent) else o for o in outcomes if o]
            self._requests.remember(room, job.keys, answer)
            _answer(job, answer)
        # Only now: what they were judged by is in the room for certain.
        for job, reason in refused:
            await self._refuse(room, job, reason)

    async def _build(self, stage: Stage, job: _Job, arrived: Known) -> list[_Outcome]:
        """The job's events on the stage, in their order."""
        outcomes: list[_Outcome] = [await self._builder.add(stage, draft) for draft in job.drafts]
        placed = [await self._placer.add(stage, arrival, arrived) for arrival in job.arrivals]
        if job.on_placed is not None:
            await job.on_placed(stage, placed)
        return [*outcomes, *placed]

    async def _refuse(self, room: RoomInfo, job: _Job, reason: Exception) -> None:
        """Fail the job, unless it repeats a request that was carried out when it was still allowed."""
        if job.keys and len(job.keys) == len(job.drafts):
            found = await self._requests.find(room, job.keys)
            if len(found) == len(job.keys):
                _answer(job, [found[key] for key in job.keys])
        _fail(job, reason)


def _is_definite(error: Exception) -> bool:
    """Whether nothing was committed, for certain."""
    return isinstance(error, MatrixError) or is_rolled_back(error)


def _answer(job: _Job, outcomes: Sequence[_Outcome]) -> None:
    if not job.answer.done():
        job.answer.set_result(outcomes)


def _fail(job: _Job, error: Exception) -> None:
    if not job.answer.done():
        job.answer.set_exception(error)
