"""What the endpoints of rooms take from their paths, checked before any of it reaches the database."""

from typing import Protocol

from hs.matrix.errors import Forbidden, InvalidParam
from hs.matrix.ids import parse_room_id
from hs.storage.rooms import RoomInfo

# Clients count or use a UUID; what is longer is no identifier any more.
MAX_TXN_ID_LENGTH = 255


class FindRoom(Protocol):
    """Rooms by id."""

    async def find(self, room_id: str) -> RoomInfo | None:
        """The room, or None where we have never been part of it."""

    async def get(self, room_id: str) -> RoomInfo:
        """The room; NotFound where we have never been part of it."""


async def get_room(rooms: FindRoom, room_id: str) -> RoomInfo:
    """The room; InvalidParam for what is no room id, NotFound for an unknown room."""
    parse_room_id(room_id)
    return await rooms.get(room_id)


async def get_own_room(rooms: FindRoom, room_id: str) -> RoomInfo:
    """The room that the caller claims to be in: an unknown one is one they are not in (Forbidden)."""
    parse_room_id(room_id)
    room = await rooms.find(room_id)
    if room is None:
        raise Forbidden("you are not in this room")
    return room


def check_name(what: str, value: str) -> str:
    """The value of a path parameter that goes into an event or a key of ours; InvalidParam for NULs."""
    if "\x00" in value:
        raise InvalidParam(f"{what} must not hold a NUL character")
    return value


def check_txn_id(txn_id: str) -> str:
    """The transaction id; InvalidParam where no client would make such a one."""
    if len(txn_id) > MAX_TXN_ID_LENGTH:
        raise InvalidParam(f"a transaction id has at most {MAX_TXN_ID_LENGTH} characters")
    return check_name("the transaction id", txn_id)
