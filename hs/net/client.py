"""The one HTTP client for everything outside: other servers, their `.well-known`, and later all other URLs.

    answer = await http.request("GET", target, Bounds(2**30, 300), path=path)
    answer = await http.request("GET", "https://a.example/x", Bounds(51_200, 10), redirects=5)

HTTPS only. Addresses go through the guard when a name has been looked up, and all of them when a socket is made. Answers
are not unpacked: we say that we take them as they are, and who packs them all the same is refused.
"""

import asyncio
import errno
import io
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypedDict, Unpack

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDictProxy
from yarl import URL

from hs.net.addresses import AddressGuard
from hs.net.bounds import Bounds
from hs.net.errors import (
    AddressRefused,
    BadAnswer,
    BadCertificate,
    TimedOut,
    TooLong,
    Unreachable,
)
from hs.net.resolver import Resolver
from hs.net.spool import Body, Spool
from hs.net.targets import Target

# Of one header line; with aiohttp's 128 lines, 1 MiB in all.
_MAX_HEADER: Final = 8190
# Read ahead for who does not take it yet, twice this.
_READ_AHEAD: Final = 128 * 1024
# Larger bodies are written in pieces.
_WHOLE_BODY: Final = 512 * 1024
# Kept for the next requests to one place; what a burst needs more is closed after it.
_IDLE_PER_HOST: Final = 2
_REDIRECTS: Final = {301, 302, 303, 307, 308}
_HEADERS: Final = {"User-Agent": "hs", "Accept-Encoding": "identity"}


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


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer, read to its end."""

    status: int
    headers: CIMultiDictProxy[str]
    body: Body


class RequestOptions(TypedDict, total=False):
    """What a request may have besides its method, place and bounds."""

    # Escaped, with its query; for a Target, a URL has its own.
    path: str
    headers: Mapping[str, str] | None
    body: bytes | None
    # So many are followed, for GET only; one more is an answer like others.
    redirects: int


class HttpClient:
    """Makes requests. Connections are kept for the next request to the same place under the same name."""

    def __init__(
        self,
        guard: AddressGuard,
        resolver: Resolver,
        context: ssl.SSLContext,
        limits: HttpLimits = HttpLimits(),
    ) -> None:
        self._guard = guard
        connector = _Connector(
            limits.max_idle_hosts,
            ssl=context,
            resolver=_GuardedResolver(resolver),
            use_dns_cache=False,
            limit=limits.max_connections,
            limit_per_host=limits.max_connections_per_host,
            keepalive_timeout=limits.idle_timeout_s,
            socket_factory=self._make_socket,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers=_HEADERS,
            # Of the whole, `request` measures the time.
            timeout=aiohttp.ClientTimeout(sock_connect=limits.connect_timeout_s),
            max_line_size=_MAX_HEADER,
            max_field_size=_MAX_HEADER,
            read_bufsize=_READ_AHEAD,
            trust_env=False,
        )

    async def close(self) -> None:
        """End all connections."""
        await self._session.close()

    async def request(
        self, method: str, target_or_url: Target | str, bounds: Bounds, **options: Unpack[RequestOptions]
    ) -> HttpAnswer:
        """The answer, whatever its status; the bounds are for all of it.

        Raises Unreachable and its kind, TooLong, BadAnswer.
        """
        headers, body = options.get("headers") or {}, options.get("body")
        redirects = options.get("redirects", 0) if method == "GET" else 0
        with _errors():
            async with asyncio.timeout(bounds.timeout_s):
                if isinstance(target_or_url, Target):
                    url, name = target_or_url.url(options.get("path", "")), target_or_url.tls_name
                    headers = {**headers, "Host": target_or_url.host_header}
                else:
                    url, name = _parse_url(target_or_url), None
                response = await self._ask(method, url, name, headers, body)
                while response.status in _REDIRECTS and redirects > 0:
                    response.close()
                    redirects -= 1
                    url = _redirected(url, response)
                    # What was for the first host may be nothing for others.
                    response = await self._ask(method, url, None, {}, None)
                try:
                    return HttpAnswer(response.status, response.headers, await _read(response, bounds))
                finally:
                    # Where there is more to read, the connection ends.
                    response.release()

    async def _ask(
        self,
        method: str,
        url: URL,
        tls_name: str | None,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> aiohttp.ClientResponse:
        return await self._session.request(
            method,
            url,
            headers=headers,
            data=io.BytesIO(body) if body is not None and len(body) > _WHOLE_BODY else body,
            allow_redirects=False,
            server_hostname=tls_name,
        )

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


def make_tls_context(ca_file: Path | None, is_verified: bool = True) -> ssl.SSLContext:
    """What we speak TLS with; certificates by the system's authorities, and by those of a file."""
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not is_verified:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def _read(response: aiohttp.ClientResponse, bounds: Bounds) -> Body:
    """All of the body, in a file where it is large; BadAnswer for what is packed.

    TooLong where there is more, or more in it than can be taken in.
    """
    if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise BadAnswer("the answer is packed, and was not to be")
    too_long = TooLong(f"the answer is longer than {bounds.max_bytes} bytes")
    if (response.content_length or 0) > bounds.max_bytes:
        raise too_long
    left, commas = bounds.max_bytes, 0
    with _errors(), closing(Spool()) as spool:
        async for chunk in response.content.iter_any():
            left -= len(chunk)
            if left < 0:
                raise too_long
            commas += chunk.count(b",")
            if commas > bounds.max_parts:
                raise TooLong(f"the answer has more than {bounds.max_parts} parts")
            await spool.add(chunk)
        return await spool.finish()


def _parse_url(text: str) -> URL:
    """Raises Unreachable for what is no https URL."""
    try:
        url = URL(text)
    except ValueError as error:
        raise Unreachable("not a URL") from error
    if url.scheme != "https" or not url.host or url.user is not None or url.password is not None:
        raise Unreachable("not a URL that we ask")
    return url


def _redirected(url: URL, response: aiohttp.ClientResponse) -> URL:
    """Where an answer sends us."""
    location = response.headers.get("Location", "")
    try:
        return _parse_url(str(url.join(URL(location))))
    except (ValueError, Unreachable) as error:
        raise BadAnswer("redirected to what is no https URL") from error


@contextmanager
def _errors() -> Iterator[None]:
    """What may go wrong with a request, as RemoteError."""
    try:
        yield
    except TimeoutError as error:
        raise TimedOut("it took too long") from error
    except aiohttp.ClientSSLError as error:
        raise BadCertificate(f"no trusted connection: {error.os_error}") from error
    except aiohttp.ClientConnectorError as error:
        refused = isinstance(error.os_error, PermissionError)
        kind = AddressRefused if refused else Unreachable
        raise kind(f"no connection: {str(error.os_error)[:200]}") from error
    except aiohttp.ClientPayloadError as error:
        raise Unreachable("the answer was cut off") from error
    except aiohttp.ClientResponseError as error:
        raise Unreachable("the answer is no HTTP") from error
    # ValueError: headers and hosts that cannot be sent.
    except (aiohttp.ClientError, OSError, ValueError) as error:
        # Not what it says: that may have the URL in it, and URLs have secrets.
        raise Unreachable(f"no answer: {type(error).__name__}") from error
