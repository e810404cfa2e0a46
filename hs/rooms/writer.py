"""The writer: queues what is wanted of each room and commits it, batch by batch, in the room's lane."""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import asyncpg

from hs.matrix.errors import Forbidden, InvalidRoomState, LimitExceeded, MatrixError
from hs.matrix.room_versions import RoomVersion
from hs.rooms.build import EventBuilder
from hs.rooms.commit import Committer
from hs.rooms.drafts import Draft, OnWrite, SentEvent
from hs.rooms.head import RoomHeads, new_head
from hs.rooms.lane import Lanes
from hs.rooms.stage import PlacedEvent, Stage
from hs.storage.room_heads import HeadStore, TransactionKey
from hs.storage.rooms import RoomInfo

logger = logging.getLogger(__name__)

# One transaction holds at most so many jobs: it keeps the wait of the first in a batch short.
MAX_BATCH = 100
# After these nothing was committed, for certain. A lost connection, say, leaves it open whether a COMMIT
# was carried out, and trying again could send an event twice.
_DEFINITE_FAILURES = (MatrixError, asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)
# A room whose queue is this long refuses further work: at 1,000 commits/s this is ten seconds.
MAX_QUEUE = 10_000


@dataclass(eq=False, slots=True)
class _Job:
    drafts: Sequence[Draft]
    answer: asyncio.Future[list[SentEvent]]
    on_write: OnWrite | None = None


@dataclass(eq=False, slots=True)
class _Queue:
    jobs: deque[_Job] = field(default_factory=deque)
    worker: asyncio.Task[None] | None = None


class RoomWriter:
    """Takes drafts of local users into rooms."""

    def __init__(
        self, lanes: Lanes, heads: RoomHeads, store: HeadStore, builder: EventBuilder, committer: Committer
    ) -> None:
        self._lanes = lanes
        self._heads = heads
        self._store = store
        self._builder = builder
        self._committer = committer
        self._queues: dict[int, _Queue] = {}

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
        queue = self._queues.setdefault(room.room_nid, _Queue())
        if len(queue.jobs) >= MAX_QUEUE:
            raise LimitExceeded("the room is too busy", retry_after_ms=10_000)
        job = _Job(drafts, asyncio.get_running_loop().create_future(), on_write)
        queue.jobs.append(job)
        if queue.worker is None:
            # The worker is a task of its own, so that no client's departure interrupts a commit.
            queue.worker = asyncio.create_task(self._work(room, queue), name=f"room {room.room_nid}")
        return await job.answer

    async def create_room(
        self, version: RoomVersion, room_id: str | None, drafts: Sequence[Draft], on_write: OnWrite | None
    ) -> str:
        """The id of a new room whose first events are `drafts`, the m.room.create first.

        `room_id` is None where the version derives it from the create event. Raises InvalidRoomState
        where the auth rules refuse one of the drafts.
        """
        room, create = await self._builder.build_create(version, room_id, drafts[0])
        stage = Stage(new_head(room), {})
        try:
            await self._builder.place_create(stage, create)
            for draft in drafts[1:]:
                await self._builder.add(stage, draft)
        except Forbidden as refused:
            raise InvalidRoomState(f"the room's initial state is not allowed: {refused}") from refused
        await asyncio.shield(asyncio.create_task(self._commit_new(room, stage, on_write)))
        return room.room_id

    async def close(self) -> None:
        """Wait until all queued work is done; nothing may be submitted any more."""
        workers = [queue.worker for queue in self._queues.values() if queue.worker is not None]
        await asyncio.gather(*workers, return_exceptions=True)

    async def _commit_new(self, room: RoomInfo, stage: Stage, on_write: OnWrite | None) -> None:
        async with self._lanes.turn(room.room_nid):
            await self._committer.commit(stage, [] if on_write is None else [on_write], is_new=True)

    async def _work(self, room: RoomInfo, queue: _Queue) -> None:
        """Commit the queue's jobs until none is left."""
        try:
            while queue.jobs:
                async with self._lanes.turn(room.room_nid):
                    # Taken only now: what queued up while others held the lane goes together.
                    jobs = [queue.jobs.popleft() for _ in range(min(len(queue.jobs), MAX_BATCH))]
                    await self._run(room, [job for job in jobs if not job.answer.done()])
        finally:
            queue.worker = None
            if not queue.jobs:
                self._queues.pop(room.room_nid, None)

    async def _run(self, room: RoomInfo, jobs: Sequence[_Job]) -> None:
        try:
            await self._run_batch(room, jobs)
        except Exception as error:  # worker loop: whatever went wrong must reach the waiting callers
            self._heads.forget(room.room_nid)
            if len(jobs) > 1 and isinstance(error, _DEFINITE_FAILURES):
                # One job may have spoilt the commit for the others: each gets a try of its own.
                for job in jobs:
                    await self._run(room, [job])
                return
            if not isinstance(error, MatrixError):
                logger.exception("a commit to room %s failed", room.room_id)
            for job in jobs:
                _fail(job, error)

    async def _run_batch(self, room: RoomInfo, jobs: Sequence[_Job]) -> None:
        stage = Stage(await self._heads.get(room), await self._find_done(room, jobs))
        built: list[tuple[_Job, list[SentEvent | PlacedEvent]]] = []
        for job in jobs:
            mark = stage.mark()
            try:
                built.append((job, [await self._builder.add(stage, draft) for draft in job.drafts]))
            except MatrixError as refused:
                stage.take_back(mark)
                _fail(job, refused)
        on_writes = [job.on_write for job, _ in built if job.on_write is not None]
        sent: dict[int, SentEvent] = {}
        if stage.placed or on_writes:
            sent = await self._committer.commit(stage, on_writes)
        for job, outcomes in built:
            answer = [sent[o.event_nid] if isinstance(o, PlacedEvent) else o for o in outcomes]
            if not job.answer.done():
                job.answer.set_result(answer)

    async def _find_done(self, room: RoomInfo, jobs: Sequence[_Job]) -> dict[TransactionKey, SentEvent]:
        keys = [
            TransactionKey(draft.sender, draft.transaction.device_id, draft.transaction.key)
            for job in jobs
            for draft in job.drafts
            if draft.transaction is not None
        ]
        if not keys:
            return {}
        found = await self._store.find_transactions(room.room_nid, keys)
        return {key: SentEvent(*outcome) for key, outcome in found.items()}


def _fail(job: _Job, error: Exception) -> None:
    if not job.answer.done():
        job.answer.set_exception(error)
