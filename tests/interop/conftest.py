"""A real Synapse beside our own server, both on HTTPS."""

import shutil
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from tests.certificates import Authority
from tests.federation_fixtures import authority, federated, federated_town, make_remote, remote  # noqa: F401
from tests.server_fixtures import make_server_folder
from tests.synapse_server import ForeignTown, SynapseServer


@pytest.fixture(scope="session")
def synapse(authority: Authority) -> Iterator[SynapseServer]:  # noqa: F811
    """A running Synapse, shared by all tests that ask."""
    folder = make_server_folder()
    server = SynapseServer(folder, authority)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def synapse_town(synapse: SynapseServer) -> AsyncIterator[ForeignTown]:
    """People on Synapse."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield ForeignTown(session, synapse.base_url, synapse.server_name)
