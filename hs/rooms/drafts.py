"""What goes into a room's lane and what comes out of it."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hs._fast.event_record import EventRecord
from hs.matrix.errors import InvalidParam
from hs.matrix.relations import Relation
from hs.matrix.tokens import RoomPosition
from hs.storage.database import Writer
from hs.storage.rooms import RoomInfo

# PostgreSQL's text holds neither.
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")

# A last act of a commit, in its transaction: room directory entries and the like. It may refuse by
# raising, which takes the whole commit back.
OnWrite = Callable[[Writer, RoomInfo], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Transaction:
    """A client's promise to name a request the same way when it repeats it (client-server-api "Transaction identifiers").

    `key` tells endpoints apart that a client may use the same `txn_id` for.
    """

    device_id: str
    endpoint: str
    txn_id: str

    @property
    def key(self) -> str:
        """What is unique per device and room."""
        return f"{self.endpoint}/{self.txn_id}"


@dataclass(frozen=True, slots=True)
class Draft:
    """An event that a local user wants in the room, before it has a place there."""

    type: str
    sender: str
    content: dict[str, Any]
    state_key: str | None = None
    redacts: str | None = None
    transaction: Transaction | None = None
    # A state event that would change nothing is answered with the event that is there already.
    deduplicate: bool = True
    # News of a member rather than a way in: refused where the sender is not in the room any more.
    needs_membership: bool = False


def check_draft(draft: Draft) -> None:
    """InvalidParam for text that the database cannot store: it is refused, not mangled."""
    texts = {"type": draft.type, "state_key": draft.state_key, "redacts": draft.redacts}
    if draft.transaction is not None:
        texts["the transaction id"] = draft.transaction.txn_id
    for name, text in texts.items():
        if text is not None and _NO_TEXT.search(text):
            raise InvalidParam(f"{name} must not hold NUL characters or lone surrogates")


@dataclass(frozen=True, slots=True)
class SentEvent:
    """Where a draft ended up."""

    event_id: str
    event_nid: int
    stream_ordering: int


@dataclass(frozen=True, slots=True)
class StateChange:
    """One entry of the current state that became another; a nid of 0 means none."""

    type: str
    state_key: str
    old_nid: int
    new_nid: int


@dataclass(frozen=True, slots=True)
class MembershipChange:
    """A user whose current membership in the room is new."""

    user_id: str
    membership: str
    event_nid: int
    stream_ordering: int
    sender: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """Where an event belongs, and whom it notifies: 0 nothing, 1 notify, 2 highlight."""

    relation: Relation | None = None
    # The root of the thread that it is in; 0 and "" are the main timeline.
    thread_nid: int = 0
    thread_id: str = ""
    # For all of our users in the room who have no exception; those to whom the room is quiet get 0.
    push: int = 0
    # user_id: (what it would be but for the exception, what it is)
    exceptions: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    # Whether the sender has read what came before it.
    is_reading: bool = False


@dataclass(frozen=True, slots=True)
class Judgements:
    """What a commit's events are to our users."""

    # One for each event.
    events: tuple[Judgement, ...] = ()
    # Users to whom the room is quiet from the first event on, or is not any more.
    quiet: Mapping[str, bool] = field(default_factory=dict)


NO_JUDGEMENTS = Judgements()


@dataclass(frozen=True, slots=True)
class Committed:
    """What one commit added to a room; announced after COMMIT, in stream order."""

    room: RoomInfo
    position: RoomPosition
    # Root of the room's current state after the commit.
    state_id: int
    records: tuple[EventRecord, ...]
    state_changes: tuple[StateChange, ...] = ()
    membership_changes: tuple[MembershipChange, ...] = ()
    redacted_nids: tuple[int, ...] = ()
    # Events of other servers' users that are ours to pass on.
    relayed_nids: frozenset[int] = frozenset()
    # Events of our users that another server passes on.
    told_nids: frozenset[int] = frozenset()
    # Of the records, in their order.
    judgements: Judgements = NO_JUDGEMENTS
    # The commit failed, perhaps after the database had carried it out: nothing remembered of the room, or
    # of who is in it, may be relied on.
    is_uncertain: bool = False
