"""Our users and the rooms of other servers: joining them, knocking at them, leaving what we are not in.

Spec: server-server-api "Joining Rooms", "Knocking upon a room", "Leaving Rooms (Rejecting Invites)".
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from hs.matrix.errors import Forbidden
from hs.matrix.event import Event, pdu_dict
from hs.matrix.room_versions import RoomVersion
from hs.net.errors import BadAnswer, RemoteError
from hs.net.room_client import Joined, RoomClient
from hs.rooms.arrivals import Arrival, MissingAuth
from hs.rooms.checks import PduChecker
from hs.rooms.early_events import EarlyEvents
from hs.rooms.handshakes import Handshakes, Prepared, Refusals
from hs.rooms.naming import check_naming
from hs.rooms.outside import OutsideRooms
from hs.rooms.stage import PlacedEvent, Stage
from hs.rooms.whole_imports import WholeImports, find_create
from hs.rooms.writer import RoomWriter
from hs.storage.rooms import RoomInfo

logger = logging.getLogger(__name__)


class RemoteRooms:
    """Gets our users into rooms of other servers, and out of them."""

    def __init__(
        self,
        handshakes: Handshakes,
        client: RoomClient,
        checker: PduChecker,
        imports: WholeImports,
        writer: RoomWriter,
        outside: OutsideRooms,
        early: EarlyEvents,
    ) -> None:
        self._handshakes = handshakes
        self._client = client
        self._checker = checker
        self._imports = imports
        self._writer = writer
        self._outside = outside
        self._early = early

    async def join(
        self,
        room_id: str,
        user_id: str,
        servers: Sequence[str],
        content: Mapping[str, Any],
        is_beginning: bool,
    ) -> RoomInfo:
        """The room that the user has joined with the help of one of the servers.

        `is_beginning`: nobody of ours is in the room yet, so what the server says of it is all that counts.
        Raises what the client is to be told.
        """
        refusals = Refusals()
        # As soon as one of the servers has the join, others send what happens in the room.
        with self._early.joining(room_id):
            for server_name in servers:
                try:
                    prepared = await self._handshakes.prepare(server_name, "join", room_id, user_id, content)
                    joined = await self._client.send_join(
                        server_name, room_id, prepared.event.event_id, pdu_dict(prepared.event)
                    )
                    return await self._take_in(room_id, prepared, joined, is_beginning)
                except RemoteError as error:
                    refusals.add(server_name, error)
        raise refusals.error()

    async def _take_in(
        self, room_id: str, prepared: Prepared, joined: Joined, is_beginning: bool
    ) -> RoomInfo:
        """Store the room, and the join as what begins it for us."""
        if joined.members_omitted:
            raise BadAnswer("members are left out of the state, which nobody has asked for")
        event = await self._check_told(room_id, prepared, joined)
        room = await self._outside.enter_proven(room_id, prepared.version)
        try:
            state = await self._imports.store(room, joined.state, joined.auth_chain)
            if ("m.room.create", "") not in state:
                raise BadAnswer("the room has no create event")
            arrival = Arrival(event, state, is_beginning=is_beginning, is_told=True)
            await self._writer.receive(room, [arrival], on_placed=_check_allowed)
        except MissingAuth as error:
            raise BadAnswer(f"the join cannot be judged: {error}") from error
        except Forbidden as error:
            raise BadAnswer(
                f"the join is not allowed by the state that came with it: {error.message}"
            ) from error
        return room

    async def _check_told(self, room_id: str, prepared: Prepared, joined: Joined) -> Event:
        """Our event, with the signature of the server that lets the user in, where one is needed.

        The server has said which version the room is of. It is taken at its word no further than the room's create
        event goes, which is signed by who made the room: nothing is stored by the rules of a wrong version.
        """
        told = pdu_dict(prepared.event) if joined.event is None else joined.event
        create = await find_create(joined.state)
        checked = await self._checker.check([told, create], prepared.version, room_id)
        # A redacted copy has the same id.
        whole = [event for event in checked.events if not event.redacted_for_hash]
        if not any(_is_create_of(event, prepared.version) for event in whole):
            raise BadAnswer("the room's create event names another version, or is not signed by who made it")
        for event in whole:
            if event.event_id == prepared.event.event_id:
                return event
        raise BadAnswer("the join came back as another event, or is not signed by who lets the user in")

    async def knock(
        self, room_id: str, user_id: str, servers: Sequence[str], content: Mapping[str, Any]
    ) -> RoomInfo:
        """The room that the user now knocks at."""
        refusals = Refusals()
        for server_name in servers:
            try:
                prepared = await self._handshakes.prepare(server_name, "knock", room_id, user_id, content)
                stripped = await self._client.send_knock(
                    server_name, room_id, prepared.event.event_id, pdu_dict(prepared.event)
                )
                named = await check_naming(self._checker, prepared.version, room_id, stripped)
                room = await self._outside.enter(room_id, prepared.version)
                if room.version is not prepared.version:
                    raise BadAnswer("the room has another version")
                await self._outside.set_membership(room, prepared.event, named.shown)
                return room
            except RemoteError as error:
                refusals.add(server_name, error)
        raise refusals.error()

    async def leave(
        self, room: RoomInfo, user_id: str, servers: Sequence[str], content: Mapping[str, Any]
    ) -> None:
        """Reject an invite, or take a knock back, in a room that nobody of ours is in.

        Where no server helps, the user is out all the same, as far as we are concerned.
        """
        for server_name in servers:
            try:
                prepared = await self._handshakes.prepare(
                    server_name, "leave", room.room_id, user_id, content
                )
                await self._client.send_leave(
                    server_name, room.room_id, prepared.event.event_id, pdu_dict(prepared.event)
                )
            except RemoteError as error:
                logger.info("%s does not take a departure: %s", server_name, error)
                continue
            await self._outside.set_membership(room, prepared.event, None)
            return
        event = self._handshakes.sign_alone(room, user_id, {**content, "membership": "leave"})
        await self._outside.set_membership(room, event, None)


def _is_create_of(event: Event, version: RoomVersion) -> bool:
    """Whether it is a create event of this version. Spec: rooms/v1: `room_version` is "1" where it is missing."""
    return event.type == "m.room.create" and event.content.get("room_version", "1") == version.id


async def _check_allowed(stage: Stage, placed: Sequence[PlacedEvent | None]) -> None:
    """Take back what is refused: once stored as rejected, it would be so for whatever builds on it later."""
    for found in placed:
        if found is not None and found.flags:
            raise Forbidden(str(found.rule))
