"""One room of a sync: timeline, state and summary, as JSON.

Spec: client-server-api GET /sync, "Syncing", "Lazy-loading room members".
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from hs._fast.event_record import EventRecord
from hs._fast.state_tree import Node
from hs.matrix.filters import SyncFilter, limit_of
from hs.matrix.tokens import RoomToken, TopologicalToken
from hs.rooms.state import RoomStates
from hs.storage.events import EventStore
from hs.storage.members import MemberStore
from hs.storage.timeline import TimelineStore
from hs.sync.client_events import ClientEvents, Viewer
from hs.sync.lazy_members import LazyMembers
from hs.sync.news import RoomNews
from hs.sync.visibility import Visibility

_MEMBER = "m.room.member"
# With a filter that lets little through, so many events are looked at for each one wanted, at most.
_SCAN_FACTOR = 10


@dataclass(frozen=True, slots=True)
class Window:
    """What a sync shows of a room: events after `since` (None: whatever there is) and up to `upto`."""

    room_nid: int
    since: int | None
    upto: int
    # The user was not in the room at `since`: the client knows nothing of it.
    is_new: bool
    # The user has been in the room all the time since `since`, so sees everything.
    sees_all: bool
    full_state: bool = False
    state_after: bool = False

    @property
    def wants_whole_state(self) -> bool:
        """Whether the client needs all state, not only what changed."""
        return self.since is None or self.is_new or self.full_state


@dataclass(frozen=True, slots=True)
class _Timeline:
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
    ) -> None:
        self.events = events
        self.states = states
        self.timeline = timeline
        self.members = members
        self.news = news

    async def state_at(self, room_nid: int, stream: int) -> Node:
        """The room's current state as it was at this stream ordering."""
        state_id = self.news.find_state_id_at(room_nid, stream)
        if state_id is None:
            state_id = await self.timeline.find_state_id_at(room_nid, stream)
        return self.states.root(state_id)


class RoomSections:
    """Builds the sections."""

    def __init__(self, reads: RoomReads, client_events: ClientEvents, visibility: Visibility) -> None:
        self._reads = reads
        self._client_events = client_events
        self._visibility = visibility
        self._lazy = LazyMembers()

    async def build(self, window: Window, viewer: Viewer, wanted: SyncFilter) -> list[bytes] | None:
        """The members of the room's JSON object; None where there is nothing that the client lacks."""
        timeline = await self._timeline(window, viewer, wanted)
        state = await self._state(window, viewer, wanted, timeline)
        if not timeline.records and not state and not window.wants_whole_state and not timeline.limited:
            return None
        render = self._client_events.render
        shape = wanted.event_shape
        events = await render(timeline.records, viewer, timeline.memberships, shape=shape)
        parts = [
            b'"timeline":{"events":[%b],"limited":%b,"prev_batch":%b}'
            % (
                b",".join(events),
                b"true" if timeline.limited else b"false",
                msgspec.json.encode(timeline.prev_batch),
            )
        ]
        state_events = b",".join(await render(state, viewer, shape=shape))
        if window.state_after:
            # Spec v1.16: `state` is left out where the client has asked for the state after the timeline.
            parts.append(b'"state_after":{"events":[%b]}' % state_events)
        else:
            parts.append(b'"state":{"events":[%b]}' % state_events)
        summary = await self._summary(window, viewer, wanted, [*timeline.records, *state])
        if summary is not None:
            parts.append(b'"summary":' + summary)
        return parts

    # --- timeline

    async def _timeline(self, window: Window, viewer: Viewer, wanted: SyncFilter) -> _Timeline:
        limit = limit_of(wanted.definition.room.timeline)
        since = 0 if window.since is None or window.is_new else window.since
        recent = self._reads.news.list_since(window.room_nid, since) if since else None
        if recent is not None:
            candidates = [nid for stream, nid in recent if stream <= window.upto]
            found_all = True
        else:
            scan = limit + 1 if wanted.timeline.is_open else (limit + 1) * _SCAN_FACTOR
            places = await self._reads.timeline.list_newest(window.room_nid, since, window.upto, scan)
            candidates = [place.event_nid for place in reversed(places)]
            found_all = len(places) < scan
        if wanted.timeline.is_open:
            found_all = found_all and len(candidates) <= limit
            candidates = candidates[-limit:]
        found = await self._reads.events.get_many(candidates)
        records = [found[nid] for nid in candidates if nid in found]
        if not wanted.timeline.is_open:
            records = [record for record in records if wanted.timeline.matches(record)]
            found_all = found_all and len(records) <= limit
            records = records[-limit:]
        memberships = dict.fromkeys((record.event_nid for record in records), "join")
        if not window.sees_all:
            seen = await self._visibility.filter(viewer.user_id, records)
            records = [one.record for one in seen]
            memberships = {one.record.event_nid: one.membership for one in seen}
        return _Timeline(
            records,
            memberships,
            limited=not found_all or (window.is_new and window.since is not None),
            prev_batch=_before(records[0]) if records else str(RoomToken(since or window.upto)),
        )

    # --- state

    async def _state(
        self, window: Window, viewer: Viewer, wanted: SyncFilter, timeline: _Timeline
    ) -> list[EventRecord]:
        if wanted.state.is_closed:
            return []
        is_lazy = wanted.definition.room.state.lazy_load_members
        if window.wants_whole_state and is_lazy:
            self._lazy.forget(viewer.user_id, viewer.device_id, window.room_nid)
        target, nids = await self._state_nids(window, timeline, is_lazy)
        in_timeline = {record.event_nid for record in timeline.records}
        found = await self._reads.events.get_many(
            [nid for nid in nids if window.state_after or nid not in in_timeline]
        )
        records = [record for record in found.values() if wanted.state.matches(record)]
        if is_lazy:
            records = await self._only_needed_members(window, viewer, wanted, timeline, target, records)
        return records

    async def _state_nids(self, window: Window, timeline: _Timeline, is_lazy: bool) -> tuple[Node, list[int]]:
        """The state at the start of the timeline (or after it), and what of it the client lacks."""
        reads, room_nid = self._reads, window.room_nid
        if window.state_after or not timeline.records:
            target = await reads.state_at(room_nid, window.upto)
        else:
            target = await reads.states.before(timeline.records[0])
        if window.wants_whole_state:
            if is_lazy:
                return target, list((await reads.states.list_without_members(room_nid, target)).values())
            return target, await reads.states.list_nids(room_nid, target)
        assert window.since is not None
        known = await reads.state_at(room_nid, window.since)
        changes = await reads.states.diff(room_nid, known, target)
        return target, [new for _, _, new in changes if new]

    async def _only_needed_members(
        self,
        window: Window,
        viewer: Viewer,
        wanted: SyncFilter,
        timeline: _Timeline,
        target: Node,
        records: Iterable[EventRecord],
    ) -> list[EventRecord]:
        """The state with only those members that the timeline's senders and the user need."""
        room_nid, user_id, device_id = window.room_nid, viewer.user_id, viewer.device_id
        kept = [record for record in records if record.type != _MEMBER or record.state_key == user_id]
        needed = dict.fromkeys(record.sender for record in timeline.records)
        if window.wants_whole_state:
            needed[user_id] = None
        keys = [(_MEMBER, member) for member in needed]
        nids = (await self._reads.states.get_many(room_nid, target, keys)).values()
        in_timeline = {record.event_nid for record in timeline.records}
        have = {record.event_nid for record in kept} | in_timeline
        members = await self._reads.events.get_many([nid for nid in nids if nid not in have])
        is_redundant_wanted = wanted.definition.room.state.include_redundant_members
        for record in members.values():
            member = record.state_key or ""
            if is_redundant_wanted or not self._lazy.is_sent(
                user_id, device_id, room_nid, member, record.event_nid
            ):
                kept.append(record)
        for record in [*kept, *timeline.records]:
            if record.type == _MEMBER and record.state_key is not None:
                self._lazy.note(user_id, device_id, room_nid, record.state_key, record.event_nid)
        return kept

    # --- summary

    async def _summary(
        self, window: Window, viewer: Viewer, wanted: SyncFilter, shown: Sequence[EventRecord]
    ) -> bytes | None:
        """Counts and heroes, where memberships may have changed since the client was last told."""
        changed = window.wants_whole_state or any(record.type == _MEMBER for record in shown)
        if not changed:
            return None
        counts = await self._reads.members.count_members(window.room_nid, viewer.user_id)
        summary: dict[str, object] = {
            "m.joined_member_count": counts.joined,
            "m.invited_member_count": counts.invited,
            "m.heroes": counts.heroes,
        }
        return msgspec.json.encode(summary)


def _before(record: EventRecord) -> str:
    """The token from which paging back goes on right before the event."""
    return str(TopologicalToken(record.depth, record.stream_ordering - 1))
