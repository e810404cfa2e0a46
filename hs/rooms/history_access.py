"""Whether other servers would tell us of a part of a room's history: by point look-ups in the state there.

Spec: server-server-api "Backfilling": events are given to servers that may see them by the room's history visibility.
"""

from hs.rooms.state import RoomStates
from hs.storage.backfill import BackfillStore
from hs.storage.events import EventStore
from hs.storage.rooms import RoomInfo

# Of our users, so many are looked for in the state of the time.
_MAX_USERS = 100
_VISIBILITY = ("m.room.history_visibility", "")


class HistoryAccess:
    """Judges for this server as a whole."""

    def __init__(self, states: RoomStates, events: EventStore, store: BackfillStore) -> None:
        self._states = states
        self._events = events
        self._store = store

    async def may_read(self, room: RoomInfo, event_nid: int) -> bool:
        """Whether some user of ours may see the event."""
        record = await self._events.get(event_nid)
        root = self._states.after(record)
        nid = await self._states.get(room.room_nid, root, *_VISIBILITY)
        visibility = (await self._events.get(nid)).content.get("history_visibility") if nid else "shared"
        if visibility not in ("joined", "invited"):
            return True
        users = await self._store.list_own_users(room.room_nid, _MAX_USERS)
        nids = await self._states.get_many(room.room_nid, root, [("m.room.member", user) for user in users])
        members = await self._events.get_many(list(nids.values()))
        enough = ("join",) if visibility == "joined" else ("join", "invite")
        return any(member.content.get("membership") in enough for member in members.values())
