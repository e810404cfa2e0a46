"""Who can be reached from here."""

from hs.matrix.errors import Forbidden
from hs.matrix.ids import server_of


class LocalGate:
    """Lets in the users of this server only: there is no way yet to tell another server of an invite."""

    def __init__(self, server_name: str) -> None:
        self._server_name = server_name

    def check_invite(self, target: str) -> None:
        """Forbidden for users of other servers."""
        if server_of(target) != self._server_name:
            raise Forbidden("users of other servers cannot be invited: this server does not federate")
