"""Users who follow a room to the one that replaces it keep what they had set for it.

Spec: client-server-api module "Room upgrades". Beyond it, as clients have come to expect: push rules, tags
and the mark as a direct chat.
"""

import logging
from typing import Any

import msgspec

from hs.matrix.errors import MatrixError
from hs.matrix.ids import parse_room_id
from hs.matrix.push_rules import follow_room
from hs.rooms.state import RoomStates
from hs.storage.events import EventStore
from hs.storage.rooms import RoomInfo
from hs.storage.user_data import AccountDataStore

logger = logging.getLogger(__name__)

_TAGS = "m.tag"
_DIRECT = "m.direct"


class RoomMoves:
    """Carries over what belongs to users."""

    def __init__(self, account_data: AccountDataStore, states: RoomStates, events: EventStore) -> None:
        self._account_data = account_data
        self._states = states
        self._events = events

    async def carry_over(self, room: RoomInfo, user_id: str) -> None:
        """Do for `room` what the user has set for its predecessor; nothing where it has none."""
        old = await self._find_predecessor(room)
        if old is None:
            return
        try:
            await self._copy_push_rules(user_id, old, room.room_id)
            await self._copy_tags(user_id, old, room.room_id)
            await self._copy_direct(user_id, old, room.room_id)
        except MatrixError as refused:
            # The user is in the room; that is what was asked for.
            logger.info("%s keeps nothing of %s: %s", user_id, old, refused)

    async def _find_predecessor(self, room: RoomInfo) -> str | None:
        root = await self._states.current(room.room_nid)
        nid = await self._states.get(room.room_nid, root, "m.room.create", "")
        content = (await self._events.get(nid)).content if nid else {}
        predecessor = content.get("predecessor")
        old = predecessor.get("room_id") if isinstance(predecessor, dict) else None
        if not isinstance(old, str):
            return None
        try:
            parse_room_id(old)
        except MatrixError:
            return None
        return old

    async def _copy_push_rules(self, user_id: str, old: str, new: str) -> None:
        rules = await self._account_data.find_push_rules(user_id)
        if follow_room(rules, old, new) != rules:
            await self._account_data.change_push_rules(user_id, lambda rules: follow_room(rules, old, new))

    async def _copy_tags(self, user_id: str, old: str, new: str) -> None:
        tags = await self._account_data.find_account_data(user_id, old, _TAGS)
        if tags is not None and await self._account_data.find_account_data(user_id, new, _TAGS) is None:
            await self._account_data.set_account_data(user_id, new, _TAGS, tags)

    async def _copy_direct(self, user_id: str, old: str, new: str) -> None:
        stored = await self._account_data.find_account_data(user_id, "", _DIRECT)
        if stored is not None and _follow_all(stored, old, new) is not None:
            # A client may store its own list at this moment: what counts is what is there by then.
            await self._account_data.change_account_data(
                user_id, "", _DIRECT, lambda stored: _follow_all(stored or b"{}", old, new) or stored or b"{}"
            )


def _follow_all(stored: bytes, old: str, new: str) -> bytes | None:
    """The content of m.direct with `new` wherever `old` is; None where that changes nothing."""
    direct: dict[str, Any] = msgspec.json.decode(stored)
    changed = {person: _followed(rooms, old, new) for person, rooms in direct.items()}
    return msgspec.json.encode(changed) if changed != direct else None


def _followed(rooms: Any, old: str, new: str) -> Any:
    # Clients write this; whatever it is, it is theirs.
    return [*rooms, new] if isinstance(rooms, list) and old in rooms and new not in rooms else rooms
