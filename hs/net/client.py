"""The one HTTP client for everything outside: other servers, their `.well-known`, and later all other URLs.

    answer = await http.request("GET", target, Bounds(2**30, 300), path=path)
    answer = await http.request("GET", "https://a.example/x", Bounds(51_200, 10), redirects=5)

HTTPS only. Addresses go through the guard when a name has been looked up, and all of them when a socket is made. Answers
are not unpacked: we say that we take them as they are, and who packs them all the same is refused.
"""

import asyncio
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypedDict, Unpack

import aiohttp
from aiohttp.http import HttpProcessingError
from multidict import CIMultiDictProxy
from yarl import URL

from hs.net.addresses import AddressGuard
from hs.net.bounds import Bounds
from hs.net.connections import DEFAULT_LIMITS, ConnectionPool, HttpLimits, Received
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

_REDIRECTS: Final = {301, 302, 303, 307, 308}


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
    # Whoever asks measures the time, and ends it.
    is_timed_by_caller: bool


class HttpClient:
    """Makes requests."""

    def __init__(
        self,
        guard: AddressGuard,
        resolver: Resolver,
        context: ssl.SSLContext,
        limits: HttpLimits = DEFAULT_LIMITS,
    ) -> None:
        self._pool = ConnectionPool(guard, resolver, context, limits)

    async def close(self) -> None:
        """End all connections."""
        await self._pool.close()

    async def request(
        self, method: str, target_or_url: Target | str, bounds: Bounds, **options: Unpack[RequestOptions]
    ) -> HttpAnswer:
        """The answer, whatever its status; the bounds are for all of it.

        Raises Unreachable and its kind, TooLong, BadAnswer.
        """
        headers, body = options.get("headers") or {}, options.get("body")
        redirects = options.get("redirects", 0) if method == "GET" else 0
        is_timed = options.get("is_timed_by_caller", False)
        with _errors():
            async with nullcontext() if is_timed else asyncio.timeout(bounds.timeout_s):
                if isinstance(target_or_url, Target):
                    target, path = target_or_url, options.get("path", "")
                else:
                    target, path = _locate(_parse_url(target_or_url))
                received = await self._pool.exchange(method, target, path, headers, body)
                while received.status in _REDIRECTS and redirects > 0:
                    received.release()
                    redirects -= 1
                    target, path = _locate(_redirected(target.url(path), received))
                    # What was for the first host may be nothing for others.
                    received = await self._pool.exchange(method, target, path, {}, None)
                try:
                    return HttpAnswer(received.status, received.headers, await _read(received, bounds))
                finally:
                    received.release()


def make_tls_context(ca_file: Path | None, is_verified: bool = True) -> ssl.SSLContext:
    """What we speak TLS with; certificates by the system's authorities, and by those of a file."""
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not is_verified:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def _read(received: Received, bounds: Bounds) -> Body:
    """All of the body, in a file where it is large; BadAnswer for what is packed.

    TooLong where there is more, or more in it than can be taken in.
    """
    if received.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise BadAnswer("the answer is packed, and was not to be")
    too_long = TooLong(f"the answer is longer than {bounds.max_bytes} bytes")
    if received.content_length > bounds.max_bytes:
        raise too_long
    left, commas = bounds.max_bytes, 0
    with _errors(), closing(Spool()) as spool:
        async for chunk in received.content.iter_any():
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


def _locate(url: URL) -> tuple[Target, str]:
    """Where a URL is reached, and the path that is asked for there."""
    host, header = url.raw_host or "", url.host_port_subcomponent or ""
    return Target(host, url.port or 443, header, host), url.raw_path_qs


def _redirected(url: URL, received: Received) -> URL:
    """Where an answer sends us."""
    location = received.headers.get("Location", "")
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
    except HttpProcessingError as error:
        raise Unreachable("the answer is no HTTP") from error
    # ValueError: headers and hosts that cannot be sent.
    except (aiohttp.ClientError, OSError, ValueError) as error:
        # Not what it says: that may have the URL in it, and URLs have secrets.
        raise Unreachable(f"no answer: {type(error).__name__}") from error
