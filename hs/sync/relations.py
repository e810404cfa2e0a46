"""What relates to an event, page by page, and the threads of a room.

Spec: client-server-api "Relationships API", module "Threading", "Querying threads in a room".
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from hs._fast.event_record import EventRecord
from hs.matrix.redaction import redact
from hs.matrix.tokens import TopologicalToken
from hs.storage.events import EventStore
from hs.storage.relations import Children, RelationStore, Slice, ThreadPlace
from hs.storage.rooms import RoomInfo
from hs.storage.timeline import Place
from hs.sync.access import Access
from hs.sync.aggregations import Aggregations
from hs.sync.client_events import Viewer
from hs.sync.ignored_users import IgnoredUsers
from hs.sync.pages import PageReader
from hs.sync.pagination import Pagination
from hs.sync.places import PageToken, Places, Stretch
from hs.sync.visibility import Seen, Visibility

# How many steps away what relates to an event may be. Spec: at least 3.
RECURSION_DEPTH = 3
# Messages of threads that are looked at for one page of threads, in parts.
_THREAD_SCAN_LIMIT = 5_000
_THREAD_CHUNK = 500


@dataclass(frozen=True, slots=True)
class RelationsRequest:
    """A page of what relates to an event."""

    children: Children
    backwards: bool
    start: PageToken | None
    stop: PageToken | None
    limit: int
    # Whether the client asked for relations over several steps, or said that it does not want them.
    recurses: bool | None = None


@dataclass(frozen=True, slots=True)
class ThreadsRequest:
    """A page of a room's threads; `only_own` are those that the viewer has taken part in."""

    start: PageToken | None
    limit: int
    only_own: bool = False


class Relations:
    """Builds pages of relations."""

    def __init__(
        self,
        store: RelationStore,
        places: Places,
        events: EventStore,
        visibility: Visibility,
        aggregations: Aggregations,
        ignored_users: IgnoredUsers,
        pagination: Pagination,
    ) -> None:
        self._store = store
        self._places = places
        self._events = events
        self._visibility = visibility
        self._aggregations = aggregations
        self._ignored_users = ignored_users
        self._pagination = pagination
        self._pages = PageReader(events)

    async def children(
        self, room: RoomInfo, viewer: Viewer, access: Access, request: RelationsRequest
    ) -> bytes:
        """The answer of GET /relations as JSON; NotFound where the viewer may not see the parent."""
        await self._pagination.find_visible(room, viewer, access, request.children.event_id)
        stretch = await self._places.stretch(room, access, request.start, request.stop, request.backwards)

        async def list_places(place: TopologicalToken, count: int) -> list[Place]:
            part = Slice(place.depth, place.stream, stretch.until, count, request.backwards)
            return await self._store.list_children(room.room_nid, request.children, part)

        async def keep(records: Sequence[EventRecord]) -> list[Seen]:
            return await self._visibility.filter(viewer.user_id, records)

        page = await self._pages.read(stretch, request.limit, list_places, keep, keeps_most=True)
        parts = [b'{"chunk":[%b]' % b",".join(await self._render(viewer, access, page.events))]
        if page.end is not None:
            parts.append(b'"next_batch":' + msgspec.json.encode(str(page.end)))
        if request.start is not None:
            parts.append(b'"prev_batch":' + msgspec.json.encode(str(request.start)))
        if request.recurses is not None:
            # Direct relations are no recursion.
            parts.append(b'"recursion_depth":%d' % (request.children.depth if request.recurses else 0))
        return b",".join(parts) + b"}"

    async def threads(self, room: RoomInfo, viewer: Viewer, access: Access, request: ThreadsRequest) -> bytes:
        """The answer of GET /threads as JSON: the roots, that with the newest message first."""
        stretch = await self._places.stretch(room, access, request.start, None, backwards=True)
        ignored = await self._ignored_users.get(viewer.user_id)
        found: list[tuple[Seen, ThreadPlace]] = []
        place, scanned, is_all = stretch.place, 0, False
        while len(found) <= request.limit and scanned < _THREAD_SCAN_LIMIT and not is_all:
            part = Slice(place.depth, place.stream, stretch.until, _THREAD_CHUNK)
            messages = await self._store.list_threads(room.room_nid, part, ignored)
            found += await self._list_roots(room, viewer, stretch, request, messages)
            scanned, is_all = scanned + len(messages), len(messages) < _THREAD_CHUNK
            place = _past(messages[-1]) if messages else place
        if len(found) > request.limit:
            found = found[: request.limit]
            place, is_all = _past(found[-1][1]), False
        rendered = await self._render(viewer, access, [seen for seen, _ in found])
        chunk = [
            # Spec: redacted, as a client would show it that puts the thread together itself.
            _redacted(event, room) if seen.record.sender in ignored else event
            for event, (seen, _) in zip(rendered, found, strict=True)
        ]
        end = b"" if is_all else b',"next_batch":' + msgspec.json.encode(str(stretch.token(place)))
        return b'{"chunk":[%b]%b}' % (b",".join(chunk), end)

    async def _list_roots(
        self,
        room: RoomInfo,
        viewer: Viewer,
        stretch: Stretch,
        request: ThreadsRequest,
        messages: Sequence[ThreadPlace],
    ) -> list[tuple[Seen, ThreadPlace]]:
        """The roots whose newest message is among these, in their order, as far as the viewer may see them."""
        newest = {message.root_id: message for message in messages if message.is_newest}
        nids = await self._events.find_nids(room.room_nid, list(newest))
        found = await self._events.get_many([nids[root_id] for root_id in newest if root_id in nids])
        records = [record for record in found.values() if record.stream_ordering <= stretch.until]
        seen = await self._visibility.filter(viewer.user_id, records)
        summaries = await self._aggregations.summarise([one.record for one in seen], viewer, stretch.until)
        roots = []
        for one in seen:
            summary = summaries.get(one.record.event_nid)
            if summary is None or not summary.thread:
                continue
            if not request.only_own or viewer.user_id in (one.record.sender, *summary.thread_senders):
                roots.append((one, newest[one.record.event_id]))
        return roots

    async def _render(self, viewer: Viewer, access: Access, events: Sequence[Seen]) -> list[bytes]:
        memberships = {seen.record.event_nid: seen.membership for seen in events}
        records = [seen.record for seen in events]
        return await self._aggregations.render(
            records, viewer, memberships, until=access.until, with_room_id=True
        )


def _past(message: ThreadPlace) -> TopologicalToken:
    return TopologicalToken(message.depth, message.stream_ordering - 1)


def _redacted(event: bytes, room: RoomInfo) -> bytes:
    decoded = msgspec.json.decode(event)
    content = redact({"type": decoded["type"], "content": decoded["content"]}, room.version)["content"]
    return msgspec.json.encode({**decoded, "content": content})
