"""HTTPS requests to servers whose names are their addresses, until the client with discovery takes over."""

import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.abc import ResolveResult
from aiohttp.helpers import is_ip_address
from yarl import URL

from hs.matrix.ids import parse_server_name
from hs.net.addresses import AddressGuard
from hs.net.errors import AddressRefused, BadCertificate, TimedOut, TooLong, Unreachable
from hs.net.server_http import HttpAnswer


@dataclass(frozen=True, slots=True)
class PlainAnswer:
    """Status and body."""

    status: int
    body: bytes


class _GuardedResolver(aiohttp.ThreadedResolver):
    """The system's resolver; addresses that are refused do not come out of it."""

    def __init__(self, guard: AddressGuard) -> None:
        super().__init__()
        self._guard = guard

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a name; OSError where none is left."""
        allowed = []
        for found in await super().resolve(host, port, family):
            try:
                self._guard.check(found["host"])
            except AddressRefused:
                continue
            allowed.append(found)
        if not allowed:
            raise OSError(f"{host} has no address that is connected to")
        return allowed


class PlainHttp:
    """Asks a server where its name says it is."""

    def __init__(self, session: aiohttp.ClientSession, guard: AddressGuard) -> None:
        self._session = session
        self._guard = guard

    @classmethod
    def connect(cls, ca_file: Path | None, is_verified: bool, guard: AddressGuard) -> "PlainHttp":
        """With a pool of its own; `close` it."""
        context = ssl.create_default_context(cafile=ca_file)
        if not is_verified:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        resolver = _GuardedResolver(guard)
        connector = aiohttp.TCPConnector(ssl=context, limit_per_host=8, resolver=resolver)
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            # A few kilobytes of compressed answer could be gigabytes.
            auto_decompress=False,
            headers={"Accept-Encoding": "identity", "User-Agent": "hs"},
        )
        return cls(session, guard)

    async def close(self) -> None:
        """End all connections."""
        await self._session.close()

    async def find(self, server_name: str) -> Sequence[str]:
        """Its name and port."""
        host, port = parse_server_name(server_name)
        # Literal addresses are not resolved; what only looks like one is.
        if is_ip_address(literal := host.strip("[]")):
            self._guard.check(literal)
        return [f"{host}:{port or 8448}"]

    async def request(
        self,
        method: str,
        target_or_url: Any,
        *,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None,
        max_bytes: int,
        timeout_s: float,
    ) -> HttpAnswer:
        """The answer; RemoteError where there is none."""
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            url = URL(f"https://{target_or_url}{path}", encoded=True)
            async with self._session.request(
                method, url, headers=headers, data=body, timeout=timeout, allow_redirects=False
            ) as response:
                data = bytearray()
                async for chunk in response.content.iter_any():
                    data += chunk
                    if len(data) > max_bytes:
                        raise TooLong(f"the answer is longer than {max_bytes} bytes")
                return PlainAnswer(response.status, bytes(data))
        except TimeoutError as error:
            raise TimedOut("it took too long") from error
        except aiohttp.ClientSSLError as error:
            raise BadCertificate(str(error)) from error
        # ValueError: a name that cannot be encoded for DNS.
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unreachable(str(error)) from error
