"""The directory over a real room engine."""

from tests.rooms.conftest import engine, signer  # noqa: F401
