"""Fixtures of federation: import what you need into a `conftest.py` or a test module."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hs.rooms.clock import Clock
from hs.storage.embedded import EmbeddedPostgres
from tests.certificates import Authority
from tests.databases import make_database
from tests.federation_network import Network
from tests.federation_town import FederatedProcess, FederationTown
from tests.people import Town
from tests.remote_server import RemoteServer
from tests.server_fixtures import make_server_folder


@pytest.fixture(scope="session")
def authority() -> Iterator[Authority]:
    """The certificate authority of this run."""
    folder = Path(tempfile.mkdtemp(prefix="hs-test-ca-"))
    yield Authority(folder)
    shutil.rmtree(folder)


@pytest.fixture
async def make_remote(authority: Authority) -> AsyncIterator[Callable[..., Awaitable[RemoteServer]]]:
    """Starts scripted remotes; all are gone after the test. Nobody may have asked them without a right signature."""
    async with AsyncExitStack() as stack:
        made: list[RemoteServer] = []

        async def make(**options: Any) -> RemoteServer:
            made.append(await stack.enter_async_context(RemoteServer.start(authority, **options)))
            return made[-1]

        yield make
        for remote in made:
            assert not (remote.complaints and remote.verifies), remote.complaints


@pytest.fixture
async def remote(make_remote: Callable[..., Awaitable[RemoteServer]]) -> RemoteServer:
    """A scripted remote."""
    return await make_remote()


@pytest.fixture(scope="session")
def federated(authority: Authority, postgres: EmbeddedPostgres) -> Iterator[FederatedProcess]:
    """A running `hs serve` with a federation listener, shared by all tests that ask."""
    yield from run_federated(authority, postgres)


def run_federated(authority: Authority, postgres: EmbeddedPostgres) -> Iterator[FederatedProcess]:
    """One more such server, for as long as somebody iterates."""
    folder = make_server_folder()
    process = FederatedProcess(folder, authority, asyncio.run(make_database(postgres.url)))
    try:
        process.start()
        yield process
        assert process.stop() == 0, process.read_log()[-5000:]
        # Whatever another server did: what the log shows a traceback of is a fault of ours.
        assert "Traceback" not in process.read_log(), process.read_log()[-10_000:]
    finally:
        process.kill()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def crashing(authority: Authority, postgres: EmbeddedPostgres) -> Iterator[FederatedProcess]:
    """A server of its own that federates, to be killed."""
    folder = make_server_folder()
    process = FederatedProcess(folder, authority, asyncio.run(make_database(postgres.url)))
    try:
        process.start()
        yield process
    finally:
        process.kill()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def federated_town(federated: FederatedProcess) -> AsyncIterator[Town]:
    """People on the shared server that federates."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield Town(session, federated.base_url, federated.server_name)


@pytest.fixture
async def network(authority: Authority) -> AsyncIterator[Network]:
    """A network without servers."""
    async with Network.start(authority) as network:
        yield network


@pytest.fixture
async def make_federation(
    authority: Authority, postgres: EmbeddedPostgres, tmp_path: Path
) -> AsyncIterator[Callable[..., Awaitable[FederationTown]]]:
    """Starts servers in the test's own event loop, with a network between them that can be cut."""
    async with AsyncExitStack() as stack:

        async def make(count: int = 2, clock: Clock | None = None, **settings: Any) -> FederationTown:
            town = FederationTown.start(authority, postgres.url, tmp_path, count, settings, clock)
            return await stack.enter_async_context(town)

        yield make
