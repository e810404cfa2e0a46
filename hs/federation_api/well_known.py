"""Where other servers find this one, when its name does not say it. Spec: server-server-api "Resolving server names"."""

from typing import Any

from hs.http.endpoint import Auth, endpoint
from hs.matrix.errors import NotFound


class WellKnownApi:
    """The page at the address that is the server's name; servers ask there first."""

    def __init__(self, delegated_to: str) -> None:
        """`delegated_to` is a server name; "" for no such page."""
        self._delegated_to = delegated_to

    @endpoint("GET", "/.well-known/matrix/server", auth=Auth.NONE, limit="federation")
    async def get_delegation(self) -> dict[str, Any]:
        """The name to go to instead."""
        if not self._delegated_to:
            raise NotFound("this server is where its name says")
        return {"m.server": self._delegated_to}
