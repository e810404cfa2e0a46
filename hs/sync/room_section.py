"""One room of a sync as JSON: timeline, state and summary.

Spec: client-server-api GET /sync, "Syncing".
"""

from collections.abc import Mapping, Sequence

import msgspec

from hs._fast.event_record import EventRecord
from hs.matrix.filters import SyncFilter
from hs.matrix.tokens import RoomToken
from hs.storage.events import Flag
from hs.sync.access import END
from hs.sync.aggregations import Aggregations
from hs.sync.client_events import ClientEvents, Viewer
from hs.sync.room_state import RoomStateSections
from hs.sync.room_timeline import RoomTimelines
from hs.sync.summary import RoomSummaries, Summary
from hs.sync.visibility import Visibility
from hs.sync.window import RoomReads, Timeline, Window

_NAMING = frozenset({"m.room.member", "m.room.name", "m.room.canonical_alias"})


class RoomSections:
    """Builds the sections."""

    def __init__(
        self,
        reads: RoomReads,
        aggregations: Aggregations,
        client_events: ClientEvents,
        visibility: Visibility,
    ) -> None:
        self._aggregations = aggregations
        self._visibility = visibility
        self._client_events = client_events
        self._timelines = RoomTimelines(reads, visibility)
        self._states = RoomStateSections(reads)
        self._summaries = RoomSummaries(reads.members, reads.states, reads.events, reads.news)
        self._reads = reads

    async def build(
        self, window: Window, viewer: Viewer, wanted: SyncFilter, *, with_summary: bool = True
    ) -> list[bytes] | None:
        """The members of the room's JSON object; None where there is nothing that the client lacks."""
        timeline = await self._timelines.read(window, viewer, wanted)
        summary = await self._summary(window, viewer, timeline) if with_summary else None
        heroes = (summary.heroes or ()) if summary is not None else ()
        state = await self._states.read(window, viewer, wanted, timeline, heroes)
        if not timeline.records and not state and not window.wants_whole_state and not timeline.limited:
            return None
        parts = await self._render_parts(window, viewer, wanted, timeline, state)
        if summary is not None:
            parts.append(b'"summary":' + msgspec.json.encode(summary.to_dict()))
        return parts

    async def departure(
        self, window: Window, event_nid: int, viewer: Viewer, wanted: SyncFilter
    ) -> list[bytes]:
        """The same for a room of which we have nothing but what ended an invite or a knock: that event."""
        found = await self._reads.events.get_many([event_nid])
        outside = [record for record in found.values() if record.flags & Flag.OUTLIER]
        if not outside or wanted.timeline.is_closed:
            return []
        records = list(await self._reads.wanted.keep(viewer.user_id, outside, wanted.timeline))
        memberships = {record.event_nid: "leave" for record in records}
        timeline = Timeline(records, memberships, limited=False, prev_batch=str(RoomToken(window.upto)))
        return await self._render_parts(window, viewer, wanted, timeline, [])

    async def _render_parts(
        self,
        window: Window,
        viewer: Viewer,
        wanted: SyncFilter,
        timeline: Timeline,
        state: Sequence[EventRecord],
    ) -> list[bytes]:
        return [
            b'"timeline":{"events":[%b],"limited":%b,"prev_batch":%b}'
            % (
                b",".join(await self._render_timeline(window, viewer, wanted, timeline)),
                b"true" if timeline.limited else b"false",
                msgspec.json.encode(timeline.prev_batch),
            ),
            # Since v1.16: `state` is left out where the client has asked for the state after the timeline.
            b'"%b":{"events":[%b]}'
            % (
                window.state_after_name if window.state_after else b"state",
                b",".join(await self._render(window, viewer, wanted, state)),
            ),
        ]

    async def _render_timeline(
        self, window: Window, viewer: Viewer, wanted: SyncFilter, timeline: Timeline
    ) -> list[bytes]:
        records, shape = timeline.records, wanted.event_shape
        relations: Mapping[int, bytes] = {}
        if shape[0] == "federation":
            return await self._client_events.render_pdus(records, window.room.version, viewer, shape)
        if timeline.limited:
            # Spec: only then; else what relates to these events comes by itself.
            until = window.upto if window.joined_at is None else END
            relations = await self._aggregations.bundle(records, viewer, until, with_room_id=False)
        return await self._client_events.render(
            records,
            viewer,
            timeline.memberships,
            joined_at=window.joined_at,
            shape=shape,
            relations=relations,
        )

    async def _render(
        self, window: Window, viewer: Viewer, wanted: SyncFilter, records: Sequence[EventRecord]
    ) -> list[bytes]:
        if not records:
            return []
        shape = wanted.event_shape
        if shape[0] == "federation":
            return await self._client_events.render_pdus(records, window.room.version, viewer, shape)
        # What was there before the client's last sync, and all of it for who knows nothing of the room yet,
        # the client does not see happen; nor is it worth a look at the moments of all these events.
        since = END if window.since is None or window.wants_whole_state else window.since
        news = [record for record in records if record.stream_ordering > since]
        old = [record for record in records if record.stream_ordering <= since]
        rendered = await self._client_events.render(old, viewer, shape=shape, with_previous=False)
        if not news:
            return rendered
        memberships = await self._visibility.memberships(viewer.user_id, news, window.joined_at)
        return rendered + await self._client_events.render(
            news, viewer, memberships, joined_at=window.joined_at, shape=shape
        )

    async def _summary(self, window: Window, viewer: Viewer, timeline: Timeline) -> Summary | None:
        """Counts and heroes, where they may have changed since the client was last told."""
        if not window.wants_whole_state and not await self._renames(window, timeline):
            return None
        return await self._summaries.get(window.room_nid, viewer.user_id)

    async def _renames(self, window: Window, timeline: Timeline) -> bool:
        """Whether members, name or alias of the room may have changed in the window."""
        assert window.since is not None
        changed = self._reads.news.list_state_changes(window.room_nid, window.since, window.upto)
        if changed is None:
            return True
        records = await self._reads.events.get_many([nid for nid in changed if nid])
        # An entry that went away has no event to look at.
        return len(records) < len(changed) or any(r.type in _NAMING for r in records.values())
