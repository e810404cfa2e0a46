"""Endpoints are asked over HTTP, on a whole server."""

from tests.server_fixtures import server, town  # noqa: F401
