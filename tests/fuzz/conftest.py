"""A whole server to throw things at."""

from tests.server_fixtures import server, town  # noqa: F401
