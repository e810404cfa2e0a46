"""Who can be reached from here."""

from hs.matrix.errors import Forbidden
from hs.matrix.ids import server_of


class ServerGate:
    """Says whose users can be invited: everybody's, or where this server keeps to itself its own."""

    def __init__(self, server_name: str, is_federating: bool) -> None:
        self._server_name = server_name
        self._is_federating = is_federating

    def check_invite(self, target: str) -> None:
        """Forbidden for users who could not be told."""
        if not self._is_federating and server_of(target) != self._server_name:
            raise Forbidden("users of other servers cannot be invited: this server does not federate")
