"""A homeserver of our own that does what a test says: real HTTPS, real signatures, and any lie on demand.

    async with RemoteServer.start(authority) as remote:
        room = remote.make_room()                              # in memory, hosted there
        remote.trust(name, base_url)                           # only for names that are no address
        text = room.say(remote.user("alice"), "hello")
        answer = await remote.send(town.server_name, text)     # a transaction
        room = await remote.join(town.server_name, room_id, remote.user("alice"))
        request = await remote.wait_for("PUT", "/send/")
        pdu = await remote.wait_for_pdu(lambda pdu: pdu["type"] == "m.room.message")
        remote.script("GET", "/state_ids/", refuse(500, "M_UNKNOWN"))

Requests without a right signature are refused, and listed in `complaints`.
"""

import asyncio
import io
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

import aiohttp
from aiohttp import web
from signedjson.key import decode_verify_key_bytes, generate_signing_key
from signedjson.sign import SignatureVerifyException, sign_json, verify_signed_json
from signedjson.types import SigningKey
from unpaddedbase64 import decode_base64, encode_base64
from yarl import URL

from hs.matrix.destinations import MIN_WAIT_MS
from tests.certificates import Authority, Certificate
from tests.listening import listening
from tests.remote_answers import RemoteAnswers
from tests.remote_room import Pdu, RemoteRoom
from tests.remote_room_answers import FEDERATION
from tests.remote_scripts import WAIT_S, Action, Received, Reply, Script, Stall, change
from tests.remote_world import RemoteWorld, now_ms
from tests.room_builder import BuiltEvent
from tests.server_process import find_free_ports

_MAX_REQUEST_BYTES = 200_000_000
_GREETING_S = 0.5

_numbers = itertools.count(1)
_used_ports: set[int] = set()


@dataclass(frozen=True)
class Answer:
    """Status and body of what somebody answered to the remote."""

    status: int
    body: Any

    @property
    def error(self) -> tuple[int, str | None]:
        """Status and error code, for one comparison."""
        return self.status, self.body.get("errcode") if isinstance(self.body, dict) else None


class RemoteServer:
    """One scripted homeserver; see the top of this file."""

    def __init__(self, name: str, session: aiohttp.ClientSession) -> None:
        self.world = RemoteWorld(name, generate_signing_key(f"r{next(_numbers)}"))
        self.requests: list[Received] = []
        self.complaints: list[str] = []
        # Whether requests with wrong signatures are refused.
        self.verifies = True
        self._session = session
        self._answers = RemoteAnswers(self.world)
        self._scripts: list[Script] = []
        self._changed = asyncio.Condition()
        self._base_urls: dict[str, str] = {}
        self._keys: dict[str, dict[str, Any]] = {}
        # Where it listens, which its name may say differently.
        self.address = name

    @classmethod
    @asynccontextmanager
    async def start(
        cls,
        authority: Authority,
        *,
        host: str = "127.0.0.1",
        name: str | None = None,
        certificate: Certificate | None = None,
    ) -> AsyncIterator["RemoteServer"]:
        """A listening server. Its name is its address, "127.0.0.1:PORT", where none is given."""
        connector = aiohttp.TCPConnector(ssl=authority.client_context())
        context = authority.server_context(certificate)
        async with aiohttp.ClientSession(connector=connector) as session:
            # Each request is made once; aiohttp would ask again where a connection ends before the answer.
            session._retry_connection = False
            remote: RemoteServer

            async def handle(request: web.BaseRequest) -> web.StreamResponse:
                return await remote._handle(request)

            port = _choose_port()
            async with listening(handle, host, port, context):
                address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
                remote = cls(name or address, session)
                remote.address = address
                yield remote

    # --- what it has

    @property
    def name(self) -> str:
        """Its server name."""
        return self.world.name

    def user(self, localpart: str) -> str:
        """The id of somebody there."""
        return f"@{localpart}:{self.name}"

    @property
    def signing_keys(self) -> dict[str, Any]:
        """What its rooms sign with."""
        return {self.name: self.world.key}

    def make_room(self, version_id: str = "12", creator: str = "alice", **options: Any) -> RemoteRoom:
        """A room that it hosts, with one of its users; options as of `RoomBuilder.start`."""
        room = RemoteRoom.make(version_id, self.user(creator), self.signing_keys, **options)
        self.world.rooms[room.room_id] = room
        return room

    # --- scripts

    def script(self, method: str, part: str, action: Action, times: int | None = None) -> Script:
        """Have requests whose path has `part` in it answered by an action; the newest script goes first."""
        script = Script(method, part, action, times)
        self._scripts.insert(0, script)
        return script

    def stall(self, method: str, part: str, then: Action | None = None) -> Stall:
        """Have requests wait until they are released."""
        stall = Stall(then)
        self.script(method, part, stall)
        return stall

    def lie(self, method: str, part: str, answer: Callable[[Any], Any]) -> Script:
        """Have something changed in what is answered otherwise."""
        return self.script(method, part, change(answer, self._answers.answer))

    def keep_waiting(self, method: str, part: str, act: Callable[[], Awaitable[None]]) -> Script:
        """Carry requests out as ever, but have `act` done before they are answered."""

        async def answer(request: Received) -> Any:
            reply = await self._answers.answer(request)
            await act()
            return reply

        return self.script(method, part, answer)

    def behave(self) -> None:
        """Drop all scripts."""
        self._scripts.clear()

    # --- what it got

    def received(self, method: str, part: str) -> list[Received]:
        """The requests so far whose path has `part` in it."""
        return [r for r in self.requests if method in (r.method, "*") and part in "/" + "/".join(r.parts)]

    async def wait_until(self, is_so: Callable[[], Any]) -> Any:
        """What `is_so` returns once it is true; asked again after each request."""
        try:
            async with asyncio.timeout(WAIT_S):
                return await self._wait_until(is_so)
        except TimeoutError:
            asked = [f"{request.method} {request.path}" for request in self.requests[-10:]]
            raise AssertionError(f"{self.name} waits in vain; its last requests: {asked}") from None

    async def _wait_until(self, is_so: Callable[[], Any]) -> Any:
        async with self._changed:
            while not (found := is_so()):
                await self._changed.wait()
        return found

    async def greet_until(
        self, destination: str, is_so: Callable[[], Any], pass_ms: Callable[[int], None] | None = None
    ) -> None:
        """Say now and then that it is here again, until `is_so`: who has found it down does not believe it at once.

        `pass_ms` makes that quick: it puts the clock of the destination forward.
        """
        for _ in range(int(WAIT_S / _GREETING_S)):
            if pass_ms is not None:
                pass_ms(MIN_WAIT_MS)
            await self.send(destination)
            try:
                async with asyncio.timeout(_GREETING_S):
                    await self._wait_until(is_so)
                return
            except TimeoutError:
                continue
        await self.wait_until(is_so)

    async def wait_for(self, method: str, part: str, count: int = 1) -> Received:
        """The `count`th request whose path has `part` in it."""
        found = await self.wait_until(lambda: self.received(method, part)[count - 1 :])
        first: Received = found[0]
        return first

    async def wait_for_pdu(self, is_wanted: Callable[[Pdu], Any]) -> Pdu:
        """The first event with this property in a transaction."""
        found: list[Pdu] = await self.wait_until(lambda: [pdu for pdu in self.world.pdus if is_wanted(pdu)])
        return found[0]

    async def wait_for_edu(self, edu_type: str) -> dict[str, Any]:
        """The content of the first ephemeral unit of this type."""
        edus = self.world.edus
        found = await self.wait_until(lambda: [e["content"] for e in edus if e["edu_type"] == edu_type])
        first: dict[str, Any] = found[0]
        return first

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        received = Received(
            request.method, path, parse_qs(query), request.headers, await _read(request), web_request=request
        )
        needs_signature = path.startswith(FEDERATION) and not path.endswith(("/version", "/openid/userinfo"))
        try:
            received.origin = await self._find_origin(received) if needs_signature else None
        except _Unsigned as error:
            self.complaints.append(f"{request.method} {request.raw_path}: {error}")
            if self.verifies:
                return Reply(401, {"errcode": "M_UNAUTHORIZED", "error": str(error)}).to_response()
        self.requests.append(received)
        await self._tell()
        response: Reply | web.StreamResponse | None = None
        script = next((script for script in self._scripts if script.matches(received)), None)
        if script is not None:
            script.times = None if script.times is None else script.times - 1
            script.seen.append(received)
            response = await script.action(received)
        if response is None:
            response = await self._answers.answer(received)
            await self._tell()
        return response.to_response() if isinstance(response, Reply) else response

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    # --- what it asks

    def trust(self, name: str, base_url: str) -> None:
        """Reach the server of this name at this address; names that are addresses need no such thing."""
        self._base_urls[name] = base_url

    def know_key(self, name: str, key: SigningKey) -> None:
        """Take this for the key of a server that does not listen."""
        verify_key = encode_base64(key.verify_key.encode())
        self._keys[name] = {f"ed25519:{key.version}": {"key": verify_key}}

    def _url(self, destination: str, path: str) -> URL:
        base_url = self._base_urls.get(destination, f"https://{destination}")
        return URL(base_url + path, encoded=True)

    def authorization(self, destination: str, method: str, path: str, body: Any = None, **fields: str) -> str:
        """The header of a signed request; `fields` replace what it says after it was signed."""
        document = {"method": method, "uri": path, "origin": self.name, "destination": destination}
        if body is not None:
            document["content"] = body
        signed = sign_json(document, self.name, self.world.key)
        [(key_id, signature)] = signed["signatures"][self.name].items()
        said = {"origin": self.name, "destination": destination, "key": key_id, "sig": signature} | fields
        return "X-Matrix " + ",".join(f'{name}="{value}"' for name, value in said.items())

    async def ask(
        self,
        destination: str,
        method: str,
        *parts: str,
        body: Any = None,
        query: Mapping[str, str | Sequence[str]] | None = None,
        headers: Mapping[str, str] | None = None,
        signed: bool = True,
    ) -> Answer:
        """A request to `/_matrix/federation/part/part...`, signed if nothing else is said."""
        path = FEDERATION + "".join("/" + quote(part, safe="") for part in parts)
        return await self.ask_path(
            destination, method, path, body=body, query=query, headers=headers, signed=signed
        )

    async def ask_path(
        self,
        destination: str,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, str | Sequence[str]] | None = None,
        headers: Mapping[str, str] | None = None,
        signed: bool = True,
    ) -> Answer:
        """The same for any path."""
        if query:
            path += "?" + urlencode(query, doseq=True)
        sent = {"Content-Type": "application/json"} if body is not None else {}
        if signed:
            sent["Authorization"] = self.authorization(destination, method, path, body)
        data = None if body is None else io.BytesIO(json.dumps(body).encode())
        url = self._url(destination, path)
        async with self._session.request(
            method, url, data=data, headers=sent | dict(headers or {})
        ) as response:
            text = await response.text()
        try:
            return Answer(response.status, json.loads(text))
        except ValueError:
            return Answer(response.status, text)

    async def send(
        self,
        destination: str,
        *events: BuiltEvent | Pdu,
        edus: Sequence[Mapping[str, Any]] = (),
        txn_id: str | None = None,
    ) -> Answer:
        """The answer to a transaction with these events."""
        body = {
            "origin": self.name,
            "origin_server_ts": now_ms(),
            "pdus": [event.pdu if isinstance(event, BuiltEvent) else event for event in events],
            "edus": list(edus),
        }
        return await self.ask(destination, "PUT", "v1", "send", txn_id or f"t{next(_numbers)}", body=body)

    async def join(self, destination: str, room_id: str, user_id: str) -> RemoteRoom:
        """The room there, which the user is in now; AssertionError where the server does not let them in."""
        versions = [str(number) for number in range(1, 13)]
        made = await self.ask(
            destination, "GET", "v1", "make_join", room_id, user_id, query={"ver": versions}
        )
        assert made.status == 200, made
        version_id = made.body.get("room_version", "1")
        pdu, event_id = self.sign(made.body["event"], version_id)
        answer = await self.ask(destination, "PUT", "v2", "send_join", room_id, event_id, body=pdu)
        assert answer.status == 200, answer
        join = answer.body.get("event", pdu)
        keys = self.signing_keys
        room = RemoteRoom.from_join(version_id, keys, answer.body["state"], answer.body["auth_chain"], join)
        self.world.rooms[room_id] = room
        return room

    async def catch_up(self, destination: str, room: RemoteRoom) -> None:
        """Ask for what is missing before events that wait in the room, until none waits."""
        while room.waiting:
            body = {
                "latest_events": [*room.waiting],
                "earliest_events": [event.event_id for event in room.extremities],
                "limit": 20,
            }
            parts = ("v1", "get_missing_events", room.room_id)
            answer = await self.ask(destination, "POST", *parts, body=body)
            assert answer.status == 200, answer
            assert answer.body["events"], f"nobody tells what comes before {[*room.waiting]}"
            for pdu in answer.body["events"]:
                room.receive(pdu)

    def sign(self, proto: Mapping[str, Any], version_id: str) -> tuple[Pdu, str]:
        """A template of another server as a finished event, and its id."""
        return RemoteRoom(version_id, self.signing_keys).finish(proto, self.name)

    # --- who asks

    async def _find_origin(self, request: Received) -> str:
        said = _parse_authorization(request.headers.get("Authorization", ""))
        origin, key_id = said["origin"], said["key"]
        if said.get("destination") != self.name:
            raise _Unsigned(f"meant for {said.get('destination')!r}")
        uri = request.path
        raw = request.web_request.raw_path if request.web_request is not None else uri
        document: dict[str, Any] = {
            "method": request.method,
            "uri": raw,
            "origin": origin,
            "destination": self.name,
        }
        if request.data:
            document["content"] = request.body
        document["signatures"] = {origin: {key_id: said["sig"]}}
        key = await self._find_key(origin, key_id)
        try:
            verify_signed_json(document, origin, decode_verify_key_bytes(key_id, decode_base64(key)))
        except SignatureVerifyException as error:
            raise _Unsigned(str(error)) from error
        return origin

    async def _find_key(self, server_name: str, key_id: str) -> str:
        if key_id not in self._keys.get(server_name, {}):
            answer = await self.ask_path(server_name, "GET", "/_matrix/key/v2/server", signed=False)
            if answer.status != 200 or answer.body.get("server_name") != server_name:
                raise _Unsigned(f"no keys of {server_name}: {answer}")
            self._keys[server_name] = answer.body["verify_keys"]
        if key_id not in self._keys[server_name]:
            raise _Unsigned(f"{server_name} has no key {key_id}")
        key: str = self._keys[server_name][key_id]["key"]
        return key


def _choose_port() -> int:
    """A free port that no remote of this process has had: servers remember whose key belongs to a name."""
    [port] = find_free_ports(1)
    while port in _used_ports:
        [port] = find_free_ports(1)
    _used_ports.add(port)
    return port


class _Unsigned(Exception):
    """A request whose signature is not there, or wrong."""


def _parse_authorization(header: str) -> dict[str, str]:
    scheme, _, rest = header.partition(" ")
    pairs = [pair.strip().partition("=") for pair in rest.split(",")]
    said = {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}
    if scheme.lower() != "x-matrix" or not {"origin", "key", "sig"} <= said.keys():
        raise _Unsigned(f"no X-Matrix header: {header!r}")
    return said


async def _read(request: web.BaseRequest) -> bytes:
    data = bytearray()
    async for chunk in request.content.iter_any():
        data += chunk
        assert len(data) <= _MAX_REQUEST_BYTES, "this is too much for any test"
    return bytes(data)
