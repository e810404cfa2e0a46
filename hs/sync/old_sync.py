"""GET /initialSync and GET /rooms/{roomId}/initialSync: what /sync replaced.

Spec: client-server-api, the deprecated operations of those names.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from hs.matrix.filters import MAX_LIMIT, Filter, RoomEventFilter, RoomFilter, SyncFilter, compile_filter
from hs.matrix.tokens import RoomToken, StreamToken
from hs.storage.aliases import DirectoryStore
from hs.storage.events import EventStore
from hs.storage.members import MemberStore, UserRoomRow
from hs.storage.rooms import RoomInfo, RoomStore
from hs.storage.user_data import AccountDataEvent, AccountDataStore
from hs.sync.access import Access
from hs.sync.client_events import ClientEvents, Viewer
from hs.sync.ignored_users import IgnoredUsers
from hs.sync.presence import Presence
from hs.sync.room_reader import RoomReader
from hs.sync.room_timeline import RoomTimelines
from hs.sync.user_rooms import OUTSIDE, UserRooms
from hs.sync.window import Window

# Messages per room where the client does not say.
DEFAULT_LIMIT = 10
# Whole answers that are built at the same time, and rooms of one that are: live traffic gets its share.
_AT_ONCE = 4
_ROOMS_AT_ONCE = 10
# What the schema knows as the caller's membership; a knock is not among it.
_SHOWN = ("invite", "join", "leave", "ban")


@dataclass(frozen=True, slots=True)
class Moment:
    """What a room is shown as of."""

    access: Access
    upto: int


class RoomSnapshots:
    """Shows one room: last messages and state."""

    def __init__(
        self,
        timelines: RoomTimelines,
        reader: RoomReader,
        events: EventStore,
        client_events: ClientEvents,
        directory: DirectoryStore,
        ignored_users: IgnoredUsers,
    ) -> None:
        self._ignored_users = ignored_users
        self._timelines = timelines
        self._reader = reader
        self._events = events
        self._client_events = client_events
        self._directory = directory

    async def read(self, room: RoomInfo, viewer: Viewer, moment: Moment, limit: int) -> list[bytes]:
        """The members `messages` and `state` of the room's JSON object."""
        upto = min(moment.upto, moment.access.until)
        records, memberships, start = [], {}, str(RoomToken(upto))
        if limit > 0:
            timeline = await self._timelines.read(Window(room, None, upto), viewer, _last(limit))
            records, memberships, start = timeline.records, timeline.memberships, timeline.prev_batch
        chunk = await self._client_events.render(records, viewer, memberships, with_room_id=True)
        return [
            b'"messages":{"start":%b,"end":%b,"chunk":[%b]}'
            % (
                msgspec.json.encode(start),
                msgspec.json.encode(str(RoomToken(upto))),
                b",".join(chunk),
            ),
            b'"state":' + await self._reader.state(room, viewer, moment.access),
        ]

    async def list_shown(self, viewer: Viewer, rows: Sequence[UserRoomRow]) -> list[UserRoomRow]:
        """The rooms without those that ignored users invite to."""
        ignored = await self._ignored_users.get(viewer.user_id)
        return [row for row in rows if row.membership != "invite" or row.sender not in ignored]

    async def invite(self, viewer: Viewer, row: UserRoomRow) -> list[bytes]:
        """The member `invite` of the room's JSON object."""
        record = await self._events.get(row.event_nid)
        [event] = await self._client_events.render([record], viewer, with_room_id=True)
        return [b'"invite":' + event]

    async def list_published(self, room_nids: Sequence[int]) -> set[int]:
        """Those of the rooms that everybody finds in the list of public rooms."""
        return await self._directory.list_published(room_nids)


class OldSync:
    """Answers both."""

    def __init__(
        self,
        current_token: Callable[[], StreamToken],
        user_rooms: UserRooms,
        rooms: RoomStore,
        members: MemberStore,
        account_data: AccountDataStore,
        presence: Presence,
        snapshots: RoomSnapshots,
    ) -> None:
        self._current_token = current_token
        self._user_rooms = user_rooms
        self._rooms = rooms
        self._members = members
        self._account_data = account_data
        self._presence = presence
        self._snapshots = snapshots
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def initial_sync(self, viewer: Viewer, limit: int | None, with_left: bool) -> bytes:
        """All rooms of the user with their last `limit` messages, as JSON."""
        async with self._turns:
            return await self._build(viewer, _bounded(limit), with_left)

    async def room_initial_sync(self, room: RoomInfo, viewer: Viewer, access: Access) -> bytes:
        """One room that the user may read, as JSON."""
        row = (await self._user_rooms.get(viewer.user_id)).get(room.room_nid)
        now = self._current_token()
        data = await self._account_data.list_room_account_data(viewer.user_id, [room.room_id])
        async with self._turns:
            return _room_json(
                room,
                None if row is None else row.membership,
                bool(await self._snapshots.list_published([room.room_nid])),
                await self._snapshots.read(room, viewer, Moment(access, now.room.stream), DEFAULT_LIMIT),
                _by_room(data).get(room.room_id, ()),
            )

    async def _build(self, viewer: Viewer, limit: int, with_left: bool) -> bytes:
        known = await self._user_rooms.get(viewer.user_id)
        # Nothing is awaited between the token and the memberships that go with it.
        now = self._current_token()
        rows = [row for row in known.values() if _is_wanted(row, with_left)]
        data = _by_room(await self._account_data.list_account_data(viewer.user_id))
        left = [row.room_nid for row in rows if row.membership in OUTSIDE]
        forgotten = await self._members.list_forgotten(viewer.user_id, left) if left else set()
        rows = await self._snapshots.list_shown(
            viewer, [row for row in rows if row.room_nid not in forgotten]
        )
        infos = await self._rooms.list_by_nids([row.room_nid for row in rows])
        published = await self._snapshots.list_published(list(infos))
        presence = await self._presence.list_events(viewer.user_id, None, now.presence)

        async def show(row: UserRoomRow) -> bytes:
            room = infos[row.room_nid]
            parts = await self._read(room, viewer, row, now.room.stream, limit)
            is_published = row.room_nid in published
            return _room_json(room, row.membership, is_published, parts, data.get(room.room_id, ()))

        shown: list[bytes] = []
        for first in range(0, len(rows), _ROOMS_AT_ONCE):
            shown += await asyncio.gather(*map(show, rows[first : first + _ROOMS_AT_ONCE]))
        return b'{"end":%b,"rooms":[%b],"presence":[%b],"account_data":[%b]}' % (
            msgspec.json.encode(str(now)),
            b",".join(shown),
            b",".join(presence),
            b",".join(data.get("", ())),
        )

    async def _read(
        self, room: RoomInfo, viewer: Viewer, row: UserRoomRow, upto: int, limit: int
    ) -> list[bytes]:
        if row.membership == "join":
            return await self._snapshots.read(room, viewer, Moment(Access(is_member=True), upto), limit)
        if row.membership == "invite":
            return await self._snapshots.invite(viewer, row)
        departure = await self._members.find_departure(viewer.user_id, room.room_nid)
        if departure is None:
            # Invited once, or banned from outside: the room was never theirs to see.
            return []
        access = Access(False, departure.stream_ordering, departure.event_nid)
        return await self._snapshots.read(room, viewer, Moment(access, upto), limit)


def _is_wanted(row: UserRoomRow, with_left: bool) -> bool:
    return row.membership in ("join", "invite") or (with_left and row.membership in OUTSIDE)


def _bounded(limit: int | None) -> int:
    return DEFAULT_LIMIT if limit is None else min(limit, MAX_LIMIT)


def _last(limit: int) -> SyncFilter:
    return compile_filter(Filter(room=RoomFilter(timeline=RoomEventFilter(limit=limit))))


def _by_room(data: Sequence[AccountDataEvent]) -> Mapping[str, list[bytes]]:
    """Account data as JSON, by room id; that of the whole account under ""."""
    found: dict[str, list[bytes]] = {}
    for one in data:
        event = b'{"type":%b,"content":%b}' % (msgspec.json.encode(one.type), one.content_json)
        found.setdefault(one.room_id, []).append(event)
    return found


def _room_json(
    room: RoomInfo,
    membership: str | None,
    is_published: bool,
    parts: Sequence[bytes],
    account_data: Sequence[bytes],
) -> bytes:
    head = [b'"room_id":' + msgspec.json.encode(room.room_id)]
    if membership in _SHOWN:
        head.append(b'"membership":"%b"' % membership.encode())
    tail = [
        b'"visibility":"%b"' % (b"public" if is_published else b"private"),
        b'"account_data":[%b]' % b",".join(account_data),
    ]
    return b"{%b}" % b",".join([*head, *parts, *tail])
