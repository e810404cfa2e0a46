"""The state of a room in a sync: what of it the client cannot know from the timeline.

Spec: client-server-api GET /sync, State and `use_state_after`; "Lazy-loading room members". States are
compared as trees, so a gap costs what changed in it.
"""

from collections.abc import Iterable, Sequence

from hs._fast.event_record import EventRecord
from hs._fast.state_tree import Node
from hs.matrix.filters import SyncFilter
from hs.sync.client_events import Viewer
from hs.sync.lazy_members import LazyMembers
from hs.sync.window import RoomReads, Timeline, Window

_MEMBER = "m.room.member"
_CHUNK = 1000


class RoomStateSections:
    """Finds the state events of sections."""

    def __init__(self, reads: RoomReads) -> None:
        self._reads = reads
        self._lazy = LazyMembers()

    async def root(self, window: Window, timeline: Timeline) -> Node:
        """The state that a section is about: the one before its timeline, or after it where asked for."""
        return await self._reads.state_at(window.room_nid, _target(window, timeline))

    async def read(
        self, window: Window, viewer: Viewer, wanted: SyncFilter, timeline: Timeline, heroes: Sequence[str]
    ) -> list[EventRecord]:
        """The state events that the client needs beside the timeline."""
        if wanted.state.is_closed:
            return []
        if window.hides_state:
            # Clients that take state from here alone must learn what the timeline shows: that they were banned.
            shown = {(r.type, r.state_key): r for r in timeline.records if r.is_state}
            return [r for r in shown.values() if window.state_after and wanted.state.matches(r)]
        is_lazy = wanted.definition.room.state.lazy_load_members
        if window.wants_whole_state:
            without_members = is_lazy or not wanted.state.accepts_type(_MEMBER)
            records = await self._whole(window, timeline, without_members)
            if is_lazy and window.is_new:
                records += await self._members_changed_while_away(window, viewer, timeline)
        else:
            records = await self._changes(window, timeline)
        if is_lazy:
            # Members that changed in a gap are sent even so: nothing else would tell of them.
            records += await self._lazy_members(window, viewer, wanted, timeline, heroes, records)
        return [record for record in records if wanted.state.matches(record)]

    # --- changes

    async def _changes(self, window: Window, timeline: Timeline) -> list[EventRecord]:
        """What changed since the client's last sync and is not told by the timeline."""
        assert window.since is not None
        reads, room_nid = self._reads, window.room_nid
        in_timeline = {record.event_nid for record in timeline.records}
        changed = reads.news.list_state_changes(room_nid, window.since, window.upto)
        if changed is not None and (
            not changed or (not window.state_after and in_timeline.issuperset(changed))
        ):
            return []
        before = await reads.state_at(room_nid, window.since)
        start = await self.root(window, timeline)
        nids = [new for _, _, new in await reads.states.diff(room_nid, before, start) if new]
        records = await self._get(nids)
        return records if window.state_after else await self._with_later(window, timeline, start, records)

    async def _whole(self, window: Window, timeline: Timeline, without_members: bool) -> list[EventRecord]:
        """All state; members are left out where they are not wanted or come one by one."""
        reads, room_nid = self._reads, window.room_nid
        root = await self.root(window, timeline)
        if without_members:
            nids = list((await reads.states.list_without_members(room_nid, root)).values())
            records = [record for record in await self._get(nids) if record.type != _MEMBER]
        else:
            records = await self._get(await reads.states.list_nids(room_nid, root))
        if window.state_after:
            return records
        records = await self._with_later(window, timeline, root, records)
        return [r for r in records if r.type != _MEMBER] if without_members else records

    async def _with_later(
        self, window: Window, timeline: Timeline, start: Node, records: list[EventRecord]
    ) -> list[EventRecord]:
        """`records` with what entered the state during the timeline but is not told by it.

        A filter hides state events, and a resolution brings back others: the client learns of them here.
        """
        reads, room_nid = self._reads, window.room_nid
        in_timeline = {record.event_nid for record in timeline.records}
        changed = reads.news.list_state_changes(room_nid, _target(window, timeline), window.upto)
        if changed is not None and in_timeline.issuperset(changed):
            return records
        end = await reads.state_at(room_nid, window.upto)
        nids = [new for _, _, new in await reads.states.diff(room_nid, start, end) if new]
        told = {(r.type, r.state_key) for r in timeline.records if r.is_state}
        later = {
            (r.type, r.state_key): r
            for r in await self._get([nid for nid in nids if nid not in in_timeline])
            if (r.type, r.state_key) not in told
        }
        if not later:
            return records
        return [r for r in records if (r.type, r.state_key) not in later] + list(later.values())

    async def _get(self, nids: Sequence[int]) -> list[EventRecord]:
        found: list[EventRecord] = []
        # In parts: the state of a large room must not keep others from their turn.
        for first in range(0, len(nids), _CHUNK):
            found += (await self._reads.events.get_many(nids[first : first + _CHUNK])).values()
        return found

    # --- lazy members

    async def _lazy_members(
        self,
        window: Window,
        viewer: Viewer,
        wanted: SyncFilter,
        timeline: Timeline,
        heroes: Sequence[str],
        records: Sequence[EventRecord],
    ) -> list[EventRecord]:
        """Members that the client needs to show the timeline and to name the room, and does not have."""
        room_nid, since = window.room_nid, window.since or 0
        needed = dict.fromkeys([*(record.sender for record in timeline.records), *heroes])
        if window.wants_whole_state:
            self._lazy.forget(viewer, room_nid)
            needed[viewer.user_id] = None
        known = {record.state_key for record in records if record.type == _MEMBER}
        keys = [(_MEMBER, member) for member in needed if member not in known]
        nids = await self._reads.states.get_many(
            room_nid, await self._root_of_members(window, timeline), keys
        )
        sends_again = wanted.definition.room.state.include_redundant_members
        # Clients that asked for the state after the timeline take none from the timeline.
        learned = () if window.state_after else timeline.records
        in_timeline = {record.event_nid for record in learned}
        missing = [
            nid
            for (_, member), nid in nids.items()
            if nid not in in_timeline
            and (sends_again or not self._lazy.is_told(viewer, room_nid, member, nid, since))
        ]
        members = await self._get(missing)
        self._tell(window, viewer, [*records, *members, *learned])
        return members

    async def _members_changed_while_away(
        self, window: Window, viewer: Viewer, timeline: Timeline
    ) -> list[EventRecord]:
        """Members that changed since the last sync, for a client that saw no departure of its user.

        It was in the room then and is now, so it keeps the members that it knows.
        """
        assert window.since is not None
        reads, room_nid = self._reads, window.room_nid
        before = await reads.state_at(room_nid, window.since)
        own = await reads.states.get(room_nid, before, _MEMBER, viewer.user_id)
        if not own or (await reads.events.get(own)).content.get("membership") != "join":
            return []
        after = await self.root(window, timeline)
        nids = [new for _, _, new in await reads.states.diff(room_nid, before, after) if new]
        return [record for record in await self._get(nids) if record.type == _MEMBER]

    async def _root_of_members(self, window: Window, timeline: Timeline) -> Node:
        if timeline.records and not window.wants_whole_state and not window.state_after:
            # In memory, unlike the state before; where it differs, the event in the timeline is the member's.
            return self._reads.states.after(timeline.records[0])
        return await self.root(window, timeline)

    def _tell(self, window: Window, viewer: Viewer, records: Iterable[EventRecord]) -> None:
        for record in records:
            if record.type == _MEMBER and record.state_key is not None:
                self._lazy.tell(viewer, window.room_nid, record.state_key, record.event_nid, window.upto)


def _target(window: Window, timeline: Timeline) -> int:
    if window.state_after or not timeline.records:
        return window.upto
    return timeline.records[0].stream_ordering - 1
