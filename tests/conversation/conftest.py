"""Real clients on a real server process."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.js_client import JsClient, install
from tests.nio_client import NioClient
from tests.server_fixtures import make_server, server, town  # noqa: F401
from tests.server_process import ServerProcess

MakeNio = Callable[[str], Awaitable[NioClient]]
MakeJs = Callable[[str], Awaitable[JsClient]]


@pytest.fixture(scope="session")
def js_folder() -> Path:
    """matrix-js-sdk, installed once and kept between runs."""
    return install()


@pytest.fixture
async def nio_user(server: ServerProcess) -> AsyncIterator[MakeNio]:  # noqa: F811
    """Registers users whose client is matrix-nio."""
    clients: list[NioClient] = []

    async def make(username: str) -> NioClient:
        client = await NioClient.register_and_start(server.base_url, username, f"{username} says friend")
        clients.append(client)
        return client

    try:
        yield make
    finally:
        for client in clients:
            await client.close()


@pytest.fixture
async def js_user(server: ServerProcess, js_folder: Path, tmp_path: Path) -> AsyncIterator[MakeJs]:  # noqa: F811
    """Registers users whose client is matrix-js-sdk."""
    clients: list[JsClient] = []

    async def make(username: str) -> JsClient:
        client = await JsClient.launch(js_folder, server.base_url, tmp_path / f"{username}.log")
        clients.append(client)
        await client.register_and_start(username, f"{username} says friend")
        return client

    try:
        yield make
    finally:
        for client in clients:
            await client.close()
