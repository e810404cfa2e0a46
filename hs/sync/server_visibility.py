"""Which events of a room another server may see: those that any of its users may.

Spec: client-server-api "Room history visibility"; server-server-api "Backfilling and retrieving missing events".
Visibility and memberships are point look-ups in the state at an event; what they come to is kept by state id.
"""

from collections.abc import Mapping, Sequence

from cachetools import LRUCache

from hs._fast.event_record import EventRecord
from hs._fast.state_tree import Node
from hs.matrix.errors import InvalidParam
from hs.matrix.ids import server_of
from hs.rooms.state import RoomStates
from hs.storage.events import EventStore, Flag
from hs.storage.history import HistoryStore
from hs.storage.rooms import RoomInfo
from hs.sync.visibility import Seen

_VISIBILITY = ("m.room.history_visibility", "")
_MEMBER = "m.room.member"
# Of a server's users so many are looked for in a state, a few first: most servers' first user is in the room.
_USER_CHUNKS = (10, 100, 1000, 5000)
# About 150 bytes each.
_REMEMBERED = 100_000


class ServerVisibility:
    """Judges for servers as a whole."""

    def __init__(self, states: RoomStates, events: EventStore, store: HistoryStore) -> None:
        self._states = states
        self._events = events
        self._store = store
        # By room, server and state: whether users of the server are in the room, or invited, there.
        self._memberships: LRUCache[tuple[int, str, int], str] = LRUCache(_REMEMBERED)

    async def is_in(self, room: RoomInfo, origin: str) -> bool:
        """Whether a user of the server is in the room now."""
        return bool(await self._store.list_rooms_of(origin, [room.room_nid]))

    async def is_world_readable(self, room: RoomInfo) -> bool:
        """Whether what happens in the room now is for everybody."""
        root = await self._states.current(room.room_nid)
        return await self._visibility(room.room_nid, root) == "world_readable"

    async def was_in(self, origin: str, record: EventRecord) -> bool:
        """Whether a user of the server was in the room when the event was sent."""
        # Whoever leaves was there before.
        sides = [self._states.after(record), await self._before(record)]
        return "join" in [await self._membership(record.room_nid, root, origin) for root in sides]

    async def filter(self, origin: str, records: Sequence[EventRecord]) -> list[Seen]:
        """Those of the records, all of one room, that the server may see, in order."""
        if not records:
            return []
        is_in = bool(await self._store.list_rooms_of(origin, [records[0].room_nid]))
        hidden = await self.list_hidden(origin, records, is_in=is_in)
        return [Seen(record, "") for record in records if record.event_nid not in hidden]

    async def list_hidden(self, origin: str, records: Sequence[EventRecord], *, is_in: bool) -> set[int]:
        """Numbers of those of the records, all of one room, that the server may not see.

        `is_in` says that one of its users is in the room now. What its own users have sent, or is about them,
        is never hidden from it.
        """
        visibilities = await self._visibilities(records)
        hidden = set()
        for record in records:
            if _is_of(origin, record):
                continue
            sides = [(self._states.after(record), visibilities[record.state_id])]
            if (record.type, record.state_key) == _VISIBILITY:
                # What changes the rule is seen by whoever may see either side of it.
                before = await self._before(record)
                sides.append((before, await self._visibility(record.room_nid, before)))
            for root, visibility in sides:
                if visibility == "world_readable":
                    break
                if is_in and visibility not in ("joined", "invited"):
                    break
                membership = await self._membership(record.room_nid, root, origin)
                if membership == "join" or (membership == "invite" and visibility == "invited"):
                    break
            else:
                hidden.add(record.event_nid)
        return hidden

    async def _visibilities(self, records: Sequence[EventRecord]) -> Mapping[int, str]:
        """The rooms' history visibility by state id."""
        if not records:
            return {}
        roots = {record.state_id: self._states.after(record) for record in records}
        room_nid = records[0].room_nid
        states = await self._states.get_many_at(room_nid, list(roots.values()), [_VISIBILITY])
        nids = [state.get(_VISIBILITY, 0) for state in states]
        found = await self._events.get_many([*{nid for nid in nids if nid}])
        return {id: _text(found.get(nid), "history_visibility") for id, nid in zip(roots, nids, strict=True)}

    async def _before(self, record: EventRecord) -> Node:
        if record.flags & (Flag.OUTLIER | Flag.REJECTED):
            return self._states.after(record)
        return await self._states.before(record)

    async def _visibility(self, room_nid: int, root: Node) -> str:
        nid = await self._states.get(room_nid, root, *_VISIBILITY)
        return _text(await self._events.get(nid) if nid else None, "history_visibility")

    async def _membership(self, room_nid: int, root: Node, origin: str) -> str:
        """What the server's users are in a state: "join", "invite" or ""; the first that one of them is."""
        # A tree that was never stored has no number yet.
        key = (room_nid, origin, root.id)
        known = self._memberships.get(key) if root.id else None
        if known is None:
            known = await self._find_membership(room_nid, root, origin)
            if root.id:
                self._memberships[key] = known
        return known

    async def _find_membership(self, room_nid: int, root: Node, origin: str) -> str:
        best, after = "", -1
        for size in _USER_CHUNKS:
            users = await self._store.list_users(room_nid, origin, after, size)
            keys = {(_MEMBER, user_id): key_ix for key_ix, user_id in users}
            nids = await self._states.get_numbered(room_nid, root, keys)
            members = await self._events.get_many(list(nids.values()))
            kinds = {_text(member, "membership") for member in members.values()}
            if "join" in kinds:
                return "join"
            if "invite" in kinds:
                best = "invite"
            if len(users) < size:
                break
            after = users[-1][0]
        return best


def _text(record: EventRecord | None, key: str) -> str:
    value = record.content.get(key) if record is not None else None
    return value if isinstance(value, str) else ""


def _is_of(origin: str, record: EventRecord) -> bool:
    ids = [record.sender, *([record.state_key] if record.type == _MEMBER and record.state_key else [])]
    try:
        return any(server_of(id) == origin for id in ids)
    except InvalidParam:
        # Old rooms have members whose ids are none.
        return False
