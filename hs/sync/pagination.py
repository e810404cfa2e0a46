"""Reading a room's history in both directions, and around an event.

Spec: client-server-api "Getting events for a room" (GET /messages), "Event context".
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from hs._fast.event_record import EventRecord
from hs._fast.state_tree import Node
from hs.matrix.errors import NotFound
from hs.matrix.filters import EventMatcher
from hs.rooms.state import RoomStates
from hs.storage.events import HIDDEN, EventStore
from hs.storage.rooms import RoomInfo
from hs.sync.access import Access
from hs.sync.aggregations import Aggregations
from hs.sync.client_events import Viewer
from hs.sync.far_history import DEADLINE_S
from hs.sync.pages import SCAN_LIMIT, Page, PageReader
from hs.sync.places import PageToken, Places, Stretch, after, before
from hs.sync.visibility import Seen, Visibility
from hs.sync.wanted_events import WantedEvents

_MEMBER = "m.room.member"
# Times that history is fetched for one page; servers give a hundred events at once.
_MAX_FETCHES = 5
# After so many events of a long list others get their turn.
_MAX_CHUNK = 500


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A page of history: `start` None is the end of the room to begin from, `stop` None the other."""

    backwards: bool
    start: PageToken | None
    stop: PageToken | None
    limit: int
    matcher: EventMatcher
    lazy_members: bool = False


class Pagination:
    """Builds pages."""

    def __init__(
        self,
        places: Places,
        events: EventStore,
        states: RoomStates,
        visibility: Visibility,
        aggregations: Aggregations,
        wanted: WantedEvents,
        *,
        scan_limit: int = SCAN_LIMIT,
    ) -> None:
        self._places = places
        self._events = events
        self._states = states
        self._visibility = visibility
        self._aggregations = aggregations
        self._wanted = wanted
        self._pages = PageReader(events, scan_limit)

    async def messages(self, room: RoomInfo, viewer: Viewer, access: Access, request: PageRequest) -> bytes:
        """The answer of GET /messages as JSON."""
        stretch = await self._places.stretch(room, access, request.start, request.stop, request.backwards)
        page, is_whole = await self._read_whole(room, viewer, stretch, request)
        if not is_whole and page.end is None and stretch.stop is None and page.events:
            # Not the beginning: it may be had the next time.
            page = replace(page, end=stretch.past(page.events[-1].record))
        parts = [
            b'{"start":' + msgspec.json.encode(str(stretch.start)),
            b'"chunk":[%b]' % b",".join(await self._render(viewer, access, page.events)),
        ]
        if page.end is not None:
            parts.append(b'"end":' + msgspec.json.encode(str(page.end)))
        if request.lazy_members and page.events:
            # The last moment: by then everybody who speaks on the page has come.
            newest = page.events[0 if request.backwards else -1]
            root = self._states.after(newest.record)
            members = await self._senders(room, root, [seen.record for seen in page.events])
            parts.append(b'"state":[%b]' % b",".join(await self._render_state(viewer, members)))
        return b",".join(parts) + b"}"

    async def context(
        self, room: RoomInfo, viewer: Viewer, access: Access, event_id: str, request: PageRequest
    ) -> bytes:
        """The answer of GET /context as JSON: at most `limit` events around the event, and the state there."""
        target = await self.find_visible(room, viewer, access, event_id)
        half = request.limit // 2
        back = self._places.around(access, before(target.record), backwards=True)
        forth = self._places.around(access, after(target.record), backwards=False)
        earlier = await self._read(room, viewer, back, request, half)
        later = await self._read(room, viewer, forth, request, request.limit - half)
        oldest = earlier.events[-1] if earlier.events else target
        newest = later.events[-1] if later.events else target
        root = self._states.after(newest.record)
        if request.lazy_members:
            shown = [seen.record for seen in (*earlier.events, target, *later.events)]
            state = await self._state_without_members(room, root)
            state += await self._senders(room, root, shown)
        else:
            state = await self._get_all(await self._states.list_nids(room.room_nid, root))
        state = [record for record in state if request.matcher.matches(record)]
        rendered = await self._render(viewer, access, [*earlier.events, target, *later.events])
        half_way = len(earlier.events)
        return b'{"start":%b,"end":%b,"event":%b,"events_before":[%b],"events_after":[%b],"state":[%b]}' % (
            msgspec.json.encode(str(earlier.end or back.past(oldest.record))),
            msgspec.json.encode(str(later.end or forth.past(newest.record))),
            rendered[half_way],
            b",".join(rendered[:half_way]),
            b",".join(rendered[half_way + 1 :]),
            b",".join(await self._render_state(viewer, state)),
        )

    async def find_visible(self, room: RoomInfo, viewer: Viewer, access: Access, event_id: str) -> Seen:
        """The room's event, as the viewer may see it; NotFound where there is none or they may not."""
        nid = await self._events.find_nid(room.room_nid, event_id)
        if nid is not None:
            record = await self._events.get(nid)
            if not record.flags & HIDDEN and record.stream_ordering <= access.until:
                seen = await self._visibility.filter(viewer.user_id, [record])
                if seen:
                    return seen[0]
        raise NotFound("there is no such event, or you may not see it")

    async def event(self, room: RoomInfo, viewer: Viewer, access: Access, event_id: str) -> bytes:
        """The answer of GET /event as JSON."""
        return (
            await self._render(viewer, access, [await self.find_visible(room, viewer, access, event_id)])
        )[0]

    # --- reading

    async def _read_whole(
        self, room: RoomInfo, viewer: Viewer, stretch: Stretch, request: PageRequest
    ) -> tuple[Page, bool]:
        """The page with what was missing of it, as far as that could be had, and whether nothing is missing now.

        What is fetched may leave gaps between branches, and who reads on never comes back to them.
        """
        mark = self._places.mark(room)
        page = await self._read(room, viewer, stretch, request, request.limit)
        give_up_at = asyncio.get_running_loop().time() + DEADLINE_S
        for _ in range(_MAX_FETCHES if request.backwards else 0):
            fetched = await self._places.fetch_missing(room, stretch, page.end)
            # What came between the reading and this look is not on the page.
            if fetched is None and mark is not None and mark == self._places.mark(room):
                return page, True
            if fetched is False:
                break
            mark = self._places.mark(room)
            page = await self._read(room, viewer, stretch, request, request.limit)
            if asyncio.get_running_loop().time() > give_up_at:
                break
        return page, not request.backwards

    async def _read(
        self, room: RoomInfo, viewer: Viewer, stretch: Stretch, request: PageRequest, limit: int
    ) -> Page:
        """Up to `limit` wanted and visible events of the stretch."""
        matcher = request.matcher
        if matcher.is_closed and limit > 0:
            return Page([], None)

        async def keep(records: Sequence[EventRecord]) -> list[Seen]:
            matching = await self._wanted.keep(viewer.user_id, records, matcher)
            return await self._visibility.filter(viewer.user_id, matching)

        return await self._pages.read(
            stretch,
            limit,
            lambda place, count: self._places.list(room, stretch, place, count),
            keep,
            keeps_most=matcher.is_open,
        )

    async def _get_all(self, nids: Sequence[int]) -> list[EventRecord]:
        found = await self._events.get_many(nids)
        return [found[nid] for nid in nids if nid in found]

    async def _senders(self, room: RoomInfo, root: Node, records: Sequence[EventRecord]) -> list[EventRecord]:
        """The member events, in a state, of those who sent these events."""
        keys = [(_MEMBER, sender) for sender in dict.fromkeys(record.sender for record in records)]
        nids = await self._states.get_many(room.room_nid, root, keys)
        return await self._get_all(list(nids.values()))

    async def _state_without_members(self, room: RoomInfo, root: Node) -> list[EventRecord]:
        nids = (await self._states.list_without_members(room.room_nid, root)).values()
        return [record for record in await self._get_all(list(nids)) if record.type != _MEMBER]

    # --- rendering

    async def _render(self, viewer: Viewer, access: Access, events: Sequence[Seen]) -> list[bytes]:
        memberships = {seen.record.event_nid: seen.membership for seen in events}
        records = [seen.record for seen in events]
        return await self._aggregations.render(
            records, viewer, memberships, until=access.until, with_room_id=True
        )

    async def _render_state(self, viewer: Viewer, records: Sequence[EventRecord]) -> list[bytes]:
        """The state beside a page: nobody sees it happen there, so what it replaced is left out."""
        rendered: list[bytes] = []
        for start in range(0, len(records), _MAX_CHUNK):
            part = records[start : start + _MAX_CHUNK]
            rendered += await self._aggregations.render(part, viewer, with_room_id=True, with_previous=False)
            # The state of a large room takes a while: others get their turn.
            await asyncio.sleep(0)
        return rendered
