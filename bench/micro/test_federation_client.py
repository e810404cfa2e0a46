"""One PUT to another server over a kept TLS connection, against aiohttp without anything of ours.

    pytest bench/micro/test_federation_client.py

The other server runs in a thread of its own; `cpu_us` in `extra_info` is the CPU time of the thread that asks, for one
request, `connect_us` the same with a new connection each time. `signed` is what the sender pays: the name found, the
request signed, the answer decoded.
"""

import asyncio
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
import uvloop
from aiohttp import web

from hs.matrix.keys import signing_key_from_seed
from hs.net.addresses import AddressGuard
from hs.net.backoff import Backoff
from hs.net.bounds import Bounds
from hs.net.client import HttpClient, make_tls_context
from hs.net.discovery import Discovery
from hs.net.federation_client import FederationClient
from hs.net.own_keys import OwnKeys
from hs.net.resolver import Resolver
from hs.net.server_http import ServerHttp
from hs.net.targets import Target
from hs.net.well_known import WellKnown

REQUESTS = 2_000
CONNECTIONS = 50
PATH = "/_matrix/federation/v1/send/1700000000000"
BODY = b'{"edus":[],"origin":"here.example","origin_server_ts":1700000000000,"pdus":["%s"]}' % (b"x" * 800)
KEY = signing_key_from_seed("here_1", b"\x07" * 32)

Ask = Callable[[], Awaitable[object]]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class NoDestinations:
    """Nobody has failed."""

    async def list_failing(self) -> list[Any]:
        return []


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path]:
    ca, path = trustme.CA(), tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return ca, path


@pytest.fixture(scope="module")
def port(authority: tuple[trustme.CA, Path]) -> Iterator[int]:
    """Of a server in a thread that answers as Synapse answers a transaction."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority[0].issue_cert("127.0.0.1").configure_cert(context)
    ready, found = threading.Event(), []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        return web.Response(text='{"pdus":{}}', content_type="application/json")

    async def serve() -> None:
        runner = web.ServerRunner(web.Server(answer))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        found.append((asyncio.get_running_loop(), end := asyncio.Event(), runner.addresses[0][1]))
        ready.set()
        await end.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: uvloop.run(serve()))
    thread.start()
    ready.wait()
    loop, end, number = found[0]
    yield number
    loop.call_soon_threadsafe(end.set)
    thread.join()


async def _cpu_us(ask: Ask, count: int) -> float:
    for _ in range(20):
        await ask()
    started = time.thread_time()
    for _ in range(count):
        await ask()
    return (time.thread_time() - started) / count * 1e6


async def bare(stack: AsyncExitStack, ca_file: Path, port: int, is_kept: bool) -> Ask:
    """aiohttp as its documentation has it."""
    connector = aiohttp.TCPConnector(ssl=make_tls_context(ca_file), force_close=not is_kept)
    session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))

    async def ask() -> None:
        async with session.put(f"https://127.0.0.1:{port}{PATH}", data=BODY) as answer:
            await answer.read()

    return ask


async def ours(stack: AsyncExitStack, ca_file: Path, port: int, is_kept: bool) -> Ask:
    """Our client, the place known."""
    http, _ = _http(stack, ca_file)
    target = Target("127.0.0.1", port, f"127.0.0.1:{port}", "127.0.0.1")
    headers = {"Content-Type": "application/json"} | ({} if is_kept else {"Connection": "close"})

    async def ask() -> None:
        await http.request("PUT", target, Bounds(65536, 30), path=PATH, headers=headers, body=BODY)

    return ask


async def signed(stack: AsyncExitStack, ca_file: Path, port: int, is_kept: bool) -> Ask:
    """All of it."""
    http, resolver = _http(stack, ca_file)
    discovery = Discovery(WellKnown(http, now_ms), resolver)
    own = OwnKeys("here.example", [KEY], (), now_ms)
    destinations: Any = NoDestinations()
    client = FederationClient(ServerHttp(http, discovery), own, Backoff(destinations, now_ms), now_ms)
    name = f"127.0.0.1:{port}"

    async def ask() -> None:
        await client.ask("PUT", name, PATH, dict, body=BODY)

    return ask


def _http(stack: AsyncExitStack, ca_file: Path) -> tuple[HttpClient, Resolver]:
    guard = AddressGuard(["10.0.0.0/8"], ())
    resolver = Resolver(guard, now_ms, ["127.0.0.1"])
    http = HttpClient(guard, resolver, make_tls_context(ca_file))
    stack.push_async_callback(http.close)
    return http, resolver


@pytest.mark.parametrize("make", [bare, ours, signed])
def test_put(benchmark: Any, authority: tuple[trustme.CA, Path], port: int, make: Any) -> None:
    async def run() -> dict[str, float]:
        async with AsyncExitStack() as stack:
            cpu_us = await _cpu_us(await make(stack, authority[1], port, True), REQUESTS)
            if make is signed:
                return {"cpu_us": cpu_us}
            connect_us = await _cpu_us(await make(stack, authority[1], port, False), CONNECTIONS)
            return {"cpu_us": cpu_us, "connect_us": connect_us}

    measured = benchmark.pedantic(lambda: uvloop.run(run()), rounds=1)
    benchmark.extra_info.update({name: round(value, 1) for name, value in measured.items()})
    print(f"\n{make.__name__}: {benchmark.extra_info}")
