"""One PostgreSQL for the whole run (one for each xdist worker), a fresh database for each test that asks.

`database` is a connected pool on an empty, migrated database, `database_url` its address. The cluster is
not durable; a test about crashes makes its own in `server_folder`.
"""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from hs.storage.database import Database
from hs.storage.embedded import EmbeddedPostgres
from tests.databases import drop_database, make_database, make_template
from tests.openapi_report import pytest_sessionfinish, pytest_terminal_summary, pytest_testnodedown  # noqa: F401

# A time limit for one example is a performance assertion, and this machine may be busy.
settings.register_profile("hs", deadline=None, print_blob=True)
settings.load_profile("hs")


def _make_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="hs-test-"))
    # PostgreSQL may run as another user (we may be root), who must pass through.
    folder.chmod(0o711)
    return folder


@pytest.fixture
def server_folder() -> Iterator[Path]:
    """A folder like `tmp_path`, but one that the embedded PostgreSQL's user can pass through."""
    folder = _make_folder()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """The run's PostgreSQL; has the migrated template database."""
    folder = _make_folder()
    with EmbeddedPostgres.start(folder / "data", durable=False) as server:
        asyncio.run(make_template(server.url))
        yield server
    shutil.rmtree(folder)


@pytest.fixture
async def database_url(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    """The address of a database with our schema and nothing in it, for this test alone."""
    url = await make_database(postgres.url)
    yield url
    await drop_database(postgres.url, url)


@pytest.fixture
async def empty_database_url(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    """The address of a database without our schema, for tests of migrations."""
    url = await make_database(postgres.url, is_empty=True)
    yield url
    await drop_database(postgres.url, url)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A pool on a database with our schema and nothing in it."""
    opened = await Database.connect(database_url, pool_size=5)
    yield opened
    await opened.close()
