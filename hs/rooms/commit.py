"""The commit: a stage becomes rows in one transaction, then news for the floors above."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from hs._fast.event_record import EventRecord
from hs.matrix.errors import MatrixError
from hs.matrix.event import Event
from hs.matrix.tokens import RoomPosition
from hs.rooms.drafts import (
    Committed,
    Judgements,
    MembershipChange,
    OnWrite,
    SentEvent,
    StateChange,
)
from hs.rooms.head import RoomHeads
from hs.rooms.notifications import PushJudge
from hs.rooms.rows import RoomChanges, build_batch, pack_record
from hs.rooms.stage import Stage
from hs.rooms.state import RoomStates
from hs.storage.auth_records import AuthRecordStore
from hs.storage.database import Database, is_rolled_back
from hs.storage.events import HIDDEN, EventStore
from hs.storage.outside import OutsideRow, insert_outside
from hs.storage.room_writes import MemberRow, StateDelta, insert_batch
from hs.storage.rooms import RoomInfo
from hs.storage.streams import EventStreams, StreamRange

logger = logging.getLogger(__name__)

OnCommit = Callable[[Committed], None]

# One writer process: its number in vector clocks.
INSTANCE = 1

# Events of members that are read together.
_MEMBERS_AT_ONCE = 1000


class Committer:
    """Writes stages and announces what they added."""

    def __init__(
        self,
        database: Database,
        streams: EventStreams,
        states: RoomStates,
        heads: RoomHeads,
        events: EventStore,
        auth_records: AuthRecordStore,
        judge: PushJudge,
    ) -> None:
        self._database = database
        self._streams = streams
        self._states = states
        self._heads = heads
        self._events = events
        self._auth_records = auth_records
        self._judge = judge
        self._listeners: list[OnCommit] = []

    def on_commit(self, listener: OnCommit) -> None:
        """Tell `listener` of every commit, after COMMIT and in stream order; it must not raise or block."""
        self._listeners.append(listener)

    async def commit(
        self, stage: Stage, on_writes: Sequence[OnWrite], *, is_new: bool = False
    ) -> dict[int, SentEvent]:
        """Where each event of the stage ended up, by number; all of them are committed or none.

        Whoever calls holds the room's lane. Returns once readers can see the events.
        """
        room = stage.head.room
        if not stage.placed:
            # No place in the stream: one that no event takes would be given away again after a restart.
            async with self._database.write() as writer:
                for on_write in on_writes:
                    await on_write(writer, room)
            return {}
        roots = [root for placed in stage.placed for root in (placed.root, placed.room_root)]
        nodes = await self._states.pack(roots)
        published = asyncio.get_running_loop().create_future()
        with self._streams.live.reserve(len(stage.placed)) as ids:
            try:
                changes = await self._changes(stage, ids.first)
                batch = build_batch(stage, ids.first, nodes, changes, self._judge.is_local, is_new=is_new)
                is_one_statement = batch.is_plain and not on_writes
                write = self._database.write_once if is_one_statement else self._database.write
                async with write() as writer:
                    await insert_batch(writer, batch)
                    for on_write in on_writes:
                        await on_write(writer, room)
            except BaseException as error:
                # It has judged these events as if they were in the room.
                self._judge.forget(room.room_nid)
                self._states.forget_current(room.room_nid)
                if not isinstance(error, MatrixError) and not is_rolled_back(error):
                    lost = Committed(room, RoomPosition(INSTANCE, ids.last), 0, (), is_uncertain=True)
                    ids.on_failed(lambda: self._tell(lost))
                raise
            self._states.stored(room.room_nid, stage.head.root, roots, stage.new_keys)
            self._heads.set(stage.head)
            committed = self._remember(stage, ids, changes)
            ids.on_published(lambda: self._announce(committed, published))
        await published
        return {
            placed.event_nid: SentEvent(placed.event.event_id, placed.event_nid, stream_ordering)
            for stream_ordering, placed in enumerate(stage.placed, ids.first)
        }

    async def commit_history(self, stage: Stage) -> None:
        """Write old events, which are no news and change nothing about where the room stands.

        Whoever calls holds the room's lane.
        """
        room = stage.head.room
        roots = [placed.root for placed in stage.placed]
        nodes = await self._states.pack(roots)
        relations = await self._judge.find_threads(stage)
        # Downwards from 0, the newest first: the order of pages.
        lowest = self._streams.history.take(len(stage.placed))
        batch = build_batch(
            stage, lowest, nodes, RoomChanges((), (), (), Judgements(relations)), self._judge.is_local
        )
        try:
            async with self._database.write() as writer:
                await insert_batch(writer, batch)
        except BaseException as error:
            if not is_rolled_back(error):
                # Events may have come, and others been redacted: nobody is to rely on what was there before.
                self._heads.forget(room.room_nid)
                position = RoomPosition(INSTANCE, self._streams.live.current)
                self._tell(Committed(room, position, 0, (), is_uncertain=True))
            raise
        self._states.stored_history(room.room_nid, roots, stage.new_keys)
        self._heads.set(stage.head)
        self._keep(stage, lowest)

    async def commit_outside(
        self, room: RoomInfo, event: Event, event_nid: int, stripped: bytes | None
    ) -> SentEvent:
        """Write the membership of one of our users in a room that none of them is in, and announce it.

        `stripped` is what the user is told of the room. Whoever calls holds the room's lane.
        """
        membership, user_id = str(event.content.get("membership")), event.state_key or ""
        published = asyncio.get_running_loop().create_future()
        with self._streams.live.reserve(1) as ids:
            row = OutsideRow(room.room_nid, event_nid, ids.first, event, membership, stripped)
            position = RoomPosition(INSTANCE, ids.last)
            try:
                async with self._database.write() as writer:
                    await insert_outside(writer, row)
            except BaseException as error:
                if not is_rolled_back(error):
                    lost = Committed(room, position, 0, (), is_uncertain=True)
                    ids.on_failed(lambda: self._tell(lost))
                raise
            change = MembershipChange(user_id, membership, event_nid, ids.first, event.sender)
            committed = Committed(room, position, 0, (), (), (change,))
            ids.on_published(lambda: self._announce(committed, published))
        await published
        return SentEvent(event.event_id, event_nid, ids.first)

    def _tell(self, committed: Committed) -> None:
        for listener in self._listeners:
            try:
                listener(committed)
            except Exception:
                # The commit stands, and whoever waits for it or listens too must hear of it.
                logger.exception("a listener failed on a commit to room %s", committed.room.room_id)

    def _announce(self, committed: Committed, published: asyncio.Future[None]) -> None:
        self._tell(committed)
        if not published.done():
            published.set_result(None)

    def _remember(self, stage: Stage, ids: StreamRange, changes: RoomChanges) -> Committed:
        """What was committed, with the caches brought up to it."""
        records, redacted = self._keep(stage, ids.first)
        # What is rejected or soft-failed is nobody's news.
        shown = [i for i, placed in enumerate(stage.placed) if not placed.flags & HIDDEN]
        judged = changes.judgements
        return Committed(
            stage.head.room,
            RoomPosition(INSTANCE, ids.last),
            stage.head.root.id,
            tuple(records[i] for i in shown),
            tuple(StateChange(d.type, d.state_key, d.replaced_nid, d.event_nid) for d in changes.deltas),
            tuple(
                MembershipChange(m.user_id, m.membership, m.event_nid, m.stream_ordering, m.sender)
                for m in changes.members
            ),
            redacted,
            frozenset(placed.event_nid for placed in stage.placed if placed.is_relayed),
            frozenset(placed.event_nid for placed in stage.placed if placed.is_told),
            replace(judged, events=tuple(judged.events[i] for i in shown)),
        )

    def _keep(self, stage: Stage, first: int) -> tuple[tuple[EventRecord, ...], tuple[int, ...]]:
        """Put what was written into the caches; answers with it, and with the numbers of what was redacted."""
        redacted = tuple(placed.redacts_nid for placed in stage.placed if placed.redacts_nid)
        redacted += tuple(placed.event_nid for placed in stage.placed if placed.redacted_by_nid)
        records = tuple(
            EventRecord(pack_record(stage, placed, first + i)) for i, placed in enumerate(stage.placed)
        )
        self._events.remember(records, redacted)
        self._auth_records.put(placed.auth for placed in stage.placed if placed.event.is_state)
        return records, redacted

    async def _changes(self, stage: Stage, first: int) -> RoomChanges:
        """What the stage changes beside adding events."""
        deltas = await self._deltas(stage, first)
        members = await self._members(stage, deltas)
        last = {d.state_key: d.event_nid for d in deltas if d.type == "m.room.member"}
        gone_members = [user_id for user_id, nid in last.items() if not nid]
        judgements = await self._judge.judge(stage, first, members, gone_members)
        return RoomChanges(deltas, members, gone_members, judgements)

    async def _deltas(self, stage: Stage, first: int) -> list[StateDelta]:
        """Every change of the room's current state, event by event."""
        room_nid = stage.head.room.room_nid
        names = {ix: key for key, ix in (stage.stored_keys | stage.new_keys).items() if ix is not None}
        deltas: list[StateDelta] = []
        before = stage.committed.root
        for stream_ordering, placed in enumerate(stage.placed, first):
            if placed.room_root is before:
                continue
            changes = await self._states.diff(room_nid, before, placed.room_root)
            unnamed = [ix for ix, _, _ in changes if ix not in names]
            names |= await self._states.key_names(room_nid, unnamed) if unnamed else {}
            deltas += [
                StateDelta(*names[ix], ix, new, old, stream_ordering, placed.room_root.id)
                for ix, old, new in changes
            ]
            before = placed.room_root
        return deltas

    async def _members(self, stage: Stage, deltas: Sequence[StateDelta]) -> list[MemberRow]:
        changes = [delta for delta in deltas if delta.type == "m.room.member" and delta.event_nid]
        rows: list[MemberRow] = []
        # Joining a room of others changes all its members.
        for start in range(0, len(changes), _MEMBERS_AT_ONCE):
            rows += await self._member_rows(stage, changes[start : start + _MEMBERS_AT_ONCE])
        return rows

    async def _member_rows(self, stage: Stage, changes: Sequence[StateDelta]) -> list[MemberRow]:
        # A resolution may bring older member events back.
        older = [delta.event_nid for delta in changes if stage.find_staged(delta.event_nid) is None]
        records = await self._events.get_many(older) if older else {}
        rows = []
        for delta in changes:
            placed = stage.find_staged(delta.event_nid)
            source = records[delta.event_nid] if placed is None else placed.event
            content = source.content
            rows.append(
                MemberRow(
                    delta.state_key,
                    str(content.get("membership")),
                    delta.event_nid,
                    source.sender,
                    delta.stream_ordering,
                    _text(content.get("displayname")),
                    _text(content.get("avatar_url")),
                    self._judge.is_local(delta.state_key),
                )
            )
        return rows


def _text(value: object) -> str | None:
    """A profile field as a text column can hold it: PostgreSQL knows no NUL."""
    return value.replace("\x00", "\ufffd") if isinstance(value, str) else None
