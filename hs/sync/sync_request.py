"""What a client asks of GET /sync. Spec: client-server-api "Syncing"."""

from collections.abc import Hashable
from dataclasses import dataclass

from hs.matrix.filters import SyncFilter
from hs.matrix.tokens import StreamToken
from hs.sync.client_events import Viewer


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """The parameters of a sync."""

    viewer: Viewer
    wanted: SyncFilter
    since: StreamToken | None
    timeout_ms: int
    full_state: bool = False
    state_after: bool = False
    # The member of the answer's rooms that has it.
    state_after_name: bytes = b"state_after"
    set_presence: str = "online"

    @property
    def key(self) -> Hashable:
        """What requests for the same have in common."""
        state_name = self.state_after and self.state_after_name
        return self.viewer, self.wanted.definition, self.since, self.full_state, state_name
