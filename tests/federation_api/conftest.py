"""Fixtures of the server-server API: a house without rooms, and remotes over HTTPS."""

import pytest

from tests.federation_api.asking import Asker
from tests.federation_fixtures import authority, federated, federated_town, make_remote, remote  # noqa: F401
from tests.net.house import house  # noqa: F401
from tests.people import Town
from tests.remote_server import RemoteServer
from tests.server_fixtures import make_local_town  # noqa: F401


@pytest.fixture
def asker(remote: RemoteServer, federated_town: Town) -> Asker:  # noqa: F811
    """The scripted remote asks the shared server."""
    return Asker(remote, federated_town.server_name)
