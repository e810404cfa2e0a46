"""What relates to which events: kept in memory and true to the last commit.

Most events have nothing that relates to them. Of most rooms it is known which events have, so that pages and
syncs of the others ask the database for nothing; where they are too many, events of our own users at least are
noted as they are made.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cachetools import LRUCache

from hs._fast.event_record import EventRecord
from hs.matrix.relations import find_relation
from hs.rooms.drafts import Committed
from hs.storage.batching import Batcher
from hs.storage.relations import Parent, RelationStore, Summary
from hs.sync.access import END

# An event without relations takes about 200 bytes here: 40 MB at the most; those with some are few.
_ROOMS = 1_000
_EVENTS = 200
# Rooms with more relations than this are asked about event by event; 30 MB at the most.
_MOST_RELATIONS = 200
# Threads of a crowd are read anew each time.
_MOST_SENDERS = 1_000
# Events of one room make a question; so many questions make a query.
_MOST_QUESTIONS = 50

# Events of a room, up to where relations to them count, and whose do not.
_Question = tuple[tuple[Parent, ...], int, frozenset[str]]
_NOBODY: frozenset[str] = frozenset()


@dataclass(eq=False, slots=True)
class _Room:
    """What is known of a room's events, by event id; `changes` counts what makes a running load out of date.

    `parents` are all events that any other relates to, or did: None is not known, or too many of them.
    """

    known: dict[str, Summary | None] = field(default_factory=dict)
    changes: int = 0
    parents: set[str] | None = None
    has_many: bool = False

    def relate(self, event_id: str) -> None:
        """Take over that something relates to the event now."""
        self.known.pop(event_id, None)
        self.changes += 1
        if self.parents is not None:
            self.parents.add(event_id)
            if len(self.parents) > _MOST_RELATIONS:
                self.parents, self.has_many = None, True

    def note(self, event_id: str, summary: Summary | None) -> None:
        """Remember it; the oldest goes."""
        if len(self.known) >= _EVENTS:
            del self.known[next(iter(self.known))]
        self.known[event_id] = summary


class RelationSummaries:
    """Reads summaries, those of one turn of the event loop together."""

    def __init__(self, store: RelationStore) -> None:
        self._rooms: LRUCache[int, _Room] = LRUCache(_ROOMS)
        self._store = store
        self._answers: Batcher[_Question, dict[str, Summary]] = Batcher(self._load, _MOST_QUESTIONS)
        self._parents: Batcher[int, set[str]] = Batcher(self._load_parents, _MOST_QUESTIONS)

    async def get_many(self, records: Iterable[EventRecord]) -> dict[int, Summary]:
        """What relates to each of the events of a room, by number; events to which nothing does are left out."""
        found: dict[int, Summary] = {}
        missing: list[EventRecord] = []
        room = None
        for record in records:
            # Spec: state events do not get bundled aggregations.
            if record.state_key is not None:
                continue
            room = room or self._room(record.room_nid)
            event_id = record.event_id
            if event_id not in room.known:
                missing.append(record)
            elif (summary := room.known[event_id]) is not None:
                found[record.event_nid] = summary
        if room is None or not missing:
            return found
        await self._find_parents(missing[0].room_nid, room)
        if room.parents is not None:
            missing = [record for record in missing if record.event_id in room.parents]
            if not missing:
                return found
        changes = room.changes
        loaded = await self._ask(missing, END, _NOBODY)
        for record in missing:
            summary = loaded.get(record.event_id)
            if summary is not None:
                found[record.event_nid] = summary
            is_small = summary is None or len(summary.thread_senders) <= _MOST_SENDERS
            # A commit meanwhile may or may not be in what was read.
            if is_small and room.changes == changes:
                room.note(record.event_id, summary)
        return found

    async def get_many_for(
        self, records: Sequence[EventRecord], until: int, ignored: frozenset[str]
    ) -> dict[int, Summary]:
        """The same for who sees nothing that came after `until`, and nothing of the ignored."""
        loaded = await self._ask(records, until, ignored)
        return {record.event_nid: loaded[record.event_id] for record in records if record.event_id in loaded}

    def on_commit(self, committed: Committed) -> None:
        """Take over what relates to what."""
        room_nid = committed.room.room_nid
        if committed.is_uncertain or committed.redacted_nids:
            # What is redacted relates to nothing any more; to what it did is not known here.
            self._rooms.pop(room_nid, None)
            return
        room = self._room(room_nid)
        for record, judgement in zip(committed.records, committed.judgements.events, strict=True):
            if judgement.relation is not None:
                room.relate(judgement.relation.event_id)
            if record.txn_device_id is not None and record.state_key is None:
                # Made here just now: nobody can have referred to it before.
                room.note(record.event_id, None)

    def on_written(self, records: Sequence[EventRecord], redacted_nids: Sequence[int]) -> None:
        """Take over what old history says, which no commit announces."""
        if not records or records[0].stream_ordering > 0:
            return
        if redacted_nids:
            self._rooms.pop(records[0].room_nid, None)
            return
        room = self._room(records[0].room_nid)
        for record in records:
            relation = find_relation(record.content)
            if relation is not None:
                room.relate(relation.event_id)

    async def _find_parents(self, room_nid: int, room: _Room) -> None:
        """Learn which of the room's events have relations."""
        if room.parents is not None or room.has_many:
            return
        changes = room.changes
        loaded = await self._parents.get(room_nid) or set()
        if len(loaded) > _MOST_RELATIONS:
            room.has_many = True
        elif room.changes == changes:
            # Readers who came together share what was loaded.
            room.parents = set(loaded)

    async def _load_parents(self, room_nids: Sequence[int]) -> dict[int, set[str]]:
        return await self._store.list_parents(room_nids, _MOST_RELATIONS + 1)

    def _room(self, room_nid: int) -> _Room:
        room = self._rooms.get(room_nid)
        if room is None:
            room = self._rooms[room_nid] = _Room()
        return room

    async def _ask(
        self, records: Sequence[EventRecord], until: int, ignored: frozenset[str]
    ) -> dict[str, Summary]:
        parents = tuple(
            Parent(record.room_nid, record.event_id, record.type, record.sender) for record in records
        )
        return await self._answers.get((parents, until, ignored)) or {}

    async def _load(self, questions: Sequence[_Question]) -> dict[_Question, dict[str, Summary]]:
        answers: dict[_Question, dict[str, Summary]] = {question: {} for question in questions}
        for ignored in {question[2] for question in questions}:
            group = [question for question in questions if question[2] == ignored]
            asked = [(question, parent) for question in group for parent in question[0]]
            loaded = await self._store.list_summaries(
                [parent for _, parent in asked], [until for (_, until, _), _ in asked], ignored
            )
            for (question, parent), summary in zip(asked, loaded, strict=True):
                if summary is not None:
                    answers[question][parent.event_id] = summary
        return answers
