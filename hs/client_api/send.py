"""Sending events: messages, state and redactions.

Spec: client-server-api "Sending events to a room" and "Redactions".
"""

from typing import Any

import msgspec

from hs.client_api.member_events import MemberEvents
from hs.client_api.paths import v3
from hs.client_api.room_params import check_name, check_txn_id, get_own_room
from hs.directory.aliases import AliasDirectory
from hs.http.endpoint import Auth, Caller, endpoint
from hs.matrix.errors import BadJson, MissingParam, UserSuspended
from hs.matrix.ids import parse_event_id
from hs.rooms.annotations import Annotations
from hs.rooms.create import check_acl
from hs.rooms.drafts import Draft, Transaction
from hs.rooms.threads import check_thread
from hs.rooms.writer import RoomWriter
from hs.storage.events import EventStore
from hs.storage.rooms import RoomInfo, RoomStore


class RedactBody(msgspec.Struct):
    """The body of PUT /redact: the content of the redaction, without what is redacted."""

    reason: str | None = None


class SendApi:
    """Takes events from clients into rooms."""

    def __init__(
        self,
        rooms: RoomStore,
        writer: RoomWriter,
        members: MemberEvents,
        directory: AliasDirectory,
        annotations: Annotations,
        events: EventStore,
        server_name: str,
    ) -> None:
        self._rooms = rooms
        self._writer = writer
        self._members = members
        self._directory = directory
        self._annotations = annotations
        self._events = events
        self._server_name = server_name

    @endpoint("PUT", *v3("/rooms/{room_id}/send/{event_type}/{txn_id}"), auth=Auth.USER, limit="message")
    async def put_send(
        self, caller: Caller, room_id: str, event_type: str, txn_id: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        """Send an event that is no state."""
        return await self._send(caller, room_id, event_type, body, txn_id)

    @endpoint("POST", *v3("/rooms/{room_id}/send/{event_type}"), auth=Auth.USER, limit="message")
    async def post_send(
        self, caller: Caller, room_id: str, event_type: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        """Send an event without a transaction, as scripts do: each request is an event of its own."""
        return await self._send(caller, room_id, event_type, body, None)

    async def _send(
        self, caller: Caller, room_id: str, event_type: str, body: dict[str, Any], txn_id: str | None
    ) -> dict[str, Any]:
        room = await get_own_room(self._rooms, room_id)
        transaction = _transaction(caller, f"send/{check_name('the event type', event_type)}", txn_id)
        if event_type == "m.room.redaction":
            _check_redacts(body.get("redacts"))
        draft = Draft(event_type, caller.user_id, body, transaction=transaction)
        await check_thread(self._events, room, body)
        async with self._annotations.claim(room, draft):
            return {"event_id": (await self._writer.send(room, draft)).event_id}

    @endpoint("PUT", *v3("/rooms/{room_id}/redact/{event_id}/{txn_id}"), auth=Auth.USER, limit="message")
    async def put_redact(
        self, caller: Caller, room_id: str, event_id: str, txn_id: str, body: RedactBody
    ) -> dict[str, Any]:
        """Redact an event."""
        return await self._redact(caller, room_id, event_id, body, txn_id)

    @endpoint("POST", *v3("/rooms/{room_id}/redact/{event_id}"), auth=Auth.USER, limit="message")
    async def post_redact(
        self, caller: Caller, room_id: str, event_id: str, body: RedactBody
    ) -> dict[str, Any]:
        """Redact an event without a transaction."""
        return await self._redact(caller, room_id, event_id, body, None)

    async def _redact(
        self, caller: Caller, room_id: str, event_id: str, body: RedactBody, txn_id: str | None
    ) -> dict[str, Any]:
        room = await get_own_room(self._rooms, room_id)
        content = {} if body.reason is None else {"reason": body.reason}
        parse_event_id(event_id)
        if caller.is_suspended:
            await self._check_is_own(caller, room, event_id)
        transaction = _transaction(caller, f"redact/{event_id}", txn_id)
        draft = Draft("m.room.redaction", caller.user_id, content, redacts=event_id, transaction=transaction)
        return {"event_id": (await self._writer.send(room, draft)).event_id}

    @endpoint("PUT", *v3("/rooms/{room_id}/state/{event_type}/{state_key}"), auth=Auth.USER, limit="state")
    async def put_state(
        self, caller: Caller, room_id: str, event_type: str, state_key: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        """Set a state event."""
        return await self._set_state(caller, room_id, event_type, state_key, body)

    @endpoint("PUT", *v3("/rooms/{room_id}/state/{event_type}"), auth=Auth.USER, limit="state")
    async def put_keyless_state(
        self, caller: Caller, room_id: str, event_type: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        """Set a state event with an empty key and no slash before it; with one it is the path above."""
        return await self._set_state(caller, room_id, event_type, "", body)

    async def _check_is_own(self, caller: Caller, room: RoomInfo, event_id: str) -> None:
        nid = await self._events.find_nid(room.room_nid, event_id)
        if nid is None or (await self._events.get(nid)).sender != caller.user_id:
            raise UserSuspended("you can redact only your own events while your account is suspended")

    async def _set_state(
        self, caller: Caller, room_id: str, event_type: str, state_key: str, content: dict[str, Any]
    ) -> dict[str, Any]:
        room = await get_own_room(self._rooms, room_id)
        check_name("the event type", event_type)
        check_name("the state key", state_key)
        if event_type == "m.room.member":
            return {"event_id": await self._members.set(room, caller.user_id, state_key, content)}
        if event_type == "m.room.canonical_alias":
            await self._directory.check_canonical(room, content)
        if (event_type, state_key) == ("m.room.server_acl", ""):
            check_acl(content, self._server_name)
        sent = await self._writer.send(room, Draft(event_type, caller.user_id, content, state_key=state_key))
        return {"event_id": sent.event_id}


def _transaction(caller: Caller, endpoint_name: str, txn_id: str | None) -> Transaction | None:
    if txn_id is None:
        return None
    return Transaction(caller.device_id or "", endpoint_name, check_txn_id(txn_id))


def _check_redacts(redacts: object) -> None:
    """The content of a redaction names an event; where the id goes is up to the room's version."""
    if redacts is None:
        raise MissingParam("redacts is missing")
    if not isinstance(redacts, str):
        raise BadJson("redacts must be an event id")
    parse_event_id(redacts)
