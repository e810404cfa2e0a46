"""Fixtures of the server-server API: a house without rooms, and remotes over HTTPS."""

from tests.federation_fixtures import authority, make_remote, remote  # noqa: F401
from tests.net.house import house  # noqa: F401
from tests.server_fixtures import make_local_town  # noqa: F401
