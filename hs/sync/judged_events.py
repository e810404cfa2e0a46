"""The last events of busy rooms as they were judged, so that counts are brought up to date in memory."""

from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile

from hs.rooms.drafts import Committed

# An event takes about 200 bytes here, and its exceptions: a room at most 40 KB, all of them 200 MB at the
# very most.
_EVENTS = 200
_ROOMS = 5_000


@dataclass(eq=False, slots=True)
class JudgedEvent:
    """What an event is to those who count."""

    stream_ordering: int
    event_nid: int
    sender: str
    thread_nid: int
    thread_id: str
    push: int
    exceptions: Mapping[str, tuple[int, int]]
    is_reading: bool
    # Users to whom the room is quiet from this event on, or is not any more.
    quiet: Mapping[str, bool]
    # Users whose membership the event's commit has changed.
    moved: frozenset[str] = frozenset()
    # Whether the event's commit has taken events away that may have been counted.
    is_redaction: bool = False

    def level_for(self, user_id: str, is_quiet: bool) -> int:
        """0 nothing, 1 notify, 2 highlight."""
        exception = self.exceptions.get(user_id)
        if exception is not None:
            return exception[1]
        return 0 if is_quiet or self.sender == user_id else self.push


@dataclass(eq=False, slots=True)
class RoomLog:
    """The room's events after `complete_from`, in the order of arrival."""

    complete_from: int
    events: deque[JudgedEvent] = field(default_factory=deque)

    def list_after(self, stream_ordering: int) -> list[JudgedEvent]:
        """The events after this one; call it with nothing before `complete_from`."""
        return [*takewhile(lambda event: event.stream_ordering > stream_ordering, reversed(self.events))][
            ::-1
        ]


class JudgedEvents:
    """Listens to commits."""

    def __init__(self, start: int) -> None:
        # Rooms that have no log have had no events after this stream ordering.
        self._floor = start
        # By commit, oldest first.
        self._rooms: OrderedDict[int, RoomLog] = OrderedDict()

    def get(self, room_nid: int) -> RoomLog:
        """The room's log, perhaps empty; treat it as read-only."""
        log = self._rooms.get(room_nid)
        return RoomLog(self._floor) if log is None else log

    def on_commit(self, committed: Committed) -> None:
        """Take over new events."""
        room_nid, stream = committed.room.room_nid, committed.position.stream
        if committed.is_uncertain:
            self._rooms.pop(room_nid, None)
            self._floor = max(self._floor, stream)
            return
        log = self._rooms.get(room_nid)
        if log is None:
            while len(self._rooms) >= _ROOMS:
                _, dropped = self._rooms.popitem(last=False)
                self._floor = max(self._floor, dropped.complete_from, dropped.events[-1].stream_ordering)
            log = self._rooms[room_nid] = RoomLog(self._floor)
        self._rooms.move_to_end(room_nid)
        log.events.extend(_events_of(committed))
        if committed.redacted_nids:
            _take_back(log, frozenset(committed.redacted_nids))
        while len(log.events) > _EVENTS:
            log.complete_from = log.events.popleft().stream_ordering


def _events_of(committed: Committed) -> Iterator[JudgedEvent]:
    quiet = committed.judgements.quiet
    moved = frozenset(change.user_id for change in committed.membership_changes)
    for record, judgement in zip(committed.records, committed.judgements.events, strict=True):
        yield JudgedEvent(
            record.stream_ordering,
            record.event_nid,
            record.sender,
            judgement.thread_nid,
            judgement.thread_id,
            judgement.push,
            judgement.exceptions,
            judgement.is_reading,
            quiet,
            moved,
            bool(committed.redacted_nids),
        )


def _take_back(log: RoomLog, event_nids: frozenset[int]) -> None:
    for event in log.events:
        if event.event_nid in event_nids:
            event.push, event.exceptions = 0, {}
