"""What software this is. Spec: server-server-api "Server implementation"; version.yaml."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from hs.http.endpoint import Auth, endpoint


class VersionApi:
    """Tells everybody."""

    def __init__(self) -> None:
        self._answer = {"server": {"name": "hs", "version": _find_version()}}

    @endpoint("GET", "/_matrix/federation/v1/version", auth=Auth.NONE, limit=None)
    async def get_version(self) -> dict[str, Any]:
        """Name and version."""
        return self._answer


def _find_version() -> str:
    try:
        return version("hs")
    except PackageNotFoundError:
        # Run from a checkout.
        return "dev"
