"""What finds and asks servers, on a DNS and on web servers of the test's own."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Unpack

import pytest
from aiohttp import web

from hs.config import PRIVATE_NETWORKS
from hs.net.addresses import AddressGuard
from hs.net.bounds import Bounds
from hs.net.client import HttpAnswer, HttpClient, RequestOptions, make_tls_context
from hs.net.connections import HttpLimits
from hs.net.discovery import Discovery
from hs.net.resolver import Resolver
from hs.net.targets import Target
from hs.net.well_known import WellKnown
from tests.certificates import Authority, Certificate
from tests.dns_server import DnsServer
from tests.listening import listening
from tests.net.house import Clock

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
RawAnswer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

# 127.0.0.3 is where nobody may lead us.
ALLOWED = ("127.0.0.1/32", "127.0.0.2/32", "::1/128")
PLENTY = Bounds(1_000_000, 10)
HEAD = b"HTTP/1.1 200 OK\r\n"


def local(port: int, name: str = "a.example", host: str = "127.0.0.1") -> Target:
    """A server on this machine under a name."""
    return Target(host, port, name, name)


def page(text: str, status: int = 200, **headers: str) -> Answer:
    """The same text for whoever asks."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(text=text, status=status, headers=named)

    return answer


@dataclass
class Site:
    """A web server; it answers `answer`, and remembers what it was asked."""

    port: int = 0
    answer: Answer = field(default_factory=lambda: page("here"))
    requests: list[web.BaseRequest] = field(default_factory=list)
    # The server names that clients have sent with TLS, one for each connection.
    sni: list[str | None] = field(default_factory=list)

    @property
    def hosts(self) -> list[str]:
        """The Host headers of the requests."""
        return [request.headers["Host"] for request in self.requests]


@dataclass
class Outside:
    """The parts, with a clock and a DNS that tests decide about."""

    authority: Authority
    dns: DnsServer
    clock: Clock
    stack: AsyncExitStack
    folder: Path
    limits: HttpLimits = field(default_factory=HttpLimits)

    def build(self) -> None:
        """New parts, which remember nothing. `well_known_port` and `matrix_port` are where 443 and 8448 are."""
        guard = AddressGuard(PRIVATE_NETWORKS, ALLOWED)
        self.hosts_file = self.folder / "hosts"
        self.resolver = Resolver(guard, self.clock.now_ms, [self.dns.address], self.hosts_file)
        self.http = HttpClient(guard, self.resolver, make_tls_context(self.authority.ca_file), self.limits)
        self.stack.push_async_callback(self.resolver.close)
        self.stack.push_async_callback(self.http.close)

    def discovery(self, well_known_port: int, matrix_port: int = 8448) -> Discovery:
        """Finds servers."""
        well_known = WellKnown(self.http, self.clock.now_ms, well_known_port)
        made = Discovery(well_known, self.resolver, matrix_port)
        self.stack.push_async_callback(made.close)
        return made

    async def site(
        self, *names: str, host: str = "127.0.0.1", certificate: Certificate | None = None
    ) -> Site:
        """A web server with a certificate for these names, by default for this machine."""
        site = Site()
        chosen = certificate or (self.authority.issue(*names) if names else None)
        context = self.authority.server_context(chosen)

        def note(_socket: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
            site.sni.append(name)

        context.sni_callback = note

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            site.requests.append(request)
            await request.read()
            return await site.answer(request)

        site.port = await self.stack.enter_async_context(listening(handle, host, 0, context))
        return site

    async def raw(self, answer: RawAnswer) -> int:
        """The port of a server on 127.0.0.1 that speaks TLS, and then whatever `answer` writes."""
        tasks: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            try:
                await reader.readuntil(b"\r\n\r\n")
                await answer(reader, writer)
            except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass
            finally:
                tasks.discard(task)
                writer.transport.abort()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=self.authority.server_context())

        async def end() -> None:
            server.close()
            for task in list(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.stack.push_async_callback(end)
        return int(server.sockets[0].getsockname()[1])

    async def get(self, url: str, bounds: Bounds = PLENTY, **options: Unpack[RequestOptions]) -> HttpAnswer:
        """A GET."""
        return await self.http.request("GET", url, bounds, **options)


@asynccontextmanager
async def make_outside(authority: Authority, folder: Path) -> AsyncIterator[Outside]:
    """All of it, until it is closed."""
    async with AsyncExitStack() as stack:
        dns = await stack.enter_async_context(DnsServer.start())
        outside = Outside(authority, dns, Clock(), stack, folder)
        outside.build()
        yield outside


@pytest.fixture
async def outside(authority: Authority, tmp_path: Path) -> AsyncIterator[Outside]:
    """What finds and asks servers."""
    async with make_outside(authority, tmp_path) as made:
        yield made
