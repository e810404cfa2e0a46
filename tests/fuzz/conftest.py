"""A whole server to throw things at."""

from tests.federation_fixtures import authority, federated  # noqa: F401
from tests.server_fixtures import server, town  # noqa: F401
