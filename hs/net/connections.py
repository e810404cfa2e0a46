"""Connections to other servers, and one request with its answer on one of them.

    received = await pool.exchange("PUT", target, "/_matrix/...", {"Content-Type": "application/json"}, body)
    try:
        async for chunk in received.content.iter_any(): ...
    finally:
        received.release()

Pool, TLS, the writing of headers and the parser of answers are aiohttp's; its ClientSession is left out. Cookies,
middlewares, traces and proxies are nothing to us, and cost about as much for each request as TLS and its signature do.
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from aiohttp import hdrs
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import StreamWriter
from cachetools import LRUCache
from multidict import CIMultiDict, CIMultiDictProxy

from hs.net.addresses import AddressGuard
from hs.net.errors import AddressRefused, BadAnswer
from hs.net.resolver import Resolver
from hs.net.targets import Target, check_path

# Of one header line; with aiohttp's 128 lines, 1 MiB in all.
_MAX_HEADER: Final = 8190
# Read ahead for who does not take it yet, twice this.
_READ_AHEAD: Final = 128 * 1024
# Kept for the next requests to one place; what a burst needs more is closed after it.
_IDLE_PER_HOST: Final = 2
# Places that are described to aiohttp once, 2 kB each.
_REMEMBERED: Final = 2048
# RFC 9110, 15.2: "103 Early Hints" may come several times.
_MAX_INTERIM: Final = 8
_HEADERS: Final[Mapping[str, str]] = {
    hdrs.USER_AGENT: "hs",
    hdrs.ACCEPT: "*/*",
    hdrs.ACCEPT_ENCODING: "identity",
}
# Repeated once, where a connection has come to its end unused. RFC 9110, 9.2.2.
_IDEMPOTENT: Final = {"GET", "PUT"}


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """How many connections are used at once, to one place and in all; how long they are tried and kept."""

    max_connections: int = 1000
    max_connections_per_host: int = 8
    # Places with idle connections.
    max_idle_hosts: int = 2000
    connect_timeout_s: float = 6.0
    # Shorter than what servers have: a request that meets a connection's end is lost.
    idle_timeout_s: float = 30.0


DEFAULT_LIMITS: Final = HttpLimits()


@dataclass(frozen=True, slots=True)
class Received:
    """The head of an answer, and where its body comes from; `release` it at the end."""

    status: int
    headers: CIMultiDictProxy[str]
    content: aiohttp.StreamReader
    connection: aiohttp.connector.Connection

    @property
    def content_length(self) -> int:
        """How long the body is to be; 0 where that is not said. Raises ValueError."""
        return int(self.headers.get(hdrs.CONTENT_LENGTH, 0))

    def release(self) -> None:
        """Let the connection be used again; where there is more to read, it ends."""
        self.connection.release()


class ConnectionPool:
    """Connections are kept for the next request to the same place under the same name.

    Each address is put before the guard when a socket is made for it.
    """

    def __init__(
        self, guard: AddressGuard, resolver: Resolver, context: ssl.SSLContext, limits: HttpLimits
    ) -> None:
        self._guard = guard
        self._loop = asyncio.get_running_loop()
        self._connector = _Connector(
            limits.max_idle_hosts,
            ssl=context,
            resolver=_GuardedResolver(resolver),
            use_dns_cache=False,
            limit=limits.max_connections,
            limit_per_host=limits.max_connections_per_host,
            keepalive_timeout=limits.idle_timeout_s,
            socket_factory=self._make_socket,
        )
        self._timeout = aiohttp.ClientTimeout(sock_connect=limits.connect_timeout_s)
        self._places: LRUCache[Target, aiohttp.ClientRequest] = LRUCache(_REMEMBERED)

    async def close(self) -> None:
        """End all connections."""
        await self._connector.close()

    async def exchange(
        self, method: str, target: Target, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> Received:
        """The head of the answer; `path` with its query, escaped.

        Raises what aiohttp raises, OSError, BadAnswer; ValueError for a path and headers that cannot be sent.
        """
        check_path(path)
        sent = CIMultiDict({hdrs.HOST: target.host_header, **_HEADERS, **headers})
        if body is not None:
            sent[hdrs.CONTENT_LENGTH] = str(len(body))
        line = f"{method} {path} HTTP/1.1"
        try:
            return await self._exchange(target, line, sent, body)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError, ConnectionResetError):
            if method not in _IDEMPOTENT:
                raise
            return await self._exchange(target, line, sent, body)

    async def _exchange(
        self, target: Target, line: str, headers: CIMultiDict[str], body: bytes | None
    ) -> Received:
        connection = await self._connector.connect(self._place(target), [], self._timeout)
        try:
            protocol = connection.protocol
            assert protocol is not None
            protocol.set_response_params(
                read_until_eof=True,
                auto_decompress=False,
                read_bufsize=_READ_AHEAD,
                max_line_size=_MAX_HEADER,
                max_field_size=_MAX_HEADER,
            )
            writer = StreamWriter(protocol, self._loop)
            await writer.write_headers(line, headers)
            # Nobody waits until all of it is sent: who does not want it may say so before.
            await writer.write(body or b"", drain=False)
            return await _receive(connection, protocol)
        except BaseException:
            connection.close()
            raise

    def _place(self, target: Target) -> aiohttp.ClientRequest:
        """What aiohttp connects for. It is never sent."""
        place = self._places.get(target)
        if place is None:
            url = target.url("/")
            place = aiohttp.ClientRequest("GET", url, server_hostname=target.tls_name, loop=self._loop)
            self._places[target] = place
        return place

    def _make_socket(self, info: Any) -> socket.socket:
        """A socket for an address that we connect to: whatever led here, others get none."""
        family, kind, protocol, _, address = info
        try:
            self._guard.check(str(address[0]))
        except AddressRefused as error:
            # As if the machine refused it: the next address is tried.
            raise PermissionError(errno.EACCES, str(error)) from error
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made


async def _receive(connection: aiohttp.connector.Connection, protocol: ResponseHandler) -> Received:
    for _ in range(_MAX_INTERIM):
        message, content = await protocol.read()
        if not 100 <= message.code < 200 or message.code == 101:
            return Received(message.code, message.headers, content, connection)
    raise BadAnswer("the answer does not come to its end")


class _Connector(aiohttp.TCPConnector):
    """Keeps two idle connections each for so many places at most."""

    def __init__(self, max_idle_hosts: int, **how: Any) -> None:
        super().__init__(**how)
        self._max_idle_hosts = max_idle_hosts

    def _release(self, key: Any, protocol: Any, *, should_close: bool = False) -> None:
        idle = self._conns.get(key)
        is_full = len(idle) >= _IDLE_PER_HOST if idle else len(self._conns) >= self._max_idle_hosts
        super()._release(key, protocol, should_close=should_close or is_full)


class _GuardedResolver(AbstractResolver):
    """Our resolver, as aiohttp wants one."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a name; RemoteError where there is none."""
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in await self._resolver.find_addresses(host)
        ]

    async def close(self) -> None:
        """Nothing: whoever made the resolver closes it."""
