"""Fixtures with a whole server: import what you need into a `conftest.py` or a test module."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.people import Town
from tests.server_process import ServerProcess


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
