"""Reading a room's history in both directions, and around an event.

Spec: client-server-api "Getting events for a room" (GET /messages), "Event context". History is ordered by
(depth, stream ordering); a token is a place between two events, so that turning around loses nothing.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import msgspec

from hs._fast.event_record import EventRecord
from hs._fast.state_tree import Node
from hs.matrix.errors import NotFound
from hs.matrix.filters import EventMatcher
from hs.matrix.tokens import RoomToken, TopologicalToken
from hs.rooms.state import RoomStates
from hs.storage.events import HIDDEN, EventStore
from hs.storage.rooms import RoomInfo
from hs.storage.timeline import Place, TimelineStore
from hs.sync.access import END, Access
from hs.sync.client_events import ClientEvents, Viewer
from hs.sync.visibility import Seen, Visibility

_MEMBER = "m.room.member"
_BEGINNING = TopologicalToken(0, 0)
_NEWEST = TopologicalToken(END, END)
# Events looked at for one page at most, however few of them are wanted or visible; then the client gets
# what was found and a token to go on.
_SCAN_LIMIT = 5_000
_MAX_CHUNK = 500

PageToken = RoomToken | TopologicalToken


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A page of history: `start` None is the end of the room to begin from, `stop` None the other."""

    backwards: bool
    start: PageToken | None
    stop: PageToken | None
    limit: int
    matcher: EventMatcher
    lazy_members: bool = False


@dataclass(frozen=True, slots=True)
class _Page:
    events: list[Seen]
    # Where the next page begins; None where there is none.
    end: TopologicalToken | None


class Pagination:
    """Builds pages."""

    def __init__(
        self,
        timeline: TimelineStore,
        events: EventStore,
        states: RoomStates,
        visibility: Visibility,
        client_events: ClientEvents,
        current_token: Callable[[], RoomToken],
        *,
        scan_limit: int = _SCAN_LIMIT,
    ) -> None:
        self._timeline = timeline
        self._events = events
        self._states = states
        self._visibility = visibility
        self._client_events = client_events
        self._current_token = current_token
        self._scan_limit = scan_limit

    async def messages(self, room: RoomInfo, viewer: Viewer, access: Access, request: PageRequest) -> bytes:
        """The answer of GET /messages as JSON."""
        # What is committed from here on comes with the next sync.
        now = self._current_token()
        access = replace(access, until=min(access.until, now.stream))
        start = request.start or (now if request.backwards else _BEGINNING)
        place, until = await self._find_place(room, start)
        if request.backwards:
            access = replace(access, until=min(access.until, until))
        stop = None if request.stop is None else (await self._find_place(room, request.stop))[0]
        page = await self._read(room, viewer, access, request, place, stop)
        parts = [
            b'{"start":' + msgspec.json.encode(str(start)),
            b'"chunk":[%b]' % b",".join(await self._render(viewer, page.events)),
        ]
        if page.end is not None:
            parts.append(b'"end":' + msgspec.json.encode(str(page.end)))
        if request.lazy_members and page.events:
            # The last moment: by then everybody who speaks on the page has come.
            newest = page.events[0 if request.backwards else -1]
            root = self._states.after(newest.record)
            members = await self._senders(room, root, [seen.record for seen in page.events])
            parts.append(b'"state":[%b]' % b",".join(await self._render_records(viewer, members)))
        return b",".join(parts) + b"}"

    async def context(
        self, room: RoomInfo, viewer: Viewer, access: Access, event_id: str, request: PageRequest
    ) -> bytes:
        """The answer of GET /context as JSON: at most `limit` events around the event, and the state there."""
        target = await self.find_visible(room, viewer, access, event_id)
        access = replace(access, until=min(access.until, self._current_token().stream))
        half = request.limit // 2
        earlier, later = replace(request, backwards=True, limit=half), replace(request, backwards=False)
        later = replace(later, limit=request.limit - half)
        before = await self._read(room, viewer, access, earlier, _before(target.record), None)
        after = await self._read(room, viewer, access, later, _after(target.record), None)
        oldest = before.events[-1] if before.events else target
        newest = after.events[-1] if after.events else target
        root = self._states.after(newest.record)
        if request.lazy_members:
            shown = [seen.record for seen in (*before.events, target, *after.events)]
            state = await self._state_without_members(room, root)
            state += await self._senders(room, root, shown)
        else:
            state = await self._get_all(await self._states.list_nids(room.room_nid, root))
        state = [record for record in state if request.matcher.matches(record)]
        return b'{"start":%b,"end":%b,"event":%b,"events_before":[%b],"events_after":[%b],"state":[%b]}' % (
            msgspec.json.encode(str(before.end or _before(oldest.record))),
            msgspec.json.encode(str(after.end or _after(newest.record))),
            (await self._render(viewer, [target]))[0],
            b",".join(await self._render(viewer, before.events)),
            b",".join(await self._render(viewer, after.events)),
            b",".join(await self._render_records(viewer, state)),
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
        return (await self._render(viewer, [await self.find_visible(room, viewer, access, event_id)]))[0]

    # --- places

    async def _find_place(self, room: RoomInfo, token: PageToken) -> tuple[TopologicalToken, int]:
        """The place in history that a token names, and the newest event that its owner may have meant."""
        if isinstance(token, TopologicalToken):
            return token, END
        if token.stream >= self._current_token().stream:
            return _NEWEST, token.max_stream
        place = await self._timeline.find_place_at(room.room_nid, token.stream)
        found = _BEGINNING if place is None else TopologicalToken(place.depth, place.stream_ordering)
        # An event that came later but belongs further back was not in front of this reader.
        return found, token.max_stream

    # --- reading

    async def _read(
        self,
        room: RoomInfo,
        viewer: Viewer,
        access: Access,
        request: PageRequest,
        place: TopologicalToken,
        stop: TopologicalToken | None,
    ) -> _Page:
        """Up to `limit` wanted and visible events from the place on."""
        found: list[Seen] = []
        if request.limit <= 0 or request.matcher.is_closed:
            return _Page([], place if request.limit <= 0 else None)
        chunk = min(request.limit + 1 if request.matcher.is_open else request.limit * 4, _MAX_CHUNK)
        scanned = 0
        while scanned < self._scan_limit:
            scan = self._timeline.list_before if request.backwards else self._timeline.list_after
            places = await scan(room.room_nid, place.depth, place.stream, access.until, chunk)
            inside = [one for one in places if _is_inside(one, stop, request.backwards)]
            records = [r for r in await self._get_places(inside) if request.matcher.matches(r)]
            for seen in await self._visibility.filter(viewer.user_id, records):
                if len(found) == request.limit:
                    return _Page(found, _turned(found[-1].record, request.backwards))
                found.append(seen)
            if len(inside) < chunk:
                return _Page(found, None)
            last = inside[-1]
            stream = last.stream_ordering - 1 if request.backwards else last.stream_ordering
            place = TopologicalToken(last.depth, stream)
            scanned += chunk
            chunk = min(chunk * 2, _MAX_CHUNK)
        return _Page(found, place)

    async def _get_places(self, places: Sequence[Place]) -> list[EventRecord]:
        return await self._get_all([place.event_nid for place in places])

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

    async def _render(self, viewer: Viewer, events: Sequence[Seen]) -> list[bytes]:
        memberships = {seen.record.event_nid: seen.membership for seen in events}
        records = [seen.record for seen in events]
        return await self._client_events.render(records, viewer, memberships, with_room_id=True)

    async def _render_records(self, viewer: Viewer, records: Sequence[EventRecord]) -> list[bytes]:
        rendered: list[bytes] = []
        for start in range(0, len(records), _MAX_CHUNK):
            part = records[start : start + _MAX_CHUNK]
            rendered += await self._client_events.render(part, viewer, with_room_id=True)
            # The state of a large room takes a while: others get their turn.
            await asyncio.sleep(0)
        return rendered


def _before(record: EventRecord) -> TopologicalToken:
    """The place right before the event."""
    return TopologicalToken(record.depth, record.stream_ordering - 1)


def _after(record: EventRecord) -> TopologicalToken:
    """The place right after the event."""
    return TopologicalToken(record.depth, record.stream_ordering)


def _turned(record: EventRecord, backwards: bool) -> TopologicalToken:
    return _before(record) if backwards else _after(record)


def _is_inside(place: Place, stop: TopologicalToken | None, backwards: bool) -> bool:
    if stop is None:
        return True
    at, end = (place.depth, place.stream_ordering), (stop.depth, stop.stream)
    return at > end if backwards else at <= end
