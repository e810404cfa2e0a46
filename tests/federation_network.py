"""What lies between homeservers: a switch in front of each one's federation listener, and links between them.

A switch ends TLS and begins it again, so it knows who asks whom: requests name their origin. Each pair has a link
in each direction, which passes, delays, holds back, cuts or loses answers. Requests without an origin (keys,
versions) go by the link of `None` and the destination.

    network.partition({a, b}, {c})       # nothing gets through between the two sides
    network.link(a, b).fate = Fate.LOSE_ANSWER
    network.link(b, a).hold()            # requests wait, like on a very slow line, until `heal` or `let_go`
    network.heal()
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import NoReturn

import aiohttp
from aiohttp import web
from yarl import URL

from tests.certificates import Authority
from tests.listening import let_sockets_close, listening

_ORIGIN = re.compile(r'origin="?([^",]+)"?')
# Of one hop only.
_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "accept-encoding"}


class Fate(Enum):
    """What becomes of a request."""

    PASS = "pass"
    # The connection ends before the request has arrived.
    CUT = "cut"
    # The request arrives, its answer does not.
    LOSE_ANSWER = "lose answer"
    # The answer ends in the middle.
    CUT_ANSWER = "cut answer"


@dataclass(eq=False)
class Link:
    """One direction between two servers."""

    fate: Fate = Fate.PASS
    # Requests that came this way.
    passed: list[str] = field(default_factory=list)
    # Awaited before a request goes on, with its method and path: delays and reorders.
    delay: Callable[[str], Awaitable[None]] | None = None
    _open: asyncio.Event | None = None

    def hold(self) -> None:
        """Have requests wait until `let_go`."""
        if self._open is None:
            self._open = asyncio.Event()

    def let_go(self) -> None:
        """Have those that wait go on."""
        if self._open is not None:
            self._open.set()
            self._open = None

    async def cross(self, request: str) -> Fate:
        """Wait as long as requests wait here; what becomes of this one."""
        while self._open is not None:
            await self._open.wait()
        if self.delay is not None:
            await self.delay(request)
        self.passed.append(request)
        return self.fate


class Network:
    """The links between servers, by name."""

    def __init__(self, authority: Authority, session: aiohttp.ClientSession) -> None:
        self._authority = authority
        self._session = session
        self._links: dict[tuple[str | None, str], Link] = {}

    @classmethod
    @asynccontextmanager
    async def start(cls, authority: Authority) -> AsyncIterator["Network"]:
        """A network without servers."""
        connector = aiohttp.TCPConnector(ssl=authority.client_context(), limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
            # Requests go on once, as they came.
            session._retry_connection = False
            yield cls(authority, session)

    def link(self, origin: str | None, destination: str) -> Link:
        """The way from one to the other."""
        return self._links.setdefault((origin, destination), Link())

    def partition(self, *sides: Collection[str]) -> None:
        """Cut all links between servers of different sides."""
        for here in sides:
            for there in sides:
                if here is not there:
                    for origin in here:
                        for destination in there:
                            self.link(origin, destination).fate = Fate.CUT

    def isolate(self, name: str) -> None:
        """Nobody reaches this server, not even for its keys."""
        self.link(None, name).fate = Fate.CUT
        for origin, destination in list(self._links):
            if destination == name:
                self.link(origin, destination).fate = Fate.CUT

    def heal(self) -> None:
        """Everything passes again, and what was held back goes on."""
        for link in self._links.values():
            link.fate, link.delay = Fate.PASS, None
            link.let_go()

    async def close(self) -> None:
        """Let go of all connections to servers."""
        self.heal()
        await self._session.close()
        await let_sockets_close()

    @asynccontextmanager
    async def switch(self, name: str, port: int, behind: str) -> AsyncIterator[None]:
        """The port that others reach the server of this name at; `behind` is the URL of its own listener."""

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            return await self._forward(name, behind, request)

        async with listening(handle, "127.0.0.1", port, self._authority.server_context()):
            yield

    async def _forward(self, name: str, behind: str, request: web.BaseRequest) -> web.StreamResponse:
        data = await request.read()
        found = _ORIGIN.search(request.headers.get("Authorization", ""))
        link = self.link(None if found is None else found.group(1), name)
        fate = await link.cross(f"{request.method} {request.raw_path}")
        if fate is Fate.CUT:
            _abort(request)
        headers = {key: value for key, value in request.headers.items() if key.lower() not in _HOP}
        url = URL(behind + request.raw_path, encoded=True)
        try:
            async with self._session.request(
                request.method, url, data=data or None, headers=headers, allow_redirects=False
            ) as answer:
                body = await answer.read()
        except aiohttp.ClientError:
            # The server behind is down.
            _abort(request)
        if fate is Fate.LOSE_ANSWER:
            _abort(request)
        kept = {key: value for key, value in answer.headers.items() if key.lower() not in _HOP}
        if fate is Fate.CUT_ANSWER:
            cut = web.StreamResponse(status=answer.status, headers=kept)
            cut.content_length = len(body) + 1
            await cut.prepare(request)
            await cut.write(body[: len(body) // 2])
            _abort(request)
        return web.Response(status=answer.status, body=body, headers=kept)


def _abort(request: web.BaseRequest) -> NoReturn:
    if request.transport is not None:
        request.transport.abort()
    # Nobody is there any more; aiohttp ends the handler quietly.
    raise asyncio.CancelledError
