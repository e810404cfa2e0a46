"""Other homeservers, as far as a measurement needs them: rooms that are signed beforehand, and their transactions.

They live in the process of the load generator, whose CPU is in no figure. They answer what a server asks on its way
into a room, and take what they are sent without checking it.
"""

import itertools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web
from signedjson.types import SigningKey

from bench.load.connection import Answer, BadAnswer, Connection
from bench.load.servers import SERVER_NAME, Server
from hs._fast import canonical_json
from hs.matrix.event import Event, parse_event, pdu_dict, sign_event
from hs.matrix.ids import server_of
from hs.matrix.keys import encode_base64, key_id_of, signing_key_from_seed
from hs.matrix.request_auth import sign_request
from hs.matrix.room_versions import get_room_version
from hs.matrix.signing import sign_json
from tests.certificates import Authority
from tests.listening import listening
from tests.server_process import find_free_ports

_VERSION = get_room_version("12")
_DAY_MS = 24 * 3600 * 1000
_SENDERS = 50


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class FarRoom:
    """A public room on the first of some servers, with members on all; every event is signed when it is made."""

    def __init__(self, names: Sequence[str], key: SigningKey, member_count: int) -> None:
        name = names[0]
        self._key = key
        self._depth = 0
        self._last: list[str] = []
        self._members: list[tuple[str, str]] = []
        self._state: list[Event] = []
        self.room_id = ""
        creator = f"@creator:{name}"
        create = self._state_event("m.room.create", creator, "", {"room_version": _VERSION.id}, [])
        self.room_id = "!" + create.event_id[1:]
        first = self._state_event("m.room.member", creator, creator, {"membership": "join"}, [])
        auth = [first.event_id]
        self._power = self._state_event("m.room.power_levels", creator, "", {"users": {}}, auth).event_id
        auth = [self._power, first.event_id]
        self._rules = self._state_event(
            "m.room.join_rules", creator, "", {"join_rule": "public"}, auth
        ).event_id
        for number in range(member_count - 1):
            user_id = f"@member-{number}:{names[number % len(names)]}"
            content = {"membership": "join", "displayname": f"Member {number}"}
            event = self._state_event("m.room.member", user_id, user_id, content, [self._power, self._rules])
            self._members.append((user_id, event.event_id))
        answer = {
            "state": [pdu_dict(event) for event in self._state],
            "auth_chain": [pdu_dict(event) for event in self._state[:4]],
            "origin": name,
            "members_omitted": False,
        }
        # The event of the joining server is put before it.
        self._answer = canonical_json.encode(answer)[1:]

    @property
    def last_id(self) -> str:
        """The newest event."""
        return self._last[0]

    def make_join(self, user_id: str) -> bytes:
        """The answer to somebody who wants to come in."""
        proto = {
            "type": "m.room.member",
            "sender": user_id,
            "state_key": user_id,
            "room_id": self.room_id,
            "origin_server_ts": _now_ms(),
            "depth": self._depth + 1,
            "prev_events": self._last,
            "auth_events": [self._power, self._rules],
            "content": {"membership": "join"},
        }
        return msgspec.json.encode({"event": proto, "room_version": _VERSION.id})

    def send_join(self, join: bytes) -> bytes:
        """The whole room for somebody who has come in; what is said from now on comes after."""
        event = parse_event(msgspec.json.decode(join), _VERSION)
        self._depth += 1
        self._last = [event.event_id]
        return b'{"event":' + join + b"," + self._answer

    def say(self, count: int) -> list[dict[str, Any]]:
        """So many messages of its members, each after the one before."""
        pdus = []
        for (user_id, member), _ in zip(
            itertools.cycle(self._members[:_SENDERS]), range(count), strict=False
        ):
            content = {"msgtype": "m.text", "body": f"message {self._depth} from far away"}
            pdus.append(pdu_dict(self._add("m.room.message", user_id, content, [self._power, member])))
        return pdus

    def _state_event(
        self, type: str, sender: str, state_key: str, content: dict[str, Any], auth: Sequence[str]
    ) -> Event:
        event = self._add(type, sender, content, auth, state_key=state_key)
        self._state.append(event)
        return event

    def _add(
        self, type: str, sender: str, content: dict[str, Any], auth: Sequence[str], **more: Any
    ) -> Event:
        proto = {
            "type": type,
            "sender": sender,
            "origin_server_ts": _now_ms(),
            "depth": self._depth + 1,
            "prev_events": self._last,
            "auth_events": list(auth),
            "content": content,
            **({"room_id": self.room_id} if self.room_id else {}),
            **more,
        }
        event = sign_event(proto, _VERSION, server_of(sender), self._key)
        self._depth += 1
        self._last = [event.event_id]
        return event


class Remote:
    """Servers with one key; their names are their addresses.

    `on_transaction` hears of each transaction: whom it was for, and its body.
    """

    def __init__(self, names: Sequence[str], authority: Authority) -> None:
        self.names = names
        self.name = names[0]
        self.rooms: dict[str, FarRoom] = {}
        self.on_transaction: Callable[[str, bytes], None] = lambda name, body: None
        self._authority = authority
        self._key = signing_key_from_seed("far", b"only for measuring, 32 bytes long"[:32])
        self._transactions = itertools.count(_now_ms())

    @classmethod
    @asynccontextmanager
    async def start(cls, folder: Path, count: int = 1) -> AsyncIterator["Remote"]:
        """Listening servers; their certificates go into `folder`."""
        authority = Authority(folder)
        ports = find_free_ports(count)
        remote = cls([f"127.0.0.1:{port}" for port in ports], authority)
        context = authority.server_context()
        async with AsyncExitStack() as stack:
            for port in ports:
                await stack.enter_async_context(listening(remote._handle, "127.0.0.1", port, context))
            yield remote

    def settings(self, server: Server) -> dict[str, Any]:
        """The settings of a server that federates with this one."""
        return server.federation_settings(self._authority.ca_file)

    def make_room(self, member_count: int) -> FarRoom:
        """A new room there."""
        room = FarRoom(self.names, self._key, member_count)
        self.rooms[room.room_id] = room
        return room

    def sign_transaction(self, pdus: Sequence[dict[str, Any]], port: int) -> bytes:
        """A transaction for the server under test, as it goes over the wire."""
        path = f"/_matrix/federation/v1/send/{next(self._transactions)}"
        body = canonical_json.encode(
            {"origin": self.name, "origin_server_ts": _now_ms(), "pdus": list(pdus), "edus": []}
        )
        signature = sign_request("PUT", path, self.name, SERVER_NAME, body, self._key)
        head = (
            f"PUT {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: {signature}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        parts = request.path.strip("/").split("/")
        match parts:
            case ["_matrix", "key", "v2", "server", *_]:
                return _json(canonical_json.encode(self._keys(request.headers["Host"])))
            case ["_matrix", "federation", "v1", "make_join", room_id, user_id]:
                return _json(self.rooms[room_id].make_join(user_id))
            case ["_matrix", "federation", "v2", "send_join", room_id, _]:
                return _json(self.rooms[room_id].send_join(body))
            case ["_matrix", "federation", "v1", "send", _]:
                self.on_transaction(request.headers["Host"], body)
                return _json(b'{"pdus":{}}')
        return web.json_response({"errcode": "M_UNRECOGNIZED", "error": "unrecognized"}, status=404)

    def _keys(self, name: str) -> dict[str, Any]:
        document = {
            "server_name": name,
            "verify_keys": {key_id_of(self._key): {"key": encode_base64(bytes(self._key.verify_key))}},
            "old_verify_keys": {},
            "valid_until_ts": _now_ms() + _DAY_MS,
        }
        return sign_json(document, name, self._key)


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")


async def deliver(connection: Connection, request: bytes) -> Answer:
    """The answer to a transaction; BadAnswer where the server has not taken all of it."""
    answer = await connection.ask(request)
    if answer.status != 200 or b'"error"' in answer.body:
        raise BadAnswer(f"a transaction was answered with {answer.status} {answer.body[:300]!r}")
    return answer
