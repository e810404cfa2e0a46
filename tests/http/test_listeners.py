"""Sockets: which APIs are served where, metrics, TLS, addresses that cannot be had."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from hs.config import ListenerConfig
from hs.http.app import make_durations
from hs.http.endpoint import Auth, Empty, endpoint
from hs.http.listeners import start_listener
from hs.http.rate_limit import Limit, RateLimiter
from tests.http.test_wire import NoOverrides, NoTokens


class ClientApi:
    @endpoint("GET", "/client/{name}", auth=Auth.NONE, limit=None)
    async def get_client_thing(self, name: str) -> Empty:
        """Something."""
        return Empty()


class AdminApi:
    @endpoint("GET", "/admin", auth=Auth.NONE, limit=None)
    async def get_admin_thing(self) -> Empty:
        """Something."""
        return Empty()


@asynccontextmanager
async def listening(listener: ListenerConfig) -> AsyncIterator[int]:
    """The port of a listener."""
    registry = CollectorRegistry()
    runner = await start_listener(
        listener,
        {"client": [ClientApi()], "admin": [AdminApi()]},
        NoTokens(),
        RateLimiter(False, lambda _: Limit(1, 1), NoOverrides()),
        registry,
        make_durations(registry),
    )
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def get(url: str, **options: object) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url, **options) as response:  # type: ignore[arg-type]
        return response.status, await response.text()


@pytest.mark.parametrize(
    ("apis", "found"),
    [
        (("client",), {"/client/x": 200, "/admin": 404, "/metrics": 404}),
        (("admin",), {"/client/x": 404, "/admin": 200, "/metrics": 404}),
        (("metrics",), {"/client/x": 404, "/admin": 404, "/metrics": 200}),
        (("client", "admin", "metrics"), {"/client/x": 200, "/admin": 200, "/metrics": 200}),
    ],
)
async def test_a_listener_serves_what_it_is_told(apis: tuple[str, ...], found: dict[str, int]) -> None:
    async with listening(ListenerConfig(port=0, apis=apis)) as port:  # type: ignore[arg-type]
        for path, status in found.items():
            assert (await get(f"http://127.0.0.1:{port}{path}"))[0] == status, path


async def test_requests_are_counted_by_endpoint_and_not_by_what_clients_make_up() -> None:
    async with listening(ListenerConfig(port=0, apis=("client", "metrics"))) as port:
        for path in ("/client/alice", "/client/bob", "/made-up", "/made/up/too", "/client/%FF"):
            await get(f"http://127.0.0.1:{port}{path}")
        _, text = await get(f"http://127.0.0.1:{port}/metrics")
    counts = {line.rpartition(" ")[0]: line for line in text.splitlines() if "_count{" in line}
    assert {name.partition("{")[2]: line.rpartition(" ")[2] for name, line in counts.items()} == {
        'code="200",endpoint="get_client_thing",method="GET"}': "2.0",
        'code="404",endpoint="none",method="any"}': "2.0",
        'code="400",endpoint="none",method="any"}': "1.0",
    }


async def test_an_address_in_use_is_an_error_at_the_start() -> None:
    async with listening(ListenerConfig(port=0)) as port:
        with pytest.raises(OSError):
            async with listening(ListenerConfig(port=port)):
                pass


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
async def test_with_a_certificate_it_speaks_https(tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    await asyncio.to_thread(
        subprocess.run, [*command.split(), *names, *files], check=True, capture_output=True
    )
    trust = ssl.create_default_context(cafile=str(certificate))
    listener = ListenerConfig(port=0, tls_certificate=certificate, tls_private_key=key)
    async with listening(listener) as port:
        assert await get(f"https://127.0.0.1:{port}/client/x", ssl=trust) == (200, "{}")
        with pytest.raises(aiohttp.ClientError):
            await get(f"http://127.0.0.1:{port}/client/x")
