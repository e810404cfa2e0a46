"""What a scripted remote does instead of answering: lies, stalls, cuts, floods.

remote.script("GET", "/state_ids/", reply({"pdu_ids": [], "auth_chain_ids": []}))
remote.script("PUT", "/send/", refuse(500, "M_UNKNOWN"), times=1)
with remote.stall("GET", "/backfill/") as stall:
    ...
    await stall.reached()
    stall.release()
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from aiohttp import web

WAIT_S = 30.0
_CHUNK = b" " * 65_536


@dataclass(eq=False)
class Received:
    """A request that somebody made of the remote; `path` is as it came, `body` decoded where it is JSON."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    data: bytes
    origin: str | None = None
    web_request: web.BaseRequest | None = field(default=None, repr=False)

    @property
    def body(self) -> Any:
        """The JSON of the request, None without any."""
        return json.loads(self.data) if self.data else None

    @property
    def parts(self) -> list[str]:
        """The segments of the path, unescaped."""
        return [unquote(segment) for segment in self.path.split("/")[1:]]

    def first(self, name: str, default: str = "") -> str:
        """The first value of a query parameter."""
        return next(iter(self.query.get(name, ())), default)


@dataclass(frozen=True)
class Reply:
    """Status and body of an answer."""

    status: int
    body: Any

    def to_response(self) -> web.StreamResponse:
        """As aiohttp sends it."""
        return web.Response(
            status=self.status, body=json.dumps(self.body).encode(), content_type="application/json"
        )


# Returns a Reply, or a response that was sent already, or None to have the remote answer as usual.
Action = Callable[[Received], Awaitable[Reply | web.StreamResponse | None]]


@dataclass(eq=False)
class Script:
    """An action for requests whose path has `part` in it; `times` is how many are left, None for all."""

    method: str
    part: str
    action: Action
    times: int | None = None
    seen: list[Received] = field(default_factory=list)

    def matches(self, request: Received) -> bool:
        """Whether the action is meant for the request."""
        return self.times != 0 and self.method in (request.method, "*") and self.part in unquote(request.path)


def reply(body: Any, status: int = 200) -> Action:
    """Always this answer."""

    async def act(_: Received) -> Reply:
        return Reply(status, body)

    return act


def refuse(status: int, errcode: str, **more: Any) -> Action:
    """An error of the standard shape."""
    return reply({"errcode": errcode, "error": "the script says so", **more}, status)


def change(answer: Callable[[Any], Any], usual: Callable[[Received], Awaitable[Reply]]) -> Action:
    """The usual answer with something changed; see `RemoteServer.lie`."""

    async def act(request: Received) -> Reply:
        found = await usual(request)
        return Reply(found.status, answer(found.body))

    return act


def garbage(data: bytes = b"<html>502 Bad Gateway</html>", content_type: str = "text/html") -> Action:
    """A success that is not JSON."""

    async def act(_: Received) -> web.StreamResponse:
        return web.Response(body=data, content_type=content_type)

    return act


def cut(data: bytes = b'{"pdus": [', promised: int = 100_000) -> Action:
    """The beginning of a body, then the end of the connection."""

    async def act(request: Received) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.content_length = promised
        await _begin(request, response)
        await response.write(data)
        _abort(request)
        return response

    return act


def hang_up() -> Action:
    """The end of the connection without an answer."""

    async def act(request: Received) -> web.StreamResponse:
        _abort(request)
        return web.StreamResponse()

    return act


def redirect(location: str, status: int = 302) -> Action:
    """Somewhere else."""

    async def act(_: Received) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": location})

    return act


class Flood:
    """A body of `size` bytes that begins like JSON; `sent` is how far it came before the other side had enough."""

    def __init__(self, size: int = 100_000_000, *, says_so: bool = False) -> None:
        self.size = size
        self.sent = 0
        self._says_so = says_so

    async def __call__(self, request: Received) -> web.StreamResponse:
        """Send it."""
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        if self._says_so:
            response.content_length = self.size
        try:
            await _begin(request, response)
            await response.write(b"{")
            while self.sent < self.size:
                self.sent += len(_CHUNK)
                await response.write(_CHUNK)
                # A connection that has ended makes itself known in the event loop's next turn.
                await asyncio.sleep(0)
        except ConnectionError:
            pass
        return response


class Stall:
    """Keeps requests waiting until they are released; then they are answered as usual, or by `then`."""

    def __init__(self, then: Action | None = None) -> None:
        self._then = then
        self._reached = asyncio.Event()
        self._released = asyncio.Event()
        self.waiting = 0

    async def __call__(self, request: Received) -> Reply | web.StreamResponse | None:
        """Wait."""
        self.waiting += 1
        self._reached.set()
        try:
            await self._released.wait()
        finally:
            self.waiting -= 1
        return None if self._then is None else await self._then(request)

    async def reached(self) -> None:
        """Return once a request waits here."""
        async with asyncio.timeout(WAIT_S):
            await self._reached.wait()

    def release(self) -> None:
        """Let all go on."""
        self._released.set()


async def _begin(request: Received, response: web.StreamResponse) -> None:
    assert request.web_request is not None
    await response.prepare(request.web_request)


def _abort(request: Received) -> None:
    assert request.web_request is not None
    transport = request.web_request.transport
    if transport is not None:
        transport.abort()
