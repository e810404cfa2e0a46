"""The rooms of a sync: which have news for the user, and what each of them shows.

Spec: client-server-api GET /sync, Rooms.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from hs.matrix.tokens import StreamToken
from hs.storage.members import MemberStore, UserRoomRow
from hs.storage.rooms import RoomInfo, RoomStore
from hs.storage.timeline import TimelineStore
from hs.sync.account_data import AccountDataEvents
from hs.sync.news import RoomNews
from hs.sync.room_extras import Extras, RoomExtras
from hs.sync.room_section import RoomSections
from hs.sync.sync_request import SyncRequest
from hs.sync.user_rooms import OUTSIDE
from hs.sync.window import Window

# Rooms of one sync that are read side by side.
_ROOMS_AT_ONCE = 50


class SyncRooms:
    """The rooms that a user is in, and those that the user has left."""

    def __init__(
        self,
        rooms: RoomStore,
        members: MemberStore,
        timeline: TimelineStore,
        news: RoomNews,
        sections: RoomSections,
        extras: RoomExtras,
        account_data: AccountDataEvents,
    ) -> None:
        self._rooms = rooms
        self._members = members
        self._timeline = timeline
        self._news = news
        self._sections = sections
        self._extras = extras
        self._account_data = account_data

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
            rows = await self._with_news(request, known, now)
        if any(row.stream_ordering > upto for row in rows.values()):
            rows = await self._as_of(request.viewer.user_id, rows, upto)
        if since is None and request.wanted.definition.room.include_leave:
            return rows
        return {nid: row for nid, row in rows.items() if _is_of_interest(row, request, since)}

    async def _with_news(
        self, request: SyncRequest, known: Mapping[int, UserRoomRow], now: StreamToken
    ) -> dict[int, UserRoomRow]:
        """The rooms with new events, or with something new beside them."""
        assert request.since is not None
        stream = request.since.room.stream
        rooms: Iterable[int] | None = self._news.list_rooms_since(known.keys(), stream)
        if rooms is None or request.since.receipts < now.receipts or request.since.typing < now.typing:
            # It changes with the next commit, and now there is something to wait for.
            known = dict(known)
            if rooms is None:
                rooms = await self._timeline.list_rooms_with_news(list(known), stream)
            user_id = request.viewer.user_id
            rooms = {*rooms, *await self._extras.list_rooms_since(user_id, known.keys(), request.since, now)}
        return {room_nid: known[room_nid] for room_nid in rooms}

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
            entries += await self._joined_entries(request, part, infos, now, account_data)
        shown = {infos[room_nid].room_id for room_nid in joined}
        for room_id, data in account_data.items():
            if room_id not in shown and request.wanted.accepts_room(room_id):
                room = await self._rooms.find(room_id)
                if room is not None and await self._is_joined(request, room):
                    extras = await self._extras.read(
                        request.viewer.user_id, (room.room_nid,), now, now, request.wanted
                    )
                    entries.append(_joined_entry(room_id, _quiet(request, now), data, extras[room.room_nid]))
        return entries

    async def _joined_entries(
        self,
        request: SyncRequest,
        rows: Sequence[UserRoomRow],
        infos: Mapping[int, RoomInfo],
        now: StreamToken,
        account_data: Mapping[str, list[bytes]],
    ) -> list[bytes]:
        new = await self._list_new(request, rows)
        windows = [
            _window(request, infos[row.room_nid], now.room.stream, row, row.room_nid in new) for row in rows
        ]
        if new:
            # What the client knew of these rooms it has dropped when the user left them.
            room_ids = [infos[room_nid].room_id for room_nid in new]
            account_data = {**account_data, **await self._account_data.of_rooms(request, room_ids)}
        extras = await self._read_extras(
            request, [row.room_nid for row in rows if row.room_nid not in new], new, now
        )

        async def build(window: Window) -> bytes | None:
            parts = await self._sections.build(window, request.viewer, request.wanted)
            data, extra = account_data.get(window.room.room_id, ()), extras[window.room_nid]
            if parts is None and not data and not extra.is_news:
                return None
            return _joined_entry(window.room.room_id, parts or _quiet(request, now), data, extra)

        if len(windows) == 1:
            entries = [await build(windows[0])]
        else:
            # Side by side: what they ask the database for becomes a few queries for all of them.
            entries = await asyncio.gather(*map(build, windows))
        return [entry for entry in entries if entry is not None]

    async def _list_new(self, request: SyncRequest, rows: Sequence[UserRoomRow]) -> set[int]:
        """Those of the rooms that the client knows nothing of: the user was out of them at `since` or later."""
        since = _stream(request.since)
        changed = [] if since is None else [row for row in rows if row.stream_ordering > since]
        if not changed:
            return set()
        was_outside = await asyncio.gather(*(self._was_outside(request, row) for row in changed))
        return {row.room_nid for row, outside in zip(changed, was_outside, strict=True) if outside}

    async def _read_extras(
        self, request: SyncRequest, known: Collection[int], new: Collection[int], now: StreamToken
    ) -> dict[int, Extras]:
        user_id, wanted = request.viewer.user_id, request.wanted
        extras = await self._extras.read(user_id, known, request.since, now, wanted) if known else {}
        return extras | await self._extras.read(user_id, new, None, now, wanted) if new else extras

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
            if parts is None:
                parts = await self._sections.departure(window, row.event_nid, request.viewer, request.wanted)
            entries.append(_entry(room.room_id, [*parts, b'"account_data":{"events":[]}']))
        return entries

    async def _as_of(
        self, user_id: str, rows: Mapping[int, UserRoomRow], upto: int
    ) -> dict[int, UserRoomRow]:
        """The rows as they were at `upto`: some were read while their commit was about to be announced."""
        late = [nid for nid, row in rows.items() if row.stream_ordering > upto]
        earlier = {row.room_nid: row for row in await self._members.list_last_changes(user_id, late, upto)}
        return {
            nid: known
            for nid, row in rows.items()
            if (known := row if row.stream_ordering <= upto else earlier.get(nid)) is not None
        }

    async def _is_joined(self, request: SyncRequest, room: RoomInfo) -> bool:
        changes = await self._members.list_changes_in_room(request.viewer.user_id, room.room_nid)
        return bool(changes) and changes[-1][1] == "join"

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
            state_after_name=request.state_after_name,
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


def _window(request: SyncRequest, room: RoomInfo, upto: int, row: UserRoomRow, is_new: bool) -> Window:
    since = _stream(request.since)
    return Window(
        room,
        since,
        upto,
        is_new=is_new,
        sees_all=since is not None and not is_new,
        joined_at=row.stream_ordering,
        full_state=request.full_state,
        state_after=request.state_after,
        state_after_name=request.state_after_name,
    )


def _is_of_interest(row: UserRoomRow, request: SyncRequest, since: int | None) -> bool:
    """Invites, knocks and leaves are told once; what else happens there is none of the user's business."""
    if row.membership == "join" or (since is not None and row.stream_ordering > since):
        return True
    return row.membership not in OUTSIDE and (since is None or request.full_state)


def _entry(room_id: str, parts: Sequence[bytes]) -> bytes:
    return msgspec.json.encode(room_id) + b":{" + b",".join(parts) + b"}"


def _joined_entry(
    room_id: str, parts: Sequence[bytes], account_data: Sequence[bytes], extras: Extras
) -> bytes:
    data = b'"account_data":{"events":[%b]}' % b",".join(account_data)
    return _entry(room_id, [*parts, data, extras.render()])


def _quiet(request: SyncRequest, now: StreamToken) -> list[bytes]:
    """Timeline and state of a room in which no event is new: clients expect them in every room."""
    return [
        b'"timeline":{"events":[],"limited":false,"prev_batch":"%b"}' % str(now.room).encode(),
        b'"%b":{"events":[]}' % (request.state_after_name if request.state_after else b"state"),
    ]
