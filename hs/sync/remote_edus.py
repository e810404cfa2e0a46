"""What other servers say of the moment: who of theirs is typing, has read, is online.

Spec: server-server-api "EDUs", "Typing Notifications", "Receipts", "Presence"; "Server Access Control Lists".
"""

import asyncio
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final, TypeGuard

from hs.matrix.errors import InvalidParam, NotFound
from hs.matrix.ids import is_user_id, server_of
from hs.rooms.server_acls import ServerAcls
from hs.storage.memberships import MembershipStore
from hs.storage.receipts import READ
from hs.storage.rooms import RoomInfo, RoomStore
from hs.sync.presence import MAX_STATUS_MSG_LENGTH, Presence, RemotePresence
from hs.sync.receipts import Receipts
from hs.sync.typing import Typing

# Servers say it again every 30 to 40 seconds.
_TYPING_MS: Final = 60_000
# Of one EDU, readers of all rooms together; what is more is passed over.
_MAX_ROOMS: Final = 100
_MAX_READERS: Final = 500
_MAX_EVENTS: Final = 5
_MAX_USERS: Final = 500
_MAX_ID_LENGTH: Final = 255
# Nothing was ever longer ago than Matrix.
_MAX_AGO_MS: Final = 20 * 365 * 24 * 3600 * 1000
_STATES: Final = frozenset({"online", "unavailable", "offline"})


class RemoteEdus:
    """Passes on what other servers say of their users, where it is for us; other kinds are ignored."""

    def __init__(
        self,
        rooms: RoomStore,
        members: MembershipStore,
        acls: ServerAcls,
        typing: Typing,
        receipts: Receipts,
        presence: Presence,
    ) -> None:
        self._rooms = rooms
        self._members = members
        self._acls = acls
        self._typing = typing
        self._receipts = receipts
        self._presence = presence

    async def on_edu(self, origin: str, edu_type: str, content: Mapping[str, Any]) -> None:
        """Take in an EDU of the server `origin`; what is wrong with it is passed over."""
        if edu_type == "m.typing":
            await self._take_typing(origin, content)
        elif edu_type == "m.receipt":
            left = _MAX_READERS
            for room_id, by_type in islice(content.items(), _MAX_ROOMS):
                readers = by_type.get(READ) if isinstance(by_type, dict) else None
                if isinstance(readers, dict) and left > 0:
                    await self._take_receipts(origin, room_id, dict(islice(readers.items(), left)))
                    left -= len(readers)
        elif edu_type == "m.presence":
            push = content.get("push")
            if isinstance(push, list):
                found = (_read_presence(origin, entry) for entry in push[:_MAX_USERS])
                if users := [user for user in found if user is not None]:
                    await self._presence.set_remote(users)

    async def _take_typing(self, origin: str, content: Mapping[str, Any]) -> None:
        room_id, user_id, is_typing = (content.get(key) for key in ("room_id", "user_id", "typing"))
        if not _is_user_of(user_id, origin) or not isinstance(is_typing, bool):
            return
        room = await self._find_room(origin, room_id)
        if room is None or not await self._members.list_joined_among(room.room_nid, [user_id]):
            return
        if is_typing:
            self._typing.start(room.room_nid, user_id, _TYPING_MS)
        else:
            self._typing.stop(room.room_nid, user_id)

    async def _take_receipts(self, origin: str, room_id: str, readers: Mapping[str, Any]) -> None:
        theirs = {
            user_id: receipt
            for user_id, receipt in readers.items()
            if _is_user_of(user_id, origin) and isinstance(receipt, dict)
        }
        room = await self._find_room(origin, room_id) if theirs else None
        if room is None:
            return
        joined = await self._members.list_joined_among(room.room_nid, list(theirs))
        # Side by side, so that they are written together.
        await asyncio.gather(*(self._take_receipt(room, user_id, theirs[user_id]) for user_id in joined))

    async def _take_receipt(self, room: RoomInfo, user_id: str, receipt: Mapping[str, Any]) -> None:
        event_ids, data = receipt.get("event_ids"), receipt.get("data")
        data = data if isinstance(data, dict) else {}
        thread_id, ts = data.get("thread_id"), data.get("ts")
        if not isinstance(event_ids, list) or not (thread_id is None or _is_id(thread_id)):
            return
        ts = ts if type(ts) is int and 0 <= ts < 2**53 else None
        for event_id in event_ids[:_MAX_EVENTS]:
            if _is_id(event_id):
                try:
                    await self._receipts.set(room, user_id, READ, event_id, thread_id, ts)
                except (NotFound, InvalidParam):
                    # An event that is not here yet, or of another thread.
                    continue

    async def _find_room(self, origin: str, room_id: object) -> RoomInfo | None:
        """The room, if the server may say something about it."""
        if not _is_id(room_id):
            return None
        room = await self._rooms.find(room_id)
        return room if room is not None and await self._acls.is_allowed(room, origin) else None


def _read_presence(origin: str, entry: object) -> RemotePresence | None:
    if not isinstance(entry, dict):
        return None
    user_id, state = entry.get("user_id"), entry.get("presence")
    if not _is_user_of(user_id, origin) or not isinstance(state, str) or state not in _STATES:
        return None
    ago, status_msg = entry.get("last_active_ago"), entry.get("status_msg")
    if not isinstance(status_msg, str) or "\x00" in status_msg or not status_msg:
        status_msg = None
    return RemotePresence(
        user_id,
        state,
        min(ago, _MAX_AGO_MS) if type(ago) is int and ago >= 0 else None,
        None if status_msg is None else status_msg[:MAX_STATUS_MSG_LENGTH],
    )


def _is_user_of(user_id: object, origin: str) -> TypeGuard[str]:
    return (
        isinstance(user_id, str) and _is_id(user_id) and is_user_id(user_id) and server_of(user_id) == origin
    )


def _is_id(text: object) -> TypeGuard[str]:
    return isinstance(text, str) and 0 < len(text) <= _MAX_ID_LENGTH and "\x00" not in text
