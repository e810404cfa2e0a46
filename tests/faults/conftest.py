"""Whole servers that are killed."""

from tests.server_fixtures import make_server  # noqa: F401
