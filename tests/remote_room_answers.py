"""What a well-behaved homeserver answers about rooms: transactions, memberships, events and states."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from hs.matrix.event import Event, InvalidEvent, pdu_dict, sign_event
from hs.matrix.ids import server_of
from hs.matrix.room_versions import ROOM_VERSIONS
from tests.remote_room import Pdu, RemoteRoom
from tests.remote_scripts import Received, Reply
from tests.remote_world import Refused, RemoteWorld, now_ms
from tests.room_builder import BuiltEvent

FEDERATION = "/_matrix/federation"

Route = tuple[str, str, Callable[..., Awaitable[Reply]]]

_STRIPPED = ("create", "join_rules", "name", "topic", "avatar", "canonical_alias", "encryption")


class RoomAnswers:
    """Answers out of the rooms of a world, and keeps what is sent to them."""

    def __init__(self, world: RemoteWorld) -> None:
        self._world = world
        self._transactions: dict[tuple[str | None, str], Reply] = {}

    def list_routes(self) -> list[Route]:
        """What is answered here."""
        v1, v2 = f"{FEDERATION}/v1", f"{FEDERATION}/v2"
        return [
            ("PUT", f"{v1}/send/{{}}", self._send),
            ("GET", f"{v1}/make_join/{{}}/{{}}", self._make_join),
            ("PUT", f"{v1}/send_join/{{}}/{{}}", self._send_join_v1),
            ("PUT", f"{v2}/send_join/{{}}/{{}}", self._send_join),
            ("GET", f"{v1}/make_leave/{{}}/{{}}", self._make_leave),
            ("PUT", f"{v1}/send_leave/{{}}/{{}}", self._send_leave_v1),
            ("PUT", f"{v2}/send_leave/{{}}/{{}}", self._send_leave),
            ("GET", f"{v1}/make_knock/{{}}/{{}}", self._make_knock),
            ("PUT", f"{v1}/send_knock/{{}}/{{}}", self._send_knock),
            ("PUT", f"{v1}/invite/{{}}/{{}}", self._invite_v1),
            ("PUT", f"{v2}/invite/{{}}/{{}}", self._invite),
            ("PUT", f"{v1}/exchange_third_party_invite/{{}}", self._exchange_invite),
            ("GET", f"{v1}/state/{{}}", self._state),
            ("GET", f"{v1}/state_ids/{{}}", self._state_ids),
            ("GET", f"{v1}/event/{{}}", self._event),
            ("GET", f"{v1}/event_auth/{{}}/{{}}", self._event_auth),
            ("GET", f"{v1}/backfill/{{}}", self._backfill),
            ("POST", f"{v1}/get_missing_events/{{}}", self._missing_events),
            ("GET", f"{v1}/timestamp_to_event/{{}}", self._timestamp),
        ]

    # --- transactions

    async def _send(self, request: Received, txn_id: str) -> Reply:
        key = request.origin, txn_id
        if key not in self._transactions:
            body = request.body
            results: dict[str, Any] = {}
            for pdu in body["pdus"]:
                self._world.pdus.append(pdu)
                results |= self._take(pdu)
            self._world.edus += body.get("edus", ())
            self._transactions[key] = Reply(200, {"pdus": results})
        return self._transactions[key]

    def _take(self, pdu: Pdu) -> dict[str, Any]:
        room = self._world.rooms.get(pdu.get("room_id", ""))
        if room is None:
            return {}
        try:
            event = room.parse(pdu)
        except InvalidEvent:
            return {}
        room.receive(pdu)
        return {event.event_id: {}}

    # --- memberships

    async def _make_join(self, request: Received, room_id: str, user_id: str) -> Reply:
        room = self._world.room(room_id)
        if room.version_id not in request.query.get("ver", ["1"]):
            raise Refused(400, "M_INCOMPATIBLE_ROOM_VERSION", room_version=room.version_id)
        content = {"membership": "join"}
        if room.authoriser is not None and room.membership(user_id) not in ("join", "invite"):
            content["join_authorised_via_users_server"] = room.authoriser
        return self._template(room, user_id, content)

    async def _make_leave(self, _: Received, room_id: str, user_id: str) -> Reply:
        return self._template(self._world.room(room_id), user_id, {"membership": "leave"})

    async def _make_knock(self, _: Received, room_id: str, user_id: str) -> Reply:
        return self._template(self._world.room(room_id), user_id, {"membership": "knock"})

    def _template(self, room: RemoteRoom, user_id: str, content: dict[str, Any]) -> Reply:
        fields = {"content": content, "state_key": user_id}
        proto = {
            "type": "m.room.member",
            "sender": user_id,
            "room_id": room.room_id,
            "origin_server_ts": now_ms(),
            "depth": max(event.pdu["depth"] for event in room.extremities) + 1,
            "prev_events": room.references(room.extremities),
            "auth_events": room.references(room.select_auth("m.room.member", user_id, user_id, fields)),
            **fields,
        }
        if rejected := room.check(sign_event(proto, room.version, self._world.name, self._world.key)):
            raise Refused(403, "M_FORBIDDEN", rejected.reason)
        return Reply(200, {"event": proto, "room_version": room.version_id})

    async def _send_join(self, request: Received, room_id: str, event_id: str) -> Reply:
        room = self._world.room(room_id)
        before = room.current
        event = self._membership(room, request, event_id, "join")
        state = list(before.values())
        chain = room.auth_chain([*state, event])
        answer = {
            "event": event.pdu,
            "state": room.served(state),
            "auth_chain": room.served(chain),
            "origin": self._world.name,
            "members_omitted": False,
        }
        return Reply(200, answer)

    async def _send_join_v1(self, request: Received, room_id: str, event_id: str) -> Reply:
        answer = await self._send_join(request, room_id, event_id)
        return Reply(200, [200, {key: answer.body[key] for key in ("state", "auth_chain")}])

    async def _send_leave(self, request: Received, room_id: str, event_id: str) -> Reply:
        self._membership(self._world.room(room_id), request, event_id, "leave")
        return Reply(200, {})

    async def _send_leave_v1(self, request: Received, room_id: str, event_id: str) -> Reply:
        answer = await self._send_leave(request, room_id, event_id)
        return Reply(200, [200, answer.body])

    async def _send_knock(self, request: Received, room_id: str, event_id: str) -> Reply:
        room = self._world.room(room_id)
        self._membership(room, request, event_id, "knock")
        return Reply(200, {"knock_room_state": stripped_state(room)})

    def _membership(self, room: RemoteRoom, request: Received, event_id: str, membership: str) -> BuiltEvent:
        event = room.parse(request.body)
        if event.event_id != event_id or event.content.get("membership") != membership:
            raise Refused(400, "M_INVALID_PARAM", "not that event")
        if event.sender != event.state_key or server_of(event.sender) != request.origin:
            raise Refused(400, "M_INVALID_PARAM", "not your user")
        event = room.sign_for(event)
        taken = room.receive(pdu_dict(event))
        if not taken or taken[0].rejected is not None:
            raise Refused(403, "M_FORBIDDEN", str(taken))
        return taken[0]

    async def _invite(self, request: Received, room_id: str, event_id: str) -> Reply:
        version = ROOM_VERSIONS[request.body["room_version"]]
        return Reply(200, {"event": self._sign_invite(request.body["event"], version.id, event_id)})

    async def _invite_v1(self, request: Received, room_id: str, event_id: str) -> Reply:
        return Reply(200, [200, {"event": self._sign_invite(request.body, "1", event_id)}])

    def _sign_invite(self, pdu: Pdu, version_id: str, event_id: str) -> Pdu:
        room = RemoteRoom(version_id, {self._world.name: self._world.key})
        event: Event = room.parse(pdu)
        if event.event_id != event_id or server_of(event.state_key or "") != self._world.name:
            raise Refused(400, "M_INVALID_PARAM", "not for us")
        self._world.invites.append(pdu)
        return room.countersign(event)

    async def _exchange_invite(self, _: Received, __: str) -> Reply:
        return Reply(200, {})

    # --- reading

    def _known(self, room: RemoteRoom, event_id: str) -> BuiltEvent:
        if event_id not in room.by_id or event_id in room.withheld:
            raise Refused(404, "M_NOT_FOUND", "unknown event")
        return room.by_id[event_id]

    async def _state(self, request: Received, room_id: str) -> Reply:
        room = self._world.room(room_id)
        state = list(room.state(self._known(room, request.first("event_id")).before).values())
        return Reply(200, {"pdus": room.served(state), "auth_chain": room.served(room.auth_chain(state))})

    async def _state_ids(self, request: Received, room_id: str) -> Reply:
        room = self._world.room(room_id)
        state = list(room.state(self._known(room, request.first("event_id")).before).values())
        chain = room.auth_chain(state)
        return Reply(
            200,
            {"pdu_ids": [e.event_id for e in state], "auth_chain_ids": [e.event_id for e in chain]},
        )

    async def _event(self, _: Received, event_id: str) -> Reply:
        for room in self._world.rooms.values():
            if event_id in room.by_id and event_id not in room.withheld:
                return self._transaction([room.by_id[event_id].pdu])
        raise Refused(404, "M_NOT_FOUND", "unknown event")

    async def _event_auth(self, _: Received, room_id: str, event_id: str) -> Reply:
        room = self._world.room(room_id)
        chain = room.auth_chain([self._known(room, event_id)])
        return Reply(200, {"auth_chain": room.served(chain)})

    async def _backfill(self, request: Received, room_id: str) -> Reply:
        room = self._world.room(room_id)
        limit = int(request.first("limit", "10"))
        return self._transaction(room.served(room.ancestors(request.query["v"], limit)))

    def _transaction(self, pdus: list[Pdu]) -> Reply:
        return Reply(200, {"origin": self._world.name, "origin_server_ts": now_ms(), "pdus": pdus})

    async def _missing_events(self, request: Received, room_id: str) -> Reply:
        room, body = self._world.room(room_id), request.body
        latest, earliest = body["latest_events"], body["earliest_events"]
        limit = min(body.get("limit", 10), 20)
        found = room.ancestors(latest, limit + len(latest), stop=earliest)
        events = [e for e in found if e.event_id not in latest and e.pdu["depth"] >= body.get("min_depth", 0)]
        return Reply(200, {"events": room.served(reversed(events[:limit]))})

    async def _timestamp(self, request: Received, room_id: str) -> Reply:
        room, ts = self._world.room(room_id), int(request.first("ts"))
        forwards = request.first("dir") == "f"
        times = [(event.pdu["origin_server_ts"], event.event_id) for event in room.events]
        near = [found for found in times if (found[0] >= ts if forwards else found[0] <= ts)]
        if not near:
            raise Refused(404, "M_NOT_FOUND", "nothing there")
        found_ts, event_id = min(near) if forwards else max(near)
        return Reply(200, {"event_id": event_id, "origin_server_ts": found_ts})


def stripped(pdu: Pdu) -> Pdu:
    """A stripped state event."""
    return {key: pdu[key] for key in ("type", "state_key", "sender", "content", "origin_server_ts")}


def stripped_state(room: RemoteRoom) -> list[Pdu]:
    """What somebody outside is told of a room. Since v1.16 these are whole PDUs."""
    current = room.current
    return [
        json.loads(json.dumps(current["m.room." + name, ""].pdu))
        for name in _STRIPPED
        if ("m.room." + name, "") in current
    ]
