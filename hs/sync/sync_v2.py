"""GET /sync: what a client lacks, room by room, waiting for it where there is nothing yet.

Spec: client-server-api "Syncing".
"""

import asyncio
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from hs.matrix.filters import SyncFilter
from hs.matrix.tokens import StreamToken
from hs.storage.members import MemberStore, UserRoomRow
from hs.storage.rooms import RoomInfo, RoomStore
from hs.storage.timeline import TimelineStore
from hs.storage.user_data import AccountDataStore
from hs.sync.client_events import Viewer
from hs.sync.first_syncs import FirstSyncs
from hs.sync.invites import InviteSections
from hs.sync.news import Notifier, RoomNews
from hs.sync.room_section import RoomSections
from hs.sync.user_rooms import OUTSIDE, UserRooms
from hs.sync.window import Window

# Unread counts, receipts and typing come with their own streams; clients expect the fields.
_REST_OF_ROOM = (
    b'"ephemeral":{"events":[]},"unread_notifications":{"highlight_count":0,"notification_count":0}'
)
_REST_OF_SYNC = (
    b'"presence":{"events":[]},"to_device":{"events":[]},"device_lists":{"changed":[],"left":[]},'
    b'"device_one_time_keys_count":{},"device_unused_fallback_key_types":[]'
)

# Rooms of one sync that are read side by side.
_ROOMS_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """The parameters of a sync."""

    viewer: Viewer
    wanted: SyncFilter
    since: StreamToken | None
    timeout_ms: int
    full_state: bool = False
    state_after: bool = False

    @property
    def key(self) -> Hashable:
        """What requests for the same have in common."""
        return self.viewer, self.wanted.definition, self.since, self.full_state, self.state_after


class SyncV2:
    """Answers syncs."""

    def __init__(
        self,
        current_token: Callable[[], StreamToken],
        user_rooms: UserRooms,
        notifier: Notifier,
        rooms: "JoinedRooms",
        invites: InviteSections,
        account_data: AccountDataStore,
    ) -> None:
        self._current_token = current_token
        self._user_rooms = user_rooms
        self._notifier = notifier
        self._rooms = rooms
        self._invites = invites
        self._account_data = account_data
        self._first = FirstSyncs()

    async def close(self) -> None:
        """Give up the first syncs that still run."""
        await self._first.close()

    async def sync(self, request: SyncRequest) -> bytes:
        """The answer as JSON, at once or when there is something to tell, at the latest after the timeout."""
        if request.since is None:
            return await self._first.run(request.key, lambda: self._build_first(request))
        clock = asyncio.get_running_loop().time
        deadline = clock() + request.timeout_ms / 1000
        with self._notifier.listen(request.viewer.user_id) as waiter:
            while True:
                waiter.clear()
                body, has_news = await self._build(request)
                left = deadline - clock()
                if has_news or request.full_state or left <= 0:
                    return body
                await waiter.wait(left)

    async def _build_first(self, request: SyncRequest) -> bytes:
        return (await self._build(request))[0]

    async def _build(self, request: SyncRequest) -> tuple[bytes, bool]:
        known = await self._user_rooms.get(request.viewer.user_id)
        # Nothing is awaited between the token and the memberships that go with it.
        now = self._current_token()
        rows = await self._rooms.of_interest(request, known, now)
        room_data, global_data = await self._account_events(request, now)
        if not rows and not room_data and not global_data:
            return _body(now, [], [], [], [], []), False
        joined = await self._rooms.joined(request, rows, now, room_data)
        left = await self._rooms.left(request, rows)
        invited, knocked = await self._invites.build(request.viewer.user_id, rows, request.wanted)
        has_news = bool(joined or left or invited or knocked or global_data)
        return _body(now, joined, invited, knocked, left, global_data), has_news

    async def _account_events(
        self, request: SyncRequest, now: StreamToken
    ) -> tuple[dict[str, list[bytes]], list[bytes]]:
        """Account data by room id, and that of the whole account, as JSON events."""
        since = None if request.since is None or request.full_state else request.since.account_data
        if since is not None and since >= now.account_data:
            return {}, []
        user_id = request.viewer.user_id
        if since is None:
            changes = await self._account_data.list_account_data(user_id)
        else:
            changes = await self._account_data.list_account_data_since(user_id, since, now.account_data)
        by_room: dict[str, list[bytes]] = {}
        for change in changes:
            matcher = request.wanted.room_account_data if change.room_id else request.wanted.account_data
            if matcher.accepts_type(change.type):
                event = b'{"content":%b,"type":%b}' % (change.content_json, msgspec.json.encode(change.type))
                by_room.setdefault(change.room_id, []).append(event)
        return by_room, by_room.pop("", [])


class JoinedRooms:
    """The rooms that a user is in, and those that the user has left."""

    def __init__(
        self,
        rooms: RoomStore,
        members: MemberStore,
        timeline: TimelineStore,
        news: RoomNews,
        sections: RoomSections,
    ) -> None:
        self._rooms = rooms
        self._members = members
        self._timeline = timeline
        self._news = news
        self._sections = sections

    async def of_interest(
        self, request: SyncRequest, known: Mapping[int, UserRoomRow], now: StreamToken
    ) -> dict[int, UserRoomRow]:
        """The user's rooms, as of `now`, that the client may lack something of.

        `known` are all rooms of the user; it changes with the next commit, so it is copied before the
        first wait.
        """
        upto, since = now.room.stream, _stream(request.since)
        if since is None or request.full_state:
            rows = dict(known)
        else:
            fresh = self._news.list_rooms_since(known.keys(), since)
            if fresh is not None:
                rows = {room_nid: known[room_nid] for room_nid in fresh}
            else:
                rows = dict(known)
                found = await self._timeline.list_rooms_with_news(list(rows), since)
                rows = {room_nid: rows[room_nid] for room_nid in found}
        if any(row.stream_ordering > upto for row in rows.values()):
            rows = await self._as_of(request.viewer.user_id, rows, upto)
        if since is None and request.wanted.definition.room.include_leave:
            return rows
        return {nid: row for nid, row in rows.items() if _is_of_interest(row, request, since)}

    async def joined(
        self,
        request: SyncRequest,
        rows: Mapping[int, UserRoomRow],
        now: StreamToken,
        account_data: Mapping[str, list[bytes]],
    ) -> list[bytes]:
        """The entries of `rooms.join`: rooms with news, and rooms with new account data."""
        joined = {nid: row for nid, row in rows.items() if row.membership == "join"}
        infos = await self._rooms.list_by_nids(list(joined))
        entries: list[bytes] = []
        wanted = [row for nid, row in joined.items() if request.wanted.accepts_room(infos[nid].room_id)]
        for first in range(0, len(wanted), _ROOMS_AT_ONCE):
            part = wanted[first : first + _ROOMS_AT_ONCE]
            entries += await self._joined_entries(request, part, infos, now.room.stream, account_data)
        shown = {infos[room_nid].room_id for room_nid in joined}
        for room_id, data in account_data.items():
            if room_id not in shown and request.wanted.accepts_room(room_id):
                room_found = await self._rooms.find(room_id)
                if room_found is not None and await self._is_joined(request, room_found):
                    entries.append(_joined_entry(room_id, [], data))
        return entries

    async def _joined_entries(
        self,
        request: SyncRequest,
        rows: Sequence[UserRoomRow],
        infos: Mapping[int, RoomInfo],
        upto: int,
        account_data: Mapping[str, list[bytes]],
    ) -> list[bytes]:
        async def build(row: UserRoomRow) -> bytes | None:
            room = infos[row.room_nid]
            window = await self._window(request, row, room, upto)
            parts = await self._sections.build(window, request.viewer, request.wanted)
            data = account_data.get(room.room_id, [])
            return _joined_entry(room.room_id, parts or [], data) if parts is not None or data else None

        if len(rows) == 1:
            entries = [await build(rows[0])]
        else:
            # Side by side: what they ask the database for becomes a few queries for all of them.
            entries = await asyncio.gather(*map(build, rows))
        return [entry for entry in entries if entry is not None]

    async def left(self, request: SyncRequest, rows: Mapping[int, UserRoomRow]) -> list[bytes]:
        """The entries of `rooms.leave`: rooms left since, or with `include_leave` all of them."""
        left = {nid: row for nid, row in rows.items() if row.membership in OUTSIDE}
        if not left:
            return []
        forgotten: set[int] = set()
        if request.since is None:
            # Later the departure is told all the same: other devices still show the room.
            forgotten = await self._members.list_forgotten(request.viewer.user_id, list(left))
        infos = await self._rooms.list_by_nids(list(left))
        entries = []
        for room_nid, row in left.items():
            room = infos[room_nid]
            if room_nid in forgotten or not request.wanted.accepts_room(room.room_id):
                continue
            window = await self._left_window(request, row, room)
            parts = await self._sections.build(window, request.viewer, request.wanted, with_summary=False)
            entries.append(_entry(room.room_id, [*(parts or []), b'"account_data":{"events":[]}']))
        return entries

    async def _as_of(
        self, user_id: str, rows: Mapping[int, UserRoomRow], upto: int
    ) -> dict[int, UserRoomRow]:
        """The rows as they were at `upto`: some were read while their commit was about to be announced."""
        changes = await self._members.list_changes_of(user_id, 0, upto)
        earlier = {change.room_nid: change for change in changes}
        return {
            nid: known
            for nid, row in rows.items()
            if (known := row if row.stream_ordering <= upto else earlier.get(nid)) is not None
        }

    async def _is_joined(self, request: SyncRequest, room: RoomInfo) -> bool:
        changes = await self._members.list_changes_in_room(request.viewer.user_id, room.room_nid)
        return bool(changes) and changes[-1][1] == "join"

    async def _window(self, request: SyncRequest, row: UserRoomRow, room: RoomInfo, upto: int) -> Window:
        since = _stream(request.since)
        is_new = since is not None and row.stream_ordering > since and await self._was_outside(request, row)
        return Window(
            room,
            since,
            upto,
            is_new=is_new,
            sees_all=since is not None and not is_new,
            full_state=request.full_state,
            state_after=request.state_after,
        )

    async def _was_outside(self, request: SyncRequest, row: UserRoomRow) -> bool:
        """Whether the user was out of the room at `since` or at any time after it, before the last change."""
        before, after = await self._stays(request, row)
        return before != "join" or any(membership != "join" for membership in after[:-1])

    async def _left_window(self, request: SyncRequest, row: UserRoomRow, room: RoomInfo) -> Window:
        before, after = await self._stays(request, row)
        was_in = before == "join"
        came = "join" in after
        return Window(
            room,
            _stream(request.since),
            row.stream_ordering,
            is_new=request.since is not None and not was_in and came,
            state_after=request.state_after,
            hides_state=not was_in and not came,
        )

    async def _stays(self, request: SyncRequest, row: UserRoomRow) -> tuple[str | None, list[str]]:
        """The user's membership at `since`, and all later ones up to the row's."""
        since = _stream(request.since) or 0
        changes = await self._members.list_changes_in_room(request.viewer.user_id, row.room_nid)
        before = [membership for stream, membership in changes if stream <= since]
        after = [membership for stream, membership in changes if since < stream <= row.stream_ordering]
        return before[-1] if before else None, after


def _stream(token: StreamToken | None) -> int | None:
    return None if token is None else token.room.stream


def _is_of_interest(row: UserRoomRow, request: SyncRequest, since: int | None) -> bool:
    """Invites, knocks and leaves are told once; what else happens there is none of the user's business."""
    if row.membership == "join" or (since is not None and row.stream_ordering > since):
        return True
    return row.membership not in OUTSIDE and (since is None or request.full_state)


def _entry(room_id: str, parts: Sequence[bytes]) -> bytes:
    return msgspec.json.encode(room_id) + b":{" + b",".join(parts) + b"}"


def _joined_entry(room_id: str, parts: Sequence[bytes], account_data: Sequence[bytes]) -> bytes:
    return _entry(
        room_id, [*parts, b'"account_data":{"events":[%b]}' % b",".join(account_data), _REST_OF_ROOM]
    )


def _body(
    now: StreamToken,
    joined: Sequence[bytes],
    invited: Sequence[bytes],
    knocked: Sequence[bytes],
    left: Sequence[bytes],
    account_data: Sequence[bytes],
) -> bytes:
    return (
        b'{"next_batch":"%b","rooms":{"join":{%b},"invite":{%b},"knock":{%b},"leave":{%b}},'
        b'"account_data":{"events":[%b]},%b}'
    ) % (
        str(now).encode(),
        b",".join(joined),
        b",".join(invited),
        b",".join(knocked),
        b",".join(left),
        b",".join(account_data),
        _REST_OF_SYNC,
    )
