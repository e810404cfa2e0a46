"""What we ask other servers about rooms; answers are bounded, and decoded only as far as we look at them.

Spec: server-server-api "Retrieving previous events", "Joining Rooms", "Knocking upon a room", "Inviting to a room",
"Leaving Rooms (Rejecting Invites)", "Backfilling and retrieving missing events". Every method raises RemoteError.

Somebody waits for each of these: servers that have failed are asked all the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import msgspec

from hs.net.errors import BadAnswer
from hs.net.federation_client import FederationClient

_API: Final = "/_matrix/federation"
MIB: Final = 2**20

# Rooms with 100,000 members have this much state.
_MAX_ROOM_BYTES: Final = 384 * MIB
_MAX_IDS_BYTES: Final = 48 * MIB
# A hundred events of 64 KiB, and what is around them.
_MAX_PAGE_BYTES: Final = 12 * MIB
_MAX_EVENT_BYTES: Final = 256 * 1024
_ROOM_TIMEOUT_S: Final = 300.0
_PAGE_TIMEOUT_S: Final = 60.0
_SHORT_TIMEOUT_S: Final = 20.0
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
        found = await self._client.post_json(
            destination,
            f"{_API}/v1/get_missing_events/{_q(room_id)}",
            _Pdus,
            body=body,
            max_bytes=_MAX_PAGE_BYTES,
            timeout_s=_PAGE_TIMEOUT_S,
            forced=True,
        )
        return decode_pdus(found.events[:limit])

    async def backfill(
        self, destination: str, room_id: str, event_ids: Sequence[str], limit: int
    ) -> list[dict[str, Any]]:
        """At most `limit` events: these and what is before them."""
        query: dict[str, int | Sequence[str]] = {"v": list(event_ids), "limit": limit}
        found = await self._client.get_json(
            destination,
            f"{_API}/v1/backfill/{_q(room_id)}",
            _Pdus,
            query=query,
            max_bytes=_MAX_PAGE_BYTES,
            timeout_s=_PAGE_TIMEOUT_S,
            forced=True,
        )
        return decode_pdus(found.pdus[:limit])

    async def get_state_ids(self, destination: str, room_id: str, event_id: str) -> StateIds:
        """The state before an event, by ids."""
        found = await self._client.get_json(
            destination,
            f"{_API}/v1/state_ids/{_q(room_id)}",
            StateIds,
            query={"event_id": event_id},
            max_bytes=_MAX_IDS_BYTES,
            timeout_s=_PAGE_TIMEOUT_S,
            forced=True,
        )
        if len(found.pdu_ids) + len(found.auth_chain_ids) > _MAX_IDS:
            raise BadAnswer("the state has more events than any room")
        return found

    async def get_state(self, destination: str, room_id: str, event_id: str) -> RoomState:
        """The state before an event."""
        return await self._client.get_json(
            destination,
            f"{_API}/v1/state/{_q(room_id)}",
            RoomState,
            query={"event_id": event_id},
            max_bytes=_MAX_ROOM_BYTES,
            timeout_s=_ROOM_TIMEOUT_S,
            forced=True,
        )

    async def get_event(self, destination: str, event_id: str) -> dict[str, Any]:
        """One event."""
        found = await self._client.get_json(
            destination,
            f"{_API}/v1/event/{_q(event_id)}",
            _Pdus,
            max_bytes=_MAX_EVENT_BYTES,
            timeout_s=_SHORT_TIMEOUT_S,
            forced=True,
        )
        if not found.pdus:
            raise BadAnswer("there is no event in the answer")
        return decode_pdus(found.pdus[:1])[0]

    async def get_event_auth(self, destination: str, room_id: str, event_id: str) -> list[dict[str, Any]]:
        """The auth chain of an event."""
        found = await self._client.get_json(
            destination,
            f"{_API}/v1/event_auth/{_q(room_id)}/{_q(event_id)}",
            _Pdus,
            max_bytes=_MAX_ROOM_BYTES,
            timeout_s=_ROOM_TIMEOUT_S,
            forced=True,
        )
        return decode_pdus(found.auth_chain)

    async def timestamp_to_event(self, destination: str, room_id: str, ts: int, *, backwards: bool) -> Timed:
        """The event closest to a time, in one direction, of those that the server has."""
        return await self._client.get_json(
            destination,
            f"{_API}/v1/timestamp_to_event/{_q(room_id)}",
            Timed,
            query={"ts": ts, "dir": "b" if backwards else "f"},
            max_bytes=_MAX_EVENT_BYTES,
            timeout_s=_SHORT_TIMEOUT_S,
        )

    # --- memberships: "join", "leave" and "knock" each take two steps

    async def make_membership(
        self, destination: str, what: str, room_id: str, user_id: str, versions: Sequence[str]
    ) -> Template:
        """A member event for the user to sign; `what` is "join", "leave" or "knock"."""
        return await self._client.get_json(
            destination,
            f"{_API}/v1/make_{what}/{_q(room_id)}/{_q(user_id)}",
            Template,
            query=None if what == "leave" else {"ver": list(versions)},
            max_bytes=_MAX_EVENT_BYTES,
            timeout_s=_SHORT_TIMEOUT_S,
            forced=True,
        )

    async def send_join(
        self, destination: str, room_id: str, event_id: str, event: Mapping[str, Any]
    ) -> Joined:
        """The room, now that the user has joined it."""
        return await self._client.put_json(
            destination,
            f"{_API}/v2/send_join/{_q(room_id)}/{_q(event_id)}",
            Joined,
            body=event,
            max_bytes=_MAX_ROOM_BYTES,
            timeout_s=_ROOM_TIMEOUT_S,
            forced=True,
        )

    async def send_leave(
        self, destination: str, room_id: str, event_id: str, event: Mapping[str, Any]
    ) -> None:
        """Have the user leave the room, or reject its invite."""
        await self._client.put_json(
            destination,
            f"{_API}/v2/send_leave/{_q(room_id)}/{_q(event_id)}",
            _Nothing,
            body=event,
            max_bytes=_MAX_EVENT_BYTES,
            timeout_s=_PAGE_TIMEOUT_S,
            forced=True,
        )

    async def send_knock(
        self, destination: str, room_id: str, event_id: str, event: Mapping[str, Any]
    ) -> list[Any]:
        """Knock at the room; what it tells of itself."""
        found = await self._client.put_json(
            destination,
            f"{_API}/v1/send_knock/{_q(room_id)}/{_q(event_id)}",
            _Knocked,
            body=event,
            max_bytes=MIB,
            timeout_s=_PAGE_TIMEOUT_S,
            forced=True,
        )
        return found.knock_room_state

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
        body = {"room_version": version, "event": event, "invite_room_state": stripped}
        found = await self._client.put_json(
            destination,
            f"{_API}/v2/invite/{_q(room_id)}/{_q(event_id)}",
            _Invited,
            body=body,
            max_bytes=_MAX_EVENT_BYTES,
            timeout_s=_PAGE_TIMEOUT_S,
            forced=True,
        )
        return found.event


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


def _q(segment: str) -> str:
    return quote(segment, safe="")
