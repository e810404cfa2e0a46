"""The two steps by which our users join, leave or knock at rooms of other servers: make, then send.

Spec: server-server-api "Joining Rooms", "Knocking upon a room", "Leaving Rooms (Rejecting Invites)".
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hs.matrix.errors import (
    Forbidden,
    IncompatibleRoomVersion,
    MatrixError,
    NotFound,
    UnableToAuthoriseJoin,
    UnableToGrantJoin,
    Unknown,
    UnsupportedRoomVersion,
)
from hs.matrix.event import Event, InvalidEvent, sign_event
from hs.matrix.room_versions import ROOM_VERSIONS, RoomVersion, get_room_version
from hs.net.errors import BadAnswer, RemoteError, RemoteRefused, Unreachable
from hs.net.room_client import RoomClient, Template
from hs.rooms.build import Signer
from hs.rooms.clock import Clock
from hs.rooms.restricted import AUTHORISER
from hs.storage.rooms import RoomInfo

logger = logging.getLogger(__name__)

# Clients may name any number of servers; each takes up to a minute where it does not answer.
MAX_SERVERS = 10
# Names of room versions have at most so many characters. Spec: rooms "Room version grammar".
_MAX_VERSION = 32


class UnknownVersion(BadAnswer):
    """A server has prepared an event for a room of a version that we do not know."""

    def __init__(self, message: str, room_version: str) -> None:
        super().__init__(message)
        self.room_version = room_version


@dataclass(frozen=True, slots=True)
class Prepared:
    """A member event that we have signed, and the server that has prepared it and waits for it."""

    server_name: str
    version: RoomVersion
    event: Event


class Handshakes:
    """Has member events prepared by servers that are in the room."""

    def __init__(self, client: RoomClient, signer: Signer, clock: Clock) -> None:
        self._client = client
        self._signer = signer
        self._clock = clock

    async def prepare(
        self, server_name: str, what: str, room_id: str, user_id: str, content: Mapping[str, Any]
    ) -> Prepared:
        """The event by which the user does `what` ("join", "leave" or "knock"); RemoteError where there is none."""
        template = await self._client.make_membership(
            server_name, what, room_id, user_id, list(ROOM_VERSIONS)
        )
        try:
            version = get_room_version(template.room_version)
        except UnsupportedRoomVersion as error:
            version_id = template.room_version[:_MAX_VERSION]
            raise UnknownVersion(f"the room version {version_id!r} is not known", version_id) from error
        proto = self._proto(template, room_id, user_id, {**content, "membership": what})
        try:
            event = sign_event(proto, version, self._signer.server_name, self._signer.key)
        except (InvalidEvent, KeyError, TypeError, ValueError) as error:
            raise BadAnswer(f"the prepared event is none: {error}") from error
        return Prepared(server_name, version, event)

    def sign_alone(self, room: RoomInfo, user_id: str, content: dict[str, Any]) -> Event:
        """A member event that no other server will see."""
        proto = self._proto(
            Template({"depth": 1, "prev_events": [], "auth_events": []}), room.room_id, user_id, content
        )
        return sign_event(proto, room.version, self._signer.server_name, self._signer.key)

    def _proto(
        self, template: Template, room_id: str, user_id: str, content: dict[str, Any]
    ) -> dict[str, Any]:
        """Ours is who does what; theirs is the place in the room's history, and who lets the user in."""
        given = template.event
        told = given.get("content")
        if isinstance(told, dict) and isinstance(told.get(AUTHORISER), str):
            content[AUTHORISER] = told[AUTHORISER]
        return {
            "type": "m.room.member",
            "room_id": room_id,
            "sender": user_id,
            "state_key": user_id,
            "content": content,
            "origin_server_ts": self._clock.now_ms(),
            "depth": given.get("depth"),
            "prev_events": given.get("prev_events"),
            "auth_events": given.get("auth_events"),
        }


class Refusals:
    """What several servers have answered, and which of it a client is told."""

    def __init__(self) -> None:
        self._told: MatrixError | None = None

    def add(self, server_name: str, error: RemoteError) -> None:
        """A server did not help."""
        logger.info("%s does not help with a room: %s", server_name, error)
        told = to_client(error)
        # Somebody who knows the room and says no is worth more than somebody who cannot be reached.
        if self._told is None or isinstance(error, RemoteRefused):
            self._told = told

    def error(self) -> MatrixError:
        """What the client is told."""
        return self._told or NotFound("no server is known that is in the room")


def to_client(error: RemoteError) -> MatrixError:
    """A remote failure as our own client is told it: in our words."""
    if isinstance(error, Unreachable):
        return NotFound("no server that may be in the room can be reached")
    if isinstance(error, UnknownVersion):
        return _incompatible(error.room_version)
    if not isinstance(error, RemoteRefused):
        return Unknown("the servers of the room give answers that make no sense")
    kinds: dict[str, type[MatrixError]] = {
        "M_UNABLE_TO_AUTHORISE_JOIN": UnableToAuthoriseJoin,
        "M_UNABLE_TO_GRANT_JOIN": UnableToGrantJoin,
    }
    if error.errcode in kinds:
        return kinds[error.errcode]("the servers of the room cannot let you in")
    if error.errcode == "M_INCOMPATIBLE_ROOM_VERSION":
        return _incompatible((error.room_version or "")[:_MAX_VERSION])
    if error.status == 404:
        return NotFound("the other servers do not know this room")
    if 400 <= error.status < 500:
        return Forbidden("the servers of the room do not allow it")
    return Unknown("the servers of the room fail")


def _incompatible(room_version: str) -> IncompatibleRoomVersion:
    text = "the room has a version that this server does not know"
    return IncompatibleRoomVersion(text, room_version=room_version)


def choose_servers(own: str, *named: Sequence[str]) -> list[str]:
    """The servers to try, in the order given, each once, without ourselves."""
    found = dict.fromkeys(name for names in named for name in names if name and name != own)
    return list(found)[:MAX_SERVERS]
