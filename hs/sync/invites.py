"""Rooms that a user is invited to or knocks at, with the stripped state that names them.

Spec: client-server-api "Stripped state", GET /sync `invite_state` and `knock_state`.
"""

from collections.abc import Mapping

import msgspec

from hs._fast.event_record import EventRecord
from hs.matrix.filters import SyncFilter
from hs.rooms.naming import NAMING
from hs.rooms.state import RoomStates
from hs.storage.events import EventStore, Flag
from hs.storage.members import UserRoomRow
from hs.storage.outside import StrippedStateStore
from hs.storage.rooms import RoomInfo, RoomStore
from hs.sync.client_events import stripped_json
from hs.sync.ignored_users import IgnoredUsers


class InviteSections:
    """Builds the entries of `rooms.invite` and `rooms.knock`."""

    def __init__(
        self,
        rooms: RoomStore,
        states: RoomStates,
        events: EventStore,
        told: StrippedStateStore,
        ignored_users: IgnoredUsers,
    ) -> None:
        self._rooms = rooms
        self._states = states
        self._events = events
        self._told = told
        self._ignored_users = ignored_users

    async def build(
        self, user_id: str, rows: Mapping[int, UserRoomRow], wanted: SyncFilter
    ) -> tuple[list[bytes], list[bytes]]:
        """The entries of those of the rooms that the user is invited to, and that the user knocks at."""
        return (
            await self._entries(user_id, rows, wanted, "invite"),
            await self._entries(user_id, rows, wanted, "knock"),
        )

    async def _entries(
        self, user_id: str, rows: Mapping[int, UserRoomRow], wanted: SyncFilter, membership: str
    ) -> list[bytes]:
        chosen = [row for row in rows.values() if row.membership == membership]
        if chosen and membership == "invite":
            ignored = await self._ignored_users.get(user_id)
            chosen = [row for row in chosen if row.sender not in ignored]
        infos = await self._rooms.list_by_nids([row.room_nid for row in chosen])
        return [
            await self._entry(room, row, user_id)
            for row in chosen
            if wanted.accepts_room((room := infos[row.room_nid]).room_id)
        ]

    async def _entry(self, room: RoomInfo, row: UserRoomRow, user_id: str) -> bytes:
        record = await self._events.get(row.event_nid)
        if record.flags & Flag.OUTLIER:
            return _render(room, row.membership, await self._list_told(record, row, user_id))
        # The state at the invite: what happened since is none of the invited user's business.
        root = self._states.after(record)
        keys = [(type, "") for type in NAMING] + [("m.room.member", row.sender), ("m.room.member", user_id)]
        nids = await self._states.get_many(row.room_nid, root, dict.fromkeys(keys))
        found = await self._events.get_many(list(nids.values()))
        return _render(
            room, row.membership, [stripped_json(found[nid]) for nid in nids.values() if nid in found]
        )

    async def _list_told(self, record: EventRecord, row: UserRoomRow, user_id: str) -> list[bytes]:
        """What the room's servers have told the user, and the user's own membership."""
        told = await self._told.find(user_id, row.room_nid)
        events = [] if told is None else msgspec.json.decode(told, type=list[_StrippedEvent])
        others = [event for event in events if (event.type, event.state_key) != (record.type, user_id)]
        return [*(msgspec.json.encode(event) for event in others), stripped_json(record)]


class _StrippedEvent(msgspec.Struct):
    type: str
    state_key: str
    sender: str
    content: msgspec.Raw


def _render(room: RoomInfo, membership: str, events: list[bytes]) -> bytes:
    room_id, name = msgspec.json.encode(room.room_id), membership.encode()
    return b'%b:{"%b_state":{"events":[%b]}}' % (room_id, name, b",".join(events))
