"""Connections on which no request comes are closed: they cost a file descriptor each, and anybody can make thousands."""

import asyncio
import socket

import pytest
from aiohttp import web

from hs.http import listeners


@pytest.mark.parametrize("begun", [b"", b"G", b"GET / HTTP/1.1\r\nHost: a\r\nX-A: "])
async def test_who_sends_no_whole_request_is_hung_up_on(
    begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "_KEEPALIVE_S", 0.2)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response()

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    runner = web.ServerRunner(listeners.build_http_server(handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(begun)
        async with asyncio.timeout(20):
            assert await reader.read() == b""
    finally:
        writer.close()
        await runner.cleanup()
