"""GET /events, the stream of events from before /sync: of all rooms of a user, or of one that the user looks into.

Spec: client-server-api GET /events (deprecated) and its form with `room_id`, for rooms that one has not joined.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

import msgspec

from hs._fast.event_record import EventRecord
from hs.matrix.errors import Forbidden
from hs.matrix.tokens import RoomToken, StreamToken
from hs.rooms.drafts import Committed
from hs.storage.event_stream import EventStreamStore
from hs.storage.events import EventStore
from hs.storage.rooms import RoomInfo
from hs.sync.access import RoomAccess
from hs.sync.client_events import ClientEvents, Viewer
from hs.sync.ignored_users import IgnoredUsers
from hs.sync.news import Notifier, RoomNews, Waiter
from hs.sync.user_rooms import UserRooms
from hs.sync.visibility import Seen, Visibility

_MEMBER = "m.room.member"
# Events in one answer, and events looked at for it.
_PAGE = 100


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """What a client asks of GET /events; without `since` it wants what happens from now on."""

    viewer: Viewer
    since: StreamToken | None
    timeout_ms: int
    # Only this room, seen from outside where the user is not in it.
    room: RoomInfo | None = None


class RoomWaiters:
    """Long polls that wait for the news of one room, whether or not their user is in it."""

    def __init__(self) -> None:
        self._waiters: dict[int, set[Waiter]] = {}

    @contextmanager
    def listen(self, room_nid: int) -> Iterator[Waiter]:
        """A waiter that hears of every commit to the room while the block lasts."""
        waiter = Waiter()
        waiters = self._waiters.setdefault(room_nid, set())
        waiters.add(waiter)
        try:
            yield waiter
        finally:
            waiters.discard(waiter)
            if not waiters and self._waiters.get(room_nid) is waiters:
                del self._waiters[room_nid]

    def on_commit(self, committed: Committed) -> None:
        """Wake who looks at the room."""
        for waiter in self._waiters.get(committed.room.room_nid, ()):
            waiter.wake()


class StreamPages:
    """Reads slices of the stream and renders what of them a user may see."""

    def __init__(
        self,
        store: EventStreamStore,
        events: EventStore,
        visibility: Visibility,
        client_events: ClientEvents,
        ignored_users: IgnoredUsers,
    ) -> None:
        self._ignored_users = ignored_users
        self._store = store
        self._events = events
        self._visibility = visibility
        self._client_events = client_events

    async def read(
        self, viewer: Viewer, upto_by_room: Mapping[int, int], after: int, *, only_own_stays: bool
    ) -> tuple[list[bytes], int | None]:
        """(events as JSON, the stream ordering up to which there is nothing left; None for the very end).

        `only_own_stays` leaves out what happened while the user was not in the room.
        """
        if not upto_by_room:
            return [], None
        places = await self._store.list_oldest(upto_by_room, after, _PAGE)
        found = await self._events.get_many([place.event_nid for place in places])
        by_room: dict[int, list[int]] = {}
        for place in places:
            if place.event_nid in found:
                by_room.setdefault(found[place.event_nid].room_nid, []).append(place.event_nid)
        seen: list[Seen] = []
        for nids in by_room.values():
            seen += await self._visibility.filter(viewer.user_id, [found[nid] for nid in nids])
        ignored = await self._ignored_users.get(viewer.user_id)
        seen = [one for one in seen if not _is_ignored(one.record, viewer.user_id, ignored)]
        if only_own_stays:
            seen = [one for one in seen if _is_of_a_stay(one, viewer.user_id)]
        seen.sort(key=lambda one: one.record.stream_ordering)
        rendered = await self._client_events.render(
            [one.record for one in seen],
            viewer,
            {one.record.event_nid: one.membership for one in seen},
            with_room_id=True,
        )
        return rendered, places[-1].stream_ordering if len(places) == _PAGE else None


class EventStream:
    """Answers GET /events."""

    def __init__(
        self,
        current_token: Callable[[], StreamToken],
        user_rooms: UserRooms,
        notifier: Notifier,
        room_waiters: RoomWaiters,
        news: RoomNews,
        access: RoomAccess,
        pages: StreamPages,
    ) -> None:
        self._current_token = current_token
        self._user_rooms = user_rooms
        self._notifier = notifier
        self._room_waiters = room_waiters
        self._news = news
        self._access = access
        self._pages = pages

    async def read(self, request: StreamRequest) -> bytes:
        """The answer as JSON, at once or when something has happened, at the latest after the timeout.

        Raises Forbidden where the user may not look into the room that they ask for.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + request.timeout_ms / 1000
        start = request.since or self._current_token()
        after = start.room.stream
        with self._listen(request) as waiter:
            while True:
                waiter.clear()
                bounds, now = await self._find_bounds(request, after)
                chunk, reached = await self._pages.read(
                    request.viewer, bounds, after, only_own_stays=request.room is None
                )
                after = now.room.stream if reached is None else reached
                left = deadline - clock()
                if chunk or left <= 0:
                    return _body(start, replace(now, room=RoomToken(after)), chunk)
                if reached is None:
                    await waiter.wait(left)

    def _listen(self, request: StreamRequest) -> AbstractContextManager[Waiter]:
        if request.room is None:
            return self._notifier.listen(request.viewer.user_id)
        return self._room_waiters.listen(request.room.room_nid)

    async def _find_bounds(self, request: StreamRequest, after: int) -> tuple[dict[int, int], StreamToken]:
        """Up to where to read which rooms, and the token of that moment."""
        if request.room is not None:
            access = await self._access.check_reader(request.room, request.viewer.user_id)
            if access.until <= after:
                raise Forbidden("you are not in this room any more")
            now = self._current_token()
            return {request.room.room_nid: min(access.until, now.room.stream)}, now
        rows = await self._user_rooms.get(request.viewer.user_id)
        # Nothing is awaited between the token and the memberships that go with it.
        now = self._current_token()
        upto = now.room.stream
        joined = {nid for nid, row in rows.items() if row.membership == "join"}
        with_news = self._news.list_rooms_since(joined, after)
        bounds = dict.fromkeys(joined if with_news is None else with_news, upto)
        # Invites and departures are told; what else happens there is none of the user's business.
        bounds |= {
            nid: min(row.stream_ordering, upto)
            for nid, row in rows.items()
            if row.membership != "join" and row.stream_ordering > after
        }
        return bounds, now


def _is_ignored(record: EventRecord, user_id: str, ignored: Collection[str]) -> bool:
    """Whether an ignored user says it or invites the user; what else they do to a room is to be seen."""
    if record.sender not in ignored:
        return False
    is_own = record.type == _MEMBER and record.state_key == user_id
    return record.state_key is None or (is_own and record.content.get("membership") == "invite")


def _is_of_a_stay(seen: Seen, user_id: str) -> bool:
    record = seen.record
    return seen.membership == "join" or (record.type == _MEMBER and record.state_key == user_id)


def _body(start: StreamToken, end: StreamToken, chunk: Sequence[bytes]) -> bytes:
    return b'{"start":%b,"end":%b,"chunk":[%b]}' % (
        msgspec.json.encode(str(start)),
        msgspec.json.encode(str(end)),
        b",".join(chunk),
    )
