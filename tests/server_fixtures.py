"""Fixtures with a whole server: import what you need into a `conftest.py` or a test module."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from signedjson.key import generate_signing_key

from hs.config import load_config
from hs.rooms.build import Signer
from hs.server import start
from tests.people import Town
from tests.server_process import ServerProcess, find_free_ports, to_toml


def make_server_folder() -> Path:
    """A folder for a server and its database, which runs as another user where the tests run as root."""
    folder = Path(tempfile.mkdtemp(prefix="hs-test-"))
    folder.chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    """A running `hs serve` on its embedded PostgreSQL, shared by the tests of a folder."""
    folder = make_server_folder()
    server = ServerProcess(folder)
    try:
        server.start()
        yield server
        assert server.stop() == 0, server.read_log()[-5000:]
        # Whatever a client did: what the log shows a traceback of is a fault of the server.
        assert "Traceback" not in server.read_log(), server.read_log()[-10_000:]
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def make_server() -> Iterator[Callable[..., ServerProcess]]:
    """Makes servers that are not started yet, each in a folder of its own; all are gone after the test."""
    made: list[ServerProcess] = []

    def make(database_url: str = "", **settings: Any) -> ServerProcess:
        server = ServerProcess(make_server_folder(), database_url, settings)
        made.append(server)
        return server

    try:
        yield make
    finally:
        for server in made:
            server.kill()
            server.kill_leftovers()
            shutil.rmtree(server.folder, ignore_errors=True)


@pytest.fixture
async def town(server: ServerProcess) -> AsyncIterator[Town]:
    """People on the shared server."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield Town(session, server.base_url, server.server_name)


@pytest.fixture
async def make_local_town(database_url: str, tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Town]]]:
    """Starts the whole server inside the test's own event loop, for tests that need a configuration of their own.

    The answers still go over HTTP; the database is the test's.
    """
    async with AsyncExitStack() as stack:

        async def make(**settings: Any) -> Town:
            [port] = find_free_ports(1)
            document: dict[str, Any] = {
                "server_name": "local.example",
                "listeners": [{"port": port}],
                "registration": {"enabled": True},
                "rate_limits": {"enabled": False},
                **settings,
            }
            config_path = tmp_path / "hs.toml"
            config_path.write_text(to_toml(document))
            config = load_config(config_path)
            signer = Signer(config.server_name, generate_signing_key("test"))
            session = await stack.enter_async_context(aiohttp.ClientSession())
            await start(config, signer, database_url, stack)
            return Town(session, f"http://127.0.0.1:{port}", config.server_name)

        yield make
