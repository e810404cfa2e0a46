"""A real Synapse beside our own server, both on HTTPS."""

import os
import shutil
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from hs.storage.embedded import EmbeddedPostgres
from tests.certificates import Authority
from tests.federation_fixtures import (
    authority,  # noqa: F401
    federated,  # noqa: F401
    federated_town,  # noqa: F401
    make_remote,  # noqa: F401
    network,  # noqa: F401
    remote,  # noqa: F401
    run_federated,
)
from tests.federation_town import FederatedProcess
from tests.interop.pairs import Pair
from tests.people import Town
from tests.server_fixtures import make_server_folder
from tests.synapse_server import ForeignTown, SynapseServer


@pytest.fixture(scope="session")
def synapse(authority: Authority) -> Iterator[SynapseServer]:  # noqa: F811
    """A running Synapse, shared by all tests that ask."""
    yield from _run_synapse(authority)


def _run_synapse(authority: Authority) -> Iterator[SynapseServer]:  # noqa: F811
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


@pytest.fixture(scope="session")
def federated_other(
    authority: Authority,  # noqa: F811
    postgres: EmbeddedPostgres,
) -> Iterator[FederatedProcess]:
    """A second server of ours."""
    yield from run_federated(authority, postgres)


@pytest.fixture(scope="session")
def synapse_other(authority: Authority) -> Iterator[SynapseServer]:  # noqa: F811
    """A second Synapse, to see that a scenario is right."""
    yield from _run_synapse(authority)


def _list_pairs() -> list[str]:
    """Who hosts, and who joins. HS_INTEROP_PAIRS names others: what two Synapses do shows whether a scenario is right."""
    return os.environ.get("HS_INTEROP_PAIRS", "hs-synapse,synapse-hs,hs-hs").split(",")


_FIXTURES = {"hs": ("federated", "federated_other"), "synapse": ("synapse", "synapse_other")}


@pytest.fixture(scope="session", params=_list_pairs())
def pair_servers(request: pytest.FixtureRequest) -> list[FederatedProcess | SynapseServer]:
    """Two running servers."""
    kinds = request.param.split("-")
    numbers = [0, kinds[1] == kinds[0]]
    names = [_FIXTURES[kind][number] for kind, number in zip(kinds, numbers, strict=True)]
    return [request.getfixturevalue(name) for name in names]


@pytest.fixture
async def pair(pair_servers: list[FederatedProcess | SynapseServer]) -> AsyncIterator[Pair]:
    """Two servers and the people on them."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        towns = [
            (ForeignTown if isinstance(one, SynapseServer) else Town)(session, one.base_url, one.server_name)
            for one in pair_servers
        ]
        yield Pair(*towns)
