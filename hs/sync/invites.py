"""Rooms that a user is invited to or knocks at, with the stripped state that names them.

Spec: client-server-api "Stripped state", GET /sync `invite_state` and `knock_state`.
"""

from collections.abc import Iterable

import msgspec

from hs.rooms.state import RoomStates
from hs.storage.events import EventStore
from hs.storage.members import UserRoomRow
from hs.storage.rooms import RoomStore
from hs.sync.client_events import stripped_json

_NAMING = (
    "m.room.create",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.join_rules",
    "m.room.canonical_alias",
    "m.room.encryption",
)


class InviteSections:
    """Builds the entries of `rooms.invite` and `rooms.knock`."""

    def __init__(self, rooms: RoomStore, states: RoomStates, events: EventStore) -> None:
        self._rooms = rooms
        self._states = states
        self._events = events

    async def build(
        self, user_id: str, rows: dict[int, UserRoomRow], since: int | None, upto: int
    ) -> tuple[list[bytes], list[bytes]]:
        """Invites and knocks that are newer than `since` (None: all)."""
        invited = [row for row in rows.values() if row.membership == "invite"]
        knocked = [row for row in rows.values() if row.membership == "knock"]
        return (
            [await self._entry(row, user_id, b"invite_state") for row in _new(invited, since, upto)],
            [await self._entry(row, user_id, b"knock_state") for row in _new(knocked, since, upto)],
        )

    async def _entry(self, row: UserRoomRow, user_id: str, name: bytes) -> bytes:
        room = await self._rooms.by_nid(row.room_nid)
        # The state at the invite: what happened since is none of the invited user's business.
        root = self._states.after(await self._events.get(row.event_nid))
        keys = [(type, "") for type in _NAMING] + [("m.room.member", row.sender), ("m.room.member", user_id)]
        nids = await self._states.get_many(row.room_nid, root, dict.fromkeys(keys))
        found = await self._events.get_many(list(nids.values()))
        events = b",".join(stripped_json(found[nid]) for nid in nids.values())
        return b'%b:{"%b":{"events":[%b]}}' % (msgspec.json.encode(room.room_id), name, events)


def _new(rows: Iterable[UserRoomRow], since: int | None, upto: int) -> list[UserRoomRow]:
    return [
        row for row in rows if (since is None or row.stream_ordering > since) and row.stream_ordering <= upto
    ]
