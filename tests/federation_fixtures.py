"""Fixtures of federation: import what you need into a `conftest.py` or a test module."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Authority
from tests.remote_server import RemoteServer


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
