"""Fixtures of the net: a house without rooms, and remotes over HTTPS."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from hs.storage.database import Database
from tests.certificates import Authority
from tests.federation_fixtures import authority, make_remote, remote  # noqa: F401
from tests.net.house import NetHouse, PlainHttp


@pytest.fixture
async def house(database: Database, authority: Authority) -> AsyncIterator[NetHouse]:  # noqa: F811
    """What talks to other servers."""
    connector = aiohttp.TCPConnector(ssl=authority.client_context())
    async with aiohttp.ClientSession(connector=connector) as session:
        made = NetHouse(database, PlainHttp(session)).build()
        yield made
        await made.keys.close()
