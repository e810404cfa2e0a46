"""Endpoints are asked over HTTP, on a whole server."""

from tests.server_fixtures import make_local_town, server, town  # noqa: F401
