"""Servers that talk to each other over HTTPS."""

from tests.federation_fixtures import (  # noqa: F401
    authority,
    federated,
    federated_town,
    make_federation,
    make_remote,
    network,
    remote,
)
