"""A server of ours that federates, and scripted remotes that it sends to; or only what sends."""

from collections.abc import AsyncIterator

import pytest

from hs.engine import Engine
from hs.storage.database import Database
from tests.federation_fixtures import (  # noqa: F401
    authority,
    federated,
    federated_town,
    make_remote,
    remote,
)
from tests.outbound.outhouse import OutHouse, open_outhouse
from tests.rooms.conftest import engine, signer  # noqa: F401


@pytest.fixture
async def house(database: Database, engine: Engine) -> AsyncIterator[OutHouse]:  # noqa: F811
    """What sends, without endpoints."""
    async with open_outhouse(database, engine) as made:
        yield made
