"""One PostgreSQL for the whole run (one for each xdist worker), a fresh database for each test that asks.

`database` is a connected pool on an empty, migrated database, `database_url` its address. The cluster is
not durable; a test about crashes makes its own in `server_folder`.
"""

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from hypothesis import settings

from hs.storage.database import Database
from hs.storage.embedded import EmbeddedPostgres
from hs.storage.migrate import migrate
from tests.openapi_report import pytest_sessionfinish, pytest_terminal_summary, pytest_testnodedown  # noqa: F401

# A time limit for one example is a performance assertion, and this machine may be busy.
settings.register_profile("hs", deadline=None, print_blob=True)
settings.load_profile("hs")

_TEMPLATE = "hs_template"
_numbers = itertools.count(1)


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
        asyncio.run(_make_template(server.url))
        yield server
    shutil.rmtree(folder)


async def _make_template(admin_url: str) -> None:
    await _run(admin_url, f"CREATE DATABASE {_TEMPLATE}")
    await migrate(_url_of(admin_url, _TEMPLATE))


@pytest.fixture
async def database_url(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    """The address of a database with our schema and nothing in it, for this test alone."""
    name = f"test_{next(_numbers)}"
    await _run(postgres.url, f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
    yield _url_of(postgres.url, name)
    await _run(postgres.url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def empty_database_url(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    """The address of a database without our schema, for tests of migrations."""
    name = f"test_{next(_numbers)}"
    await _run(postgres.url, f"CREATE DATABASE {name}")
    yield _url_of(postgres.url, name)
    await _run(postgres.url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A pool on a database with our schema and nothing in it."""
    opened = await Database.connect(database_url, pool_size=5)
    yield opened
    await opened.close()


async def _run(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _url_of(url: str, name: str) -> str:
    return url.replace("@/hs?", f"@/{name}?")
