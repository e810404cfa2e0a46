"""HTTPS servers of tests on aiohttp, which are gone with all their connections when they are ended."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from aiohttp import web

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_TURNS = 10


@asynccontextmanager
async def listening(
    handler: Handler, host: str, port: int, context: ssl.SSLContext | None
) -> AsyncIterator[int]:
    """The port; 0 takes a free one."""
    server = web.Server(handler, auto_decompress=False)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, host, port, ssl_context=context, reuse_address=True)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        transports = [c.transport for c in server.connections if c.transport is not None]
        await runner.cleanup()
        for transport in transports:
            # TLS would say goodbye first, and wait for an answer. Some versions of Python know no `abort` once it has.
            with suppress(AttributeError):
                transport.abort()
        await let_sockets_close()


async def let_sockets_close() -> None:
    """Give the event loop the turns in which it notices that connections have ended."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)
