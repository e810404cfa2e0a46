"""Another server, as far as somebody needs it who asks one question after the other: a name, a key, a user in rooms.

Its requests are signed, and it tells its keys; whatever else it is asked is not found. No event loop.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import quote

import requests

from hs._fast import canonical_json
from hs.matrix.event import pdu_dict, sign_event
from hs.matrix.keys import encode_base64, key_id_of, signing_key_from_seed
from hs.matrix.request_auth import canonical_content, sign_request
from hs.matrix.room_versions import get_room_version
from hs.matrix.signing import sign_json
from tests.certificates import Authority
from tests.fuzz.world import CLIENT, TIMEOUT_S, World

FEDERATION = "/_matrix/federation"
_KEY = signing_key_from_seed("f", b"a seed that is used only by tests"[:32])
_VERSION = get_room_version("12")
_DAY_MS = 24 * 3600 * 1000


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class ForeignServer:
    """Asks the server at `base_url`, whose name is `asked`."""

    def __init__(self, name: str, base_url: str, asked: str, session: requests.Session) -> None:
        self.name = name
        self.user_id = f"@bob:{name}"
        self._base_url = base_url
        self._asked = asked
        self._session = session

    def send(self, method: str, path: str, body: bytes | None = None) -> requests.Response:
        """The answer to a signed request; `path` is escaped, with its query."""
        content = None
        if body is not None:
            try:
                content = canonical_content(body)
            except Exception:
                # What is no JSON has no canonical form: whatever is signed is as good.
                content = b"{}"
        headers = {
            "Authorization": sign_request(method, path, self.name, self._asked, content, _KEY),
            "Content-Type": "application/json",
        }
        request = requests.Request(method, self._base_url, headers=headers, data=body).prepare()
        # As it is: `requests` would unquote some of it.
        request.url = self._base_url + path
        return self._session.send(request, timeout=TIMEOUT_S, allow_redirects=False)

    def enter(self, room_id: str) -> None:
        """Have its user join a public room."""
        self._change("join", "v2", room_id)

    def leave(self, room_id: str) -> None:
        """Have its user leave."""
        self._change("leave", "v2", room_id)

    def _change(self, what: str, version: str, room_id: str) -> None:
        path = f"{FEDERATION}/v1/make_{what}/{quote(room_id, safe='')}/{quote(self.user_id, safe='')}"
        template = self.send("GET", path + ("?ver=12" if what == "join" else ""))
        assert template.status_code == 200, template.text
        proto = template.json()["event"] | {"origin_server_ts": _now_ms()}
        event = sign_event(proto, _VERSION, self.name, _KEY)
        path = (
            f"{FEDERATION}/{version}/send_{what}/{quote(room_id, safe='')}/{quote(event.event_id, safe='')}"
        )
        answer = self.send("PUT", path, json.dumps(pdu_dict(event)).encode())
        assert answer.status_code == 200, answer.text


class Rooms:
    """Things by name, as a World has them, and rooms of all kinds of relation to the foreign server."""

    def __init__(self, world: World, foreign: ForeignServer, base_url: str) -> None:
        self._world = world
        self._foreign = foreign
        self._base_url = base_url
        self._known = {"bob": foreign.user_id}

    def __getitem__(self, name: str) -> str:
        """The id of the thing."""
        if name not in self._known:
            self._known[name] = self._make(name)
        return self._known[name]

    def _make(self, name: str) -> str:
        if name in ("entered", "gone", "banned"):
            room_id = self._create("public_chat")
            self._foreign.enter(room_id)
            if name == "gone":
                self._foreign.leave(room_id)
            if name == "banned":
                self._call("POST", f"rooms/{quote(room_id)}/ban", {"user_id": self._foreign.user_id})
            return room_id
        if name == "closed":
            return self._create("private_chat")
        if name in ("said", "secret"):
            room_id = self["entered" if name == "said" else "closed"]
            path = f"rooms/{quote(room_id)}/send/m.room.message/{name}"
            return str(self._call("PUT", path, {"body": name})["event_id"])
        return self._world["self" if name == "alice" else name]

    def _create(self, preset: str) -> str:
        return str(self._call("POST", "createRoom", {"preset": preset, "room_version": "12"})["room_id"])

    def _call(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._world.token}"}
        url = f"{self._base_url}{CLIENT}/{path}"
        answer = requests.request(method, url, json=body, headers=headers, timeout=TIMEOUT_S)
        assert answer.status_code == 200, (method, path, answer.text)
        found: dict[str, Any] = answer.json()
        return found


@contextmanager
def telling_keys(authority: Authority) -> Iterator[str]:
    """The name of a server that tells its keys, and takes all that it is sent."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            document = {
                "server_name": self.headers["Host"],
                "verify_keys": {key_id_of(_KEY): {"key": encode_base64(bytes(_KEY.verify_key))}},
                "old_verify_keys": {},
                "valid_until_ts": _now_ms() + _DAY_MS,
            }
            is_asked = self.path.startswith("/_matrix/key/v2/server")
            signed = sign_json(document, self.headers["Host"], _KEY)
            self._answer(200 if is_asked else 404, canonical_json.encode(signed) if is_asked else b"{}")

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(200, b'{"pdus":{}}')

        do_POST = do_PUT

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def finish_request(self, request: Any, client_address: Any) -> None:
            # In the connection's own thread: a slow handshake keeps nobody else waiting.
            with context.wrap_socket(request, server_side=True) as secured:
                super().finish_request(secured, client_address)

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Whoever asks may go in the middle."""

    context = authority.server_context()
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
