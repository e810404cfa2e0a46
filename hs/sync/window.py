"""What a sync is to show of a room, and the stores and caches it is read from."""

from dataclasses import dataclass

from hs._fast.event_record import EventRecord
from hs._fast.state_tree import Node
from hs.rooms.state import RoomStates
from hs.storage.events import EventStore
from hs.storage.members import MemberStore
from hs.storage.rooms import RoomInfo
from hs.storage.timeline import TimelineStore
from hs.sync.news import RoomNews
from hs.sync.wanted_events import WantedEvents


@dataclass(frozen=True, slots=True)
class Window:
    """What a sync shows of a room: events after `since` (None: whatever there is) and up to `upto`."""

    room: RoomInfo
    since: int | None
    upto: int
    # The user was not in the room at `since`: the client knows nothing of it.
    is_new: bool = False
    # The user has been in the room all the time since `since`, so sees everything.
    sees_all: bool = False
    # Since when nothing about the user's being in the room has changed; None where they are not in it.
    joined_at: int | None = None
    full_state: bool = False
    state_after: bool = False
    # The member of the room's section that has the state after it.
    state_after_name: bytes = b"state_after"
    # The user has not been in the room at any time of the window: its state is none of their business.
    hides_state: bool = False

    @property
    def room_nid(self) -> int:
        """The room's number."""
        return self.room.room_nid

    @property
    def wants_whole_state(self) -> bool:
        """Whether the client needs all state, not only what changed."""
        return self.since is None or self.is_new or self.full_state


@dataclass(frozen=True, slots=True)
class Timeline:
    """The events of a window that the user sees, in order of arrival; `memberships` are theirs at each."""

    records: list[EventRecord]
    memberships: dict[int, str]
    limited: bool
    prev_batch: str


class RoomReads:
    """The stores and caches that a section reads from."""

    def __init__(
        self,
        events: EventStore,
        states: RoomStates,
        timeline: TimelineStore,
        members: MemberStore,
        news: RoomNews,
        wanted: WantedEvents,
    ) -> None:
        self.events = events
        self.states = states
        self.timeline = timeline
        self.members = members
        self.news = news
        self.wanted = wanted

    async def state_at(self, room_nid: int, stream: int) -> Node:
        """The room's current state as it was at this stream ordering."""
        state_id = self.news.find_state_id_at(room_nid, stream)
        if state_id is None:
            state_id = await self.timeline.find_state_id_at(room_nid, stream)
        return self.states.root(state_id)
