"""A server of ours that federates, and scripted remotes that it sends to."""

from tests.federation_fixtures import (  # noqa: F401
    authority,
    federated,
    federated_town,
    make_remote,
    remote,
)
