"""The timeline of a room in a sync: its newest events that the filter lets through and the user may see.

Spec: client-server-api GET /sync, Timeline: `limited` where there are more, `prev_batch` to page to them. A timeline
has no gap in it: it begins after the newest one, and what is missing is fetched for who pages back.
"""

from collections.abc import AsyncIterator, Sequence

from hs._fast.event_record import EventRecord
from hs.matrix.filters import SyncFilter, limit_of
from hs.matrix.tokens import RoomToken, TopologicalToken
from hs.storage.events import Flag
from hs.sync.client_events import Viewer
from hs.sync.visibility import Seen, Visibility
from hs.sync.window import RoomReads, Timeline, Window

# Below every stream ordering: backfilled history counts downwards from 0.
_BEGINNING = -(2**63)
# Events looked at for one timeline at most, however few of them are wanted or visible; then it is
# limited, and the client may page on.
_SCAN_LIMIT = 2_000
_MAX_CHUNK = 500


class RoomTimelines:
    """Reads timelines."""

    def __init__(self, reads: RoomReads, visibility: Visibility) -> None:
        self._reads = reads
        self._visibility = visibility

    async def read(self, window: Window, viewer: Viewer, wanted: SyncFilter) -> Timeline:
        """The window's last events."""
        if wanted.timeline.is_closed:
            return Timeline([], {}, limited=False, prev_batch=str(RoomToken(window.upto)))
        limit = limit_of(wanted.definition.room.timeline)
        found: list[Seen] = []  # newest first, one more than wanted where there are more
        looked_at: list[EventRecord] = []
        scanned = 0
        is_at_gap = False
        keeps_all = window.sees_all and await self._reads.wanted.keeps_all(viewer.user_id, wanted.timeline)
        async for chunk in self._chunks(window, limit, keeps_all):
            records, is_at_gap = _cut_at_gap(chunk)
            kept = await self._reads.wanted.keep(viewer.user_id, records, wanted.timeline)
            found += await self._see(kept, window, viewer)
            looked_at += kept
            scanned += len(records)
            if len(found) > limit or scanned >= _SCAN_LIMIT or is_at_gap:
                break
        fitting = len(found) if window.sees_all else _count_fitting(looked_at, found)
        has_more = len(found) > min(limit, fitting) or scanned >= _SCAN_LIMIT or is_at_gap
        shown = found[: min(limit, fitting)][::-1]
        return Timeline(
            [seen.record for seen in shown],
            {seen.record.event_nid: seen.membership for seen in shown},
            # Who has come back may have events of an earlier stay, and what is between is not shown.
            limited=has_more or (window.is_new and window.since is not None),
            prev_batch=await self._before(shown[0].record) if shown else str(RoomToken(window.upto)),
        )

    async def _see(self, records: Sequence[EventRecord], window: Window, viewer: Viewer) -> list[Seen]:
        if window.sees_all:
            return [Seen(record, "join") for record in records]
        return await self._visibility.filter(viewer.user_id, records, window.joined_at)

    async def _chunks(
        self, window: Window, limit: int, takes_all: bool
    ) -> AsyncIterator[Sequence[EventRecord]]:
        """The window's events in parts, newest first in all."""
        reads, room_nid = self._reads, window.room_nid
        since = _BEGINNING if window.since is None or window.is_new else window.since
        recent = reads.news.list_since(room_nid, since) if since > 0 else None
        if recent is not None:
            newest_first = [nid for stream, nid in reversed(recent) if stream <= window.upto]
            yield await self._get(newest_first[: limit + 1] if takes_all else newest_first)
            return
        chunk = limit + 1 if takes_all else min(limit * 2, _MAX_CHUNK)
        upto = window.upto
        while True:
            places = await reads.timeline.list_newest(room_nid, since, upto, chunk)
            yield await self._get([place.event_nid for place in places])
            if len(places) < chunk:
                return
            upto = places[-1].stream_ordering - 1
            chunk = min(chunk * 2, _MAX_CHUNK)

    async def _before(self, record: EventRecord) -> str:
        """The token from which paging back goes on right before the event.

        A place in the order of arrival, as a sync's timeline is: what arrived before and lies further ahead in the
        order of history is paged to, too. What is missing before an event is behind both.
        """
        stream = record.stream_ordering - 1
        if not record.flags & Flag.AFTER_GAP:
            return str(RoomToken(stream))
        place = (record.depth, stream)
        newest = await self._reads.timeline.find_place_at(record.room_nid, stream)
        if newest is not None:
            place = max(place, (newest.depth, newest.stream_ordering))
        return str(TopologicalToken(*place, until=stream))

    async def _get(self, nids: Sequence[int]) -> list[EventRecord]:
        found = await self._reads.events.get_many(nids)
        return [found[nid] for nid in nids if nid in found]


def _cut_at_gap(records: Sequence[EventRecord]) -> tuple[Sequence[EventRecord], bool]:
    """The records, newest first, on this side of the newest gap; whether there is one.

    What was before we came into the room is on the other side: backfilled history has its place among other history
    by depth, and none in the order of arrival.
    """
    for i, record in enumerate(records):
        if record.flags & Flag.AFTER_GAP:
            return records[: i + 1], True
    return records, False


def _count_fitting(looked_at: Sequence[EventRecord], found: Sequence[Seen]) -> int:
    """How many of the events found, newest first, can stand in one timeline.

    State that changed while the user did not see it is told beside the timeline, and clients apply the
    timeline on top: an older event of the same key must not be in it.
    """
    visible = {seen.record.event_nid for seen in found}
    unseen: set[tuple[str, str]] = set()
    count = 0
    for record in looked_at:
        key = None if record.state_key is None else (record.type, record.state_key)
        if record.event_nid in visible:
            if key in unseen:
                break
            count += 1
        elif key is not None:
            unseen.add(key)
    return count
