"""One authenticated request through our HTTP floor, against aiohttp answering the same bytes without looking.

    pytest bench/micro/test_http_request.py

The server runs in a thread of its own on uvloop, without a database; `cpu_us` in `extra_info` is the CPU
time of that thread for one request, the client's left out. The peer is what nothing on aiohttp can beat.
"""

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvloop
from aiohttp import web

from hs.http.app import App
from hs.http.endpoint import Auth, Caller, ClientInfo, endpoint
from hs.http.listeners import build_http_server
from hs.http.rate_limit import Limit, RateLimiter

REQUESTS = 2_000
HEAD = (
    b"Host: matrix.example.org\r\nAuthorization: Bearer hs_abcdefghijklmnopqrstuvwxyzabcdefghijkl\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: application/json\r\n"
)
BODY = b'{"msgtype":"m.text","body":"hello"}'
GET = b"GET /_matrix/client/v3/account/whoami HTTP/1.1\r\n" + HEAD + b"\r\n"
PUT = (
    b"PUT /_matrix/client/v3/rooms/%21abcdef%3Aexample.org/send/m.room.message/m123 HTTP/1.1\r\n"
    + HEAD
    + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY)
    + BODY
)

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class OneUser:
    """Every token is Alice's."""

    async def authenticate(self, token: str, client: ClientInfo) -> Caller:
        return Caller("@alice:example.org", "PHONE")


class NoOverrides:
    """Nobody has a limit of their own."""

    async def find_override(self, user_id: str) -> Limit | None:
        return None


class Api:
    """A question and a message, as the real ones are declared."""

    @endpoint("GET", "/_matrix/client/v3/account/whoami", auth=Auth.USER, limit="other")
    async def get_whoami(self, caller: Caller) -> dict[str, Any]:
        """Whose token this is."""
        return {"user_id": caller.user_id, "device_id": caller.device_id, "is_guest": False}

    @endpoint(
        "PUT",
        "/_matrix/client/v3/rooms/{room_id}/send/{event_type}/{txn_id}",
        auth=Auth.USER,
        limit="message",
    )
    async def put_event(
        self, caller: Caller, room_id: str, event_type: str, txn_id: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        """An event id."""
        return {"event_id": "$WLGTSEFSEFwJzumhmOGEhHVWSdvArJzumhmOGEhHVW"}


async def answer_at_once(request: web.BaseRequest) -> web.StreamResponse:
    """What our endpoint answers, whoever asks."""
    await request.read()
    return web.Response(body=b'{"user_id":"@alice:example.org"}', content_type="application/json")


def make_app() -> Handler:
    limiter = RateLimiter(True, lambda _: Limit(1e9, 10**9), NoOverrides())
    return App([Api()], OneUser(), limiter).handle


@contextmanager
def serving(make_handler: Callable[[], Handler]) -> Iterator[tuple[int, int]]:
    """A server in a thread of its own: its port, and the clock of its CPU time."""
    started: list[int] = []
    ready, stop = threading.Event(), asyncio.Event()
    loop = uvloop.new_event_loop()

    async def serve() -> None:
        runner = web.ServerRunner(build_http_server(make_handler()))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        started.append(runner.addresses[0][1])
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    ready.wait()
    assert thread.ident is not None
    try:
        yield started[0], time.pthread_getcpuclockid(thread.ident)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


@pytest.mark.parametrize("request_bytes", [GET, PUT], ids=["whoami", "send"])
@pytest.mark.parametrize("make_handler", [make_app, lambda: answer_at_once], ids=["hs", "bare aiohttp"])
def test_request(benchmark: Any, make_handler: Callable[[], Handler], request_bytes: bytes) -> None:
    with serving(make_handler) as (port, clock), socket.create_connection(("127.0.0.1", port)) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def ask() -> None:
            line.sendall(request_bytes)
            assert line.recv(65536).startswith(b"HTTP/1.1 200 OK")

        ask()
        before = time.clock_gettime(clock)
        benchmark.pedantic(ask, rounds=REQUESTS, warmup_rounds=100)
        spent = time.clock_gettime(clock) - before
    benchmark.extra_info["cpu_us"] = round(spent / (REQUESTS + 100) * 1e6, 1)
