"""What we ask other servers about rooms; answers are bounded, and decoded only as far as we look at them.

Spec: server-server-api "Retrieving previous events", "Joining Rooms", "Knocking upon a room", "Inviting to a room",
"Leaving Rooms (Rejecting Invites)", "Backfilling and retrieving missing events". Every method raises RemoteError.

Somebody waits for nearly each of these: servers that have failed are asked all the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from hs.net.bounds import Bounds
from hs.net.errors import BadAnswer, RemoteRefused
from hs.net.federation_client import FederationClient, Query, path_of

T = TypeVar("T")

_API: Final = "/_matrix/federation"
MIB: Final = 2**20

# Rooms with 100,000 members have this much state.
_ROOM: Final = Bounds(384 * MIB, 300.0, 16 * MIB)
_IDS: Final = Bounds(48 * MIB, 60.0)
# Of one event: some thousands at most.
_CHAIN: Final = Bounds(32 * MIB, 60.0)
# A hundred events of 64 KiB, and what is around them.
_PAGE: Final = Bounds(12 * MIB, 60.0)
_EVENT: Final = Bounds(256 * 1024, 20.0)
_SENT: Final = Bounds(256 * 1024, 60.0)
_KNOCKED: Final = Bounds(MIB, 60.0)
_MAX_IDS: Final = 1_000_000


class StateIds(msgspec.Struct):
    """A state and its auth chain, by ids."""

    pdu_ids: list[str]
    auth_chain_ids: list[str]


class RoomState(msgspec.Struct):
    """A state and its auth chain, undecoded."""

    pdus: list[msgspec.Raw]
    auth_chain: list[msgspec.Raw]


class _Pdus(msgspec.Struct):
    pdus: list[msgspec.Raw] = []
    events: list[msgspec.Raw] = []
    auth_chain: list[msgspec.Raw] = []


class Template(msgspec.Struct):
    """An event that another server has prepared for us to sign."""

    event: dict[str, Any]
    room_version: str = "1"


class Joined(msgspec.Struct):
    """The room that a join leads into: the state before the join, and its auth chain, undecoded."""

    state: list[msgspec.Raw]
    auth_chain: list[msgspec.Raw]
    event: dict[str, Any] | None = None
    servers_in_room: list[str] = []
    members_omitted: bool = False


class _Knocked(msgspec.Struct):
    knock_room_state: list[Any] = []


class _Invited(msgspec.Struct):
    event: dict[str, Any]


class Timed(msgspec.Struct):
    """An event close to a time."""

    event_id: str
    origin_server_ts: int


class _Nothing(msgspec.Struct):
    pass


class RoomClient:
    """Typed requests."""

    def __init__(self, client: FederationClient) -> None:
        self._client = client

    async def get_missing_events(
        self,
        destination: str,
        room_id: str,
        *,
        earliest: Sequence[str],
        latest: Sequence[str],
        limit: int,
        min_depth: int,
    ) -> list[dict[str, Any]]:
        """At most `limit` events before `latest` and after `earliest`."""
        body = {
            "earliest_events": earliest,
            "latest_events": latest,
            "limit": limit,
            "min_depth": min_depth,
        }
        path = path_of(f"{_API}/v1/get_missing_events/{{}}", room_id)
        found = await self._client.ask("POST", destination, path, _Pdus, body=body, bounds=_PAGE, forced=True)
        return decode_pdus(found.events[:limit])

    async def backfill(
        self, destination: str, room_id: str, event_ids: Sequence[str], limit: int
    ) -> list[dict[str, Any]]:
        """At most `limit` events: these and what is before them."""
        path = path_of(f"{_API}/v1/backfill/{{}}", room_id)
        found = await self._get(destination, path, _Pdus, _PAGE, v=list(event_ids), limit=limit)
        return decode_pdus(found.pdus[:limit])

    async def get_state_ids(self, destination: str, room_id: str, event_id: str) -> StateIds:
        """The state before an event, by ids."""
        path = path_of(f"{_API}/v1/state_ids/{{}}", room_id)
        found = await self._get(destination, path, StateIds, _IDS, event_id=event_id)
        if len(found.pdu_ids) + len(found.auth_chain_ids) > _MAX_IDS:
            raise BadAnswer("the state has more events than any room")
        return found

    async def get_state(self, destination: str, room_id: str, event_id: str) -> RoomState:
        """The state before an event."""
        path = path_of(f"{_API}/v1/state/{{}}", room_id)
        return await self._get(destination, path, RoomState, _ROOM, event_id=event_id)

    async def get_event(self, destination: str, event_id: str) -> dict[str, Any]:
        """One event."""
        found = await self._get(destination, path_of(f"{_API}/v1/event/{{}}", event_id), _Pdus, _EVENT)
        if not found.pdus:
            raise BadAnswer("there is no event in the answer")
        return decode_pdus(found.pdus[:1])[0]

    async def get_event_auth(self, destination: str, room_id: str, event_id: str) -> list[msgspec.Raw]:
        """The auth chain of an event, undecoded."""
        path = path_of(f"{_API}/v1/event_auth/{{}}/{{}}", room_id, event_id)
        return (await self._get(destination, path, _Pdus, _CHAIN)).auth_chain

    async def timestamp_to_event(self, destination: str, room_id: str, ts: int, *, backwards: bool) -> Timed:
        """The event closest to a time, in one direction, of those that the server has."""
        path = path_of(f"{_API}/v1/timestamp_to_event/{{}}", room_id)
        query: Query = {"ts": ts, "dir": "b" if backwards else "f"}
        # Servers that have failed are left alone: there are others to ask, and the answer is no more than closer.
        return await self._client.ask("GET", destination, path, Timed, query=query, bounds=_EVENT)

    # --- memberships: "join", "leave" and "knock" each take two steps

    async def make_membership(
        self, destination: str, what: str, room_id: str, user_id: str, versions: Sequence[str]
    ) -> Template:
        """A member event for the user to sign; `what` is "join", "leave" or "knock"."""
        path = path_of(f"{_API}/v1/make_{what}/{{}}/{{}}", room_id, user_id)
        if what == "leave":
            return await self._get(destination, path, Template, _EVENT)
        return await self._get(destination, path, Template, _EVENT, ver=list(versions))

    async def send_join(
        self, destination: str, room_id: str, event_id: str, event: Mapping[str, Any]
    ) -> Joined:
        """The room, now that the user has joined it."""
        try:
            path = path_of(f"{_API}/v2/send_join/{{}}/{{}}", room_id, event_id)
            return await self._put(destination, path, event, Joined, _ROOM)
        except RemoteRefused as error:
            if not _is_of_old(error):
                raise
            path = path_of(f"{_API}/v1/send_join/{{}}/{{}}", room_id, event_id)
            return (await self._put(destination, path, event, tuple[int, Joined], _ROOM))[1]

    async def send_leave(
        self, destination: str, room_id: str, event_id: str, event: Mapping[str, Any]
    ) -> None:
        """Have the user leave the room, or reject its invite."""
        try:
            path = path_of(f"{_API}/v2/send_leave/{{}}/{{}}", room_id, event_id)
            await self._put(destination, path, event, _Nothing, _SENT)
        except RemoteRefused as error:
            if not _is_of_old(error):
                raise
            path = path_of(f"{_API}/v1/send_leave/{{}}/{{}}", room_id, event_id)
            await self._put(destination, path, event, tuple[int, _Nothing], _SENT)

    async def send_knock(
        self, destination: str, room_id: str, event_id: str, event: Mapping[str, Any]
    ) -> list[Any]:
        """Knock at the room; what it tells of itself."""
        path = path_of(f"{_API}/v1/send_knock/{{}}/{{}}", room_id, event_id)
        return (await self._put(destination, path, event, _Knocked, _KNOCKED)).knock_room_state

    async def send_invite(
        self,
        destination: str,
        room_id: str,
        event_id: str,
        version: str,
        event: Mapping[str, Any],
        stripped: Sequence[Any],
    ) -> dict[str, Any]:
        """The invite with the signature of the invited user's server."""
        try:
            path = path_of(f"{_API}/v2/invite/{{}}/{{}}", room_id, event_id)
            body = {"room_version": version, "event": event, "invite_room_state": stripped}
            return (await self._put(destination, path, body, _Invited, _SENT)).event
        except RemoteRefused as error:
            # There the event names itself, and says no version.
            if not _is_of_old(error) or "event_id" not in event:
                raise
            path = path_of(f"{_API}/v1/invite/{{}}/{{}}", room_id, event_id)
            invite = {**event, "unsigned": {"invite_room_state": stripped}}
            return (await self._put(destination, path, invite, tuple[int, _Invited], _SENT))[1].event

    async def exchange_third_party_invite(
        self, destination: str, room_id: str, event: Mapping[str, Any]
    ) -> None:
        """Have the server make an invite of a third-party invite of one of its users, for one of ours."""
        path = path_of(f"{_API}/v1/exchange_third_party_invite/{{}}", room_id)
        await self._put(destination, path, event, _Nothing, _SENT)

    async def _get(
        self, destination: str, path: str, answer: type[T], bounds: Bounds, **query: int | str | Sequence[str]
    ) -> T:
        return await self._client.ask(
            "GET", destination, path, answer, query=query, bounds=bounds, forced=True
        )

    async def _put(
        self, destination: str, path: str, body: Mapping[str, Any], answer: type[T], bounds: Bounds
    ) -> T:
        return await self._client.ask("PUT", destination, path, answer, body=body, bounds=bounds, forced=True)


def _is_of_old(error: RemoteRefused) -> bool:
    """Whether the server does not know version 2 of the request: spec, "fall back to the v1 API"."""
    return error.status in (400, 404, 405) and error.errcode == "M_UNRECOGNIZED"


_decoder = msgspec.json.Decoder(dict[str, Any])


def decode_pdus(raw: Sequence[msgspec.Raw]) -> list[dict[str, Any]]:
    """Those of the PDUs that are JSON objects."""
    found = []
    for item in raw:
        try:
            found.append(_decoder.decode(item))
        except (msgspec.DecodeError, RecursionError):
            continue  # an event that is none is dropped, not the others
    return found
