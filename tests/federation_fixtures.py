"""Fixtures of federation: import what you need into a `conftest.py` or a test module."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import Authority


@pytest.fixture(scope="session")
def authority() -> Iterator[Authority]:
    """The certificate authority of this run."""
    folder = Path(tempfile.mkdtemp(prefix="hs-test-ca-"))
    yield Authority(folder)
    shutil.rmtree(folder)
