"""Servers that talk to each other over HTTPS."""

from tests.federation_fixtures import authority, make_remote, remote  # noqa: F401
