"""Servers that talk to each other over HTTPS."""

from tests.federation_fixtures import authority  # noqa: F401
