"""GET /sync: what a client lacks, room by room, waiting for it where there is nothing yet.

Spec: client-server-api "Syncing".
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from hs.matrix.filters import SyncFilter
from hs.matrix.tokens import StreamToken
from hs.storage.members import MemberStore, UserRoomRow
from hs.storage.rooms import RoomStore
from hs.storage.timeline import TimelineStore
from hs.storage.user_data import AccountDataStore
from hs.sync.client_events import Viewer
from hs.sync.invites import InviteSections
from hs.sync.news import Notifier, RoomNews
from hs.sync.room_section import RoomSections, Window
from hs.sync.user_rooms import UserRooms

# Unread counts, receipts and typing come with their own streams; clients expect the fields.
_REST_OF_ROOM = (
    b'"ephemeral":{"events":[]},"unread_notifications":{"highlight_count":0,"notification_count":0}'
)
_REST_OF_SYNC = (
    b'"presence":{"events":[]},"to_device":{"events":[]},"device_lists":{"changed":[],"left":[]},'
    b'"device_one_time_keys_count":{},"device_unused_fallback_key_types":[]'
)


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """The parameters of a sync."""

    viewer: Viewer
    wanted: SyncFilter
    since: StreamToken | None
    timeout_ms: int
    full_state: bool = False
    state_after: bool = False


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

    async def sync(self, request: SyncRequest) -> bytes:
        """The answer as JSON, at once or when there is something to tell, at the latest after the timeout."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + request.timeout_ms / 1000
        is_immediate = request.since is None or request.full_state
        with self._notifier.listen(request.viewer.user_id) as waiter:
            while True:
                waiter.clear()
                now = self._current_token()
                body, has_news = await self._build(request, now)
                left = deadline - clock()
                if has_news or is_immediate or left <= 0:
                    return body
                await waiter.wait(left)

    async def _build(self, request: SyncRequest, now: StreamToken) -> tuple[bytes, bool]:
        since = request.since
        if since is not None and now <= since:
            # Nothing at all has happened anywhere.
            now = since
        room_data, global_data = await self._account_events(request, now)
        rows = await self._user_rooms.get(request.viewer.user_id)
        joined = await self._rooms.joined(request, rows, now, room_data)
        left = await self._rooms.left(request, rows, now)
        invited, knocked = await self._invites.build(
            request.viewer.user_id, rows, _stream(since), now.room.stream
        )
        has_news = bool(joined or left or invited or knocked or global_data)
        body = (
            b'{"next_batch":%b,"rooms":{"join":{%b},"invite":{%b},"knock":{%b},"leave":{%b}},'
            b'"account_data":{"events":[%b]},%b}'
        ) % (
            msgspec.json.encode(str(now)),
            b",".join(joined),
            b",".join(invited),
            b",".join(knocked),
            b",".join(left),
            b",".join(global_data),
            _REST_OF_SYNC,
        )
        return body, has_news

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

    async def joined(
        self,
        request: SyncRequest,
        rows: dict[int, UserRoomRow],
        now: StreamToken,
        account_data: dict[str, list[bytes]],
    ) -> list[bytes]:
        """The entries of `rooms.join`."""
        upto, since = now.room.stream, _stream(request.since)
        joined = [row for row in rows.values() if row.membership == "join" and row.stream_ordering <= upto]
        if since is not None and not request.full_state:
            joined = await self._with_news(joined, since, account_data)
        entries = []
        infos = await self._rooms.list_by_nids([row.room_nid for row in joined])
        for row in joined:
            room_id = infos[row.room_nid].room_id
            if not request.wanted.accepts_room(room_id):
                continue
            window = await self._window(request, row, since, upto)
            parts = await self._sections.build(window, request.viewer, request.wanted)
            data = account_data.get(room_id, [])
            if parts is None and not data:
                continue
            parts = [*(parts or []), b'"account_data":{"events":[%b]}' % b",".join(data), _REST_OF_ROOM]
            entries.append(_entry(room_id, parts))
        return entries

    async def left(self, request: SyncRequest, rows: dict[int, UserRoomRow], now: StreamToken) -> list[bytes]:
        """The entries of `rooms.leave`: rooms left since, or with `include_leave` all of them."""
        since, upto = _stream(request.since), now.room.stream
        wants_all = request.wanted.definition.room.include_leave
        entries = []
        for row in rows.values():
            if row.membership not in ("leave", "ban") or row.forgotten or row.stream_ordering > upto:
                continue
            if since is None or request.full_state:
                if not wants_all:
                    continue
            elif row.stream_ordering <= since:
                continue
            room = await self._rooms.by_nid(row.room_nid)
            if not request.wanted.accepts_room(room.room_id):
                continue
            window = Window(
                row.room_nid,
                since,
                row.stream_ordering,
                is_new=since is None,
                sees_all=False,
                state_after=request.state_after,
            )
            parts = await self._sections.build(window, request.viewer, request.wanted) or []
            entries.append(_entry(room.room_id, [*parts, b'"account_data":{"events":[]}']))
        return entries

    async def _with_news(
        self, joined: Sequence[UserRoomRow], since: int, account_data: dict[str, list[bytes]]
    ) -> list[UserRoomRow]:
        """Those of the rooms that a client which has seen `since` may lack something of."""
        fresh = {row.room_nid: self._news.has_news(row.room_nid, since) for row in joined}
        unknown = [nid for nid, has_news in fresh.items() if has_news is None]
        if unknown:
            found = set(await self._timeline.list_rooms_with_news(unknown, since))
            fresh |= {nid: nid in found for nid in unknown}
        named = {room.room_nid for room_id in account_data if (room := await self._rooms.find(room_id))}
        return [row for row in joined if fresh[row.room_nid] or row.room_nid in named]

    async def _window(self, request: SyncRequest, row: UserRoomRow, since: int | None, upto: int) -> Window:
        is_new = (
            since is not None
            and row.stream_ordering > since
            and await self._was_outside(request, row.room_nid, since)
        )
        return Window(
            row.room_nid,
            since,
            upto,
            is_new=is_new,
            sees_all=since is not None and not is_new,
            full_state=request.full_state,
            state_after=request.state_after,
        )

    async def _was_outside(self, request: SyncRequest, room_nid: int, since: int) -> bool:
        """Whether the user was out of the room at `since` or at any time after it, before the last change."""
        changes = await self._members.list_changes_in_room(request.viewer.user_id, room_nid)
        before = [membership for stream, membership in changes if stream <= since]
        after = [membership for stream, membership in changes if stream > since][:-1]
        return not before or before[-1] != "join" or any(membership != "join" for membership in after)


def _stream(token: StreamToken | None) -> int | None:
    return None if token is None else token.room.stream


def _entry(room_id: str, parts: Sequence[bytes]) -> bytes:
    return msgspec.json.encode(room_id) + b":{" + b",".join(parts) + b"}"
