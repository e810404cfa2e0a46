"""Servers that talk to each other over HTTPS."""

from tests.federation_fixtures import (  # noqa: F401
    authority,
    crashing,
    federated,
    federated_town,
    make_federation,
    make_remote,
    network,
    remote,
)
