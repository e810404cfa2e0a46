"""Invites between servers: ours to their users, and theirs to ours.

Spec: server-server-api "Inviting to a room"; invites-v1.yaml, invites-v2.yaml.
"""

from collections.abc import Sequence
from typing import Any

from hs.matrix.errors import Forbidden, InvalidParam, LimitExceeded
from hs.matrix.event import Event, InvalidEvent, add_signature, parse_event, pdu_dict
from hs.matrix.ids import is_user_id, server_of
from hs.matrix.room_versions import RoomVersion
from hs.net.errors import RemoteError, RemoteRefused
from hs.net.room_client import RoomClient
from hs.rooms.arrivals import Arrival
from hs.rooms.build import Signer
from hs.rooms.checks import PduChecker, refusal_of
from hs.rooms.drafts import Draft, SentEvent
from hs.rooms.naming import NamingState, check_naming
from hs.rooms.outside import OutsideRooms
from hs.rooms.participation import Participation
from hs.rooms.server_acls import ServerAcls
from hs.rooms.stage import PlacedEvent, Stage
from hs.rooms.writer import RoomWriter
from hs.storage.rooms import RoomInfo
from hs.storage.users import UserStore


class Inviter:
    """Invites users, also of other servers: these are in the room once their server has signed the invite."""

    def __init__(
        self,
        writer: RoomWriter,
        client: RoomClient,
        checker: PduChecker,
        naming: NamingState,
        server_name: str,
    ) -> None:
        self._writer = writer
        self._client = client
        self._checker = checker
        self._naming = naming
        self._server_name = server_name

    async def invite(self, room: RoomInfo, draft: Draft) -> SentEvent:
        """The invite in the room. Raises what the inviting client is to be told."""
        event = await self._writer.draw_up(room, draft)
        if server_of(event.state_key or "") != self._server_name:
            event = await self._have_signed(room, event)
        # By a third-party identifier people are invited in the name of whoever gave it, wherever these are.
        arrival = Arrival(event, is_relayed=server_of(event.sender) != self._server_name)
        [placed] = await self._writer.receive(room, [arrival], on_placed=_check_allowed)
        assert placed is not None  # _check_allowed has seen it
        return SentEvent(event.event_id, placed.event_nid, 0)

    async def _have_signed(self, room: RoomInfo, event: Event) -> Event:
        """The invite with the signature of the invited user's server."""
        stripped = await self._naming.list_pdus(room, event.sender)
        if any(
            pdu["type"] == "m.room.create" and pdu["content"].get("m.federate") is False for pdu in stripped
        ):
            # The rules would let the invite in, and never who is invited.
            raise Forbidden("the room is for users of this server only")
        server_name = server_of(event.state_key or "")
        try:
            answer = await self._client.send_invite(
                server_name, room.room_id, event.event_id, room.version.id, pdu_dict(event), stripped
            )
        except RemoteRefused as error:
            if error.errcode == "M_LIMIT_EXCEEDED":
                raise LimitExceeded("the user's server is busy", retry_after_ms=10_000) from error
            raise Forbidden("the user's server does not take the invite") from error
        except RemoteError as error:
            raise Forbidden("the user's server cannot be reached") from error
        checked = await self._checker.check([answer], room.version, room.room_id)
        signed = next((found for found in checked.events if found.event_id == event.event_id), None)
        if signed is None or server_name not in pdu_dict(signed)["signatures"]:
            raise Forbidden("the user's server has answered with another event")
        return signed


async def _check_allowed(stage: Stage, placed: Sequence[PlacedEvent | None]) -> None:
    if any(found is None or found.flags for found in placed):
        # The room has changed while we waited for the other server.
        raise Forbidden("the room does not allow this invite any more")


class InvitedUsers:
    """Takes in invites of our users by other servers."""

    def __init__(
        self,
        checker: PduChecker,
        participation: Participation,
        acls: ServerAcls,
        outside: OutsideRooms,
        users: UserStore,
        signer: Signer,
    ) -> None:
        self._checker = checker
        self._participation = participation
        self._acls = acls
        self._outside = outside
        self._users = users
        self._signer = signer

    async def receive(
        self,
        origin: str,
        room_id: str,
        event_id: str,
        version: RoomVersion,
        pdu: dict[str, Any],
        stripped: Sequence[Any],
    ) -> Event:
        """The invite with our signature; the user's clients have heard of it.

        Raises InvalidParam for an event of another kind and for state of another room, BadJson for what no event
        can hold, Forbidden for a sender of another server, for one that nobody has signed, and for nobody's account.
        """
        try:
            event = parse_event(pdu, version)
        except InvalidEvent as error:
            raise refusal_of(error) from error
        if event.event_id != event_id or event.room_id != room_id:
            raise InvalidParam("the event is another one than the path says")
        target = event.state_key
        if event.type != "m.room.member" or event.content.get("membership") != "invite":
            raise InvalidParam("the event is no invite")
        if target is None or not is_user_id(target) or server_of(target) != self._signer.server_name:
            raise InvalidParam("the invited user is not of this server")
        if server_of(event.sender) != origin:
            raise Forbidden("the sender is not of your server")
        checked = await self._checker.check([pdu], version, room_id)
        if not checked.events:
            raise Forbidden("; ".join(checked.dropped.values()))
        user = await self._users.find_user(target)
        if user is None or user.is_deactivated:
            raise Forbidden("there is no such user")
        named = await check_naming(self._checker, version, room_id, stripped)
        # For earlier versions this is optional, and servers do not keep to it.
        if version.room_id_is_create_hash and named.errors:
            raise InvalidParam(f"invite_room_state: {named.errors[0]}")
        signed = add_signature(event, self._signer.server_name, self._signer.key)
        room = await self._outside.enter(room_id, version)
        if not _is_alike(room.version, version):
            raise InvalidParam("the room has another version")
        if await self._participation.is_in(room.room_nid):
            # The invite itself comes with a transaction.
            await self._acls.check(room, origin)
        else:
            await self._outside.set_membership(room, signed, named.shown)
        return signed


def _is_alike(one: RoomVersion, other: RoomVersion) -> bool:
    """Whether events of these versions are the same: of 1 and 2, invites of the first version do not say which."""
    return one is other or (one.has_reference_pairs and other.has_reference_pairs)
