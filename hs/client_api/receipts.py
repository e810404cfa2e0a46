"""POST /rooms/{roomId}/receipt/{receiptType}/{eventId} and /rooms/{roomId}/read_markers.

Spec: client-server-api modules "Receipts" and "Fully read markers".
"""

import asyncio
from typing import Any

import msgspec

from hs.accounts.account_data import FULLY_READ, AccountData
from hs.client_api.paths import v3
from hs.client_api.room_params import get_own_room
from hs.http.endpoint import Auth, Caller, Empty, endpoint
from hs.matrix.errors import InvalidParam
from hs.matrix.ids import parse_event_id
from hs.storage.receipts import READ, READ_PRIVATE
from hs.storage.rooms import RoomInfo, RoomStore
from hs.sync.access import RoomAccess
from hs.sync.receipts import Receipts


class ReceiptBody(msgspec.Struct):
    """The body of POST /receipt; what is wrong with `thread_id` has an error code of its own."""

    thread_id: Any = msgspec.UNSET


class ReadMarkersBody(msgspec.Struct):
    """The body of POST /read_markers."""

    fully_read: str | None = msgspec.field(default=None, name=FULLY_READ)
    read: str | None = msgspec.field(default=None, name=READ)
    read_private: str | None = msgspec.field(default=None, name=READ_PRIVATE)


class ReceiptsApi:
    """Takes receipts and read markers."""

    def __init__(
        self, rooms: RoomStore, access: RoomAccess, receipts: Receipts, account_data: AccountData
    ) -> None:
        self._rooms = rooms
        self._access = access
        self._receipts = receipts
        self._account_data = account_data

    @endpoint(
        "POST",
        *v3("/rooms/{room_id}/receipt/{receipt_type}/{event_id}"),
        auth=Auth.USER,
        limit="typing",
    )
    async def post_receipt(
        self, caller: Caller, room_id: str, receipt_type: str, event_id: str, body: ReceiptBody
    ) -> Empty:
        """The caller has read up to the event."""
        if receipt_type not in (READ, READ_PRIVATE, FULLY_READ):
            raise InvalidParam(f"receipts are {READ}, {READ_PRIVATE} or {FULLY_READ}")
        thread_id = _thread_id(body.thread_id)
        if thread_id is not None and receipt_type == FULLY_READ:
            raise InvalidParam(f"{FULLY_READ} is of a whole room, not of a thread")
        parse_event_id(event_id)
        room = await self._get_room(caller, room_id)
        if receipt_type == FULLY_READ:
            await self._set_fully_read(caller, room, event_id)
        else:
            await self._receipts.set(room, caller.user_id, receipt_type, event_id, thread_id)
        return Empty()

    @endpoint("POST", *v3("/rooms/{room_id}/read_markers"), auth=Auth.USER, limit="typing")
    async def post_read_markers(self, caller: Caller, room_id: str, body: ReadMarkersBody) -> Empty:
        """Several markers at once: all of them, or none where one of the events is not the room's."""
        given = {
            event_id for event_id in (body.fully_read, body.read, body.read_private) if event_id is not None
        }
        for event_id in given:
            parse_event_id(event_id)
        room = await self._get_room(caller, room_id)
        await asyncio.gather(*(self._receipts.check_event(room, event_id) for event_id in given))
        changes = [
            self._receipts.set(room, caller.user_id, receipt_type, event_id, None)
            for receipt_type, event_id in ((READ, body.read), (READ_PRIVATE, body.read_private))
            if event_id is not None
        ]
        if body.fully_read is not None:
            changes.append(self._set_fully_read(caller, room, body.fully_read))
        await asyncio.gather(*changes)
        return Empty()

    async def _get_room(self, caller: Caller, room_id: str) -> RoomInfo:
        room = await get_own_room(self._rooms, room_id)
        await self._access.check_member(room, caller.user_id)
        return room

    async def _set_fully_read(self, caller: Caller, room: RoomInfo, event_id: str) -> None:
        # read_markers.yaml: the event must belong to the room.
        await self._receipts.check_event(room, event_id)
        await self._account_data.set_fully_read(caller.user_id, room.room_id, event_id)


def _thread_id(given: Any) -> str | None:
    if given is msgspec.UNSET:
        return None
    if not isinstance(given, str) or not given:
        raise InvalidParam("thread_id must be a text that is not empty")
    return given
