"""Fixtures of the net: a house without rooms, and remotes over HTTPS."""

from tests.federation_fixtures import authority, make_remote, remote  # noqa: F401
from tests.net.house import house  # noqa: F401
from tests.net.outside import outside as outside
