"""What we do for other servers whose users want into rooms that we are in, or out of them.

Spec: server-server-api "Joining Rooms", "Restricted rooms", "Knocking upon a room", "Leaving Rooms (Rejecting
Invites)"; joins-v1.yaml, joins-v2.yaml, knocks.yaml, leaving-v1.yaml, leaving-v2.yaml.
"""

from collections.abc import Sequence
from typing import Any

from hs.matrix.errors import Forbidden, IncompatibleRoomVersion, InvalidParam, NotFound
from hs.matrix.event import Event, InvalidEvent, add_signature, parse_event, pdu_dict
from hs.matrix.ids import is_user_id, server_of
from hs.rooms.admissions import Admission, PastAdmissions
from hs.rooms.arrivals import Arrival, MissingAuth, MissingHistory
from hs.rooms.build import Signer
from hs.rooms.checks import PduChecker, refusal_of
from hs.rooms.drafts import Draft
from hs.rooms.participation import Participation
from hs.rooms.restricted import AUTHORISER, RestrictedJoins
from hs.rooms.server_acls import ServerAcls
from hs.rooms.stage import PlacedEvent, Stage
from hs.rooms.writer import RoomWriter
from hs.storage.rooms import RoomInfo, RoomStore

MEMBERSHIPS = {"join": "join", "leave": "leave", "knock": "knock"}


class RoomDoors:
    """Lets a server do something in one of our rooms, or not."""

    def __init__(self, rooms: RoomStore, participation: Participation, acls: ServerAcls) -> None:
        self._rooms = rooms
        self._participation = participation
        self._acls = acls

    async def open(self, origin: str, room_id: str) -> RoomInfo:
        """The room that one of us is in; NotFound where that is none, Forbidden where it denies the server."""
        room = None if "\x00" in room_id else await self._rooms.find(room_id)
        if room is None or not await self._participation.is_in(room.room_nid):
            raise NotFound("nobody of this server is in the room")
        await self._acls.check(room, origin)
        return room


class ResidentServer:
    """Prepares member events for other servers' users, and takes them in once they are signed."""

    def __init__(
        self,
        doors: RoomDoors,
        writer: RoomWriter,
        checker: PduChecker,
        restricted: RestrictedJoins,
        past: PastAdmissions,
        signer: Signer,
    ) -> None:
        self._doors = doors
        self._writer = writer
        self._checker = checker
        self._restricted = restricted
        self._past = past
        self._signer = signer

    async def make(
        self, origin: str, what: str, room_id: str, user_id: str, versions: Sequence[str] | None
    ) -> dict[str, Any]:
        """The answer to make_join, make_leave or make_knock (`what`): an event to sign, and the room's version."""
        if not is_user_id(user_id) or server_of(user_id) != origin:
            raise Forbidden("the user is not one of your server")
        room = await self._doors.open(origin, room_id)
        if versions is not None and room.version.id not in versions:
            raise IncompatibleRoomVersion(
                "your server does not know the version of the room", room_version=room.version.id
            )
        content: dict[str, Any] = {"membership": MEMBERSHIPS[what]}
        if what == "join" and room.version.restricted_joins:
            vouched = await self._restricted.find_authoriser(room, user_id)
            if vouched is not None:
                content[AUTHORISER] = vouched
        draft = Draft("m.room.member", user_id, content, state_key=user_id, deduplicate=False)
        event = pdu_dict(await self._writer.draw_up(room, draft))
        for key in ("hashes", "signatures", "event_id"):
            event.pop(key, None)
        event["origin"] = self._signer.server_name
        return {"room_version": room.version.id, "event": event}

    async def admit(
        self, origin: str, what: str, room_id: str, event_id: str, pdu: dict[str, Any]
    ) -> Admission:
        """Take in the member event that the other server has signed, for send_join, send_leave and send_knock.

        A repeated request has the same answer. Raises InvalidParam for an event of another kind, Forbidden where
        the room does not allow it. What is refused is not stored.
        """
        room = await self._doors.open(origin, room_id)
        event = self._read(origin, what, room, event_id, pdu)
        admission = await self._past.find(room, event) or await self._take_in(what, room, event)
        # None where the same request was under way: by now it is through.
        admission = admission or await self._past.find(room, event)
        assert admission is not None  # events do not leave rooms
        return admission

    async def _take_in(self, what: str, room: RoomInfo, event: Event) -> Admission | None:
        if what == "join" and AUTHORISER in event.content:
            event = await self._vouch(room, event)
        checked = await self._checker.check([pdu_dict(event)], room.version, room.room_id)
        if not checked.events:
            raise Forbidden("; ".join(checked.dropped.values()) or "the event is not valid")
        try:
            arrival = Arrival(checked.events[0], is_relayed=True)
            [placed] = await self._writer.receive(room, [arrival], on_placed=_check_allowed)
        except (MissingHistory, MissingAuth) as error:
            raise InvalidParam(f"the event refers to what this server does not have: {error}") from error
        return None if placed is None else Admission(room, checked.events[0], placed.before)

    def _read(self, origin: str, what: str, room: RoomInfo, event_id: str, pdu: dict[str, Any]) -> Event:
        """The event, where it is what the endpoint is for."""
        try:
            event = parse_event(pdu, room.version)
        except InvalidEvent as error:
            raise refusal_of(error) from error
        if event.event_id != event_id or event.room_id != room.room_id:
            raise InvalidParam("the event is another one than the path says")
        if event.type != "m.room.member" or event.content.get("membership") != MEMBERSHIPS[what]:
            raise InvalidParam(f"the event is no m.room.member that says {MEMBERSHIPS[what]!r}")
        if event.state_key != event.sender:
            raise InvalidParam("the event is about somebody else than its sender")
        if server_of(event.sender) != origin:
            raise Forbidden("the sender is not of your server")
        return event

    async def _vouch(self, room: RoomInfo, event: Event) -> Event:
        """The join with our signature, where one of us vouches for the user."""
        authoriser = event.content[AUTHORISER]
        if not is_user_id(authoriser) or server_of(authoriser) != self._signer.server_name:
            return event
        await self._restricted.find_authoriser(room, event.sender)
        return add_signature(event, self._signer.server_name, self._signer.key)


async def _check_allowed(stage: Stage, placed: Sequence[PlacedEvent | None]) -> None:
    for found in placed:
        if found is not None and found.flags:
            raise Forbidden(f"the room does not allow it: {found.rule}")
