"""Who has annotated which event."""

from hs.storage.database import Database
from hs.storage.events import HIDDEN

# Of one user on one event, each with a key of its own; whoever has more may repeat one.
_MOST = 1_000


class AnnotationStore:
    """Reads annotations."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_own(self, room_nid: int, target_id: str, sender: str, type: str) -> list[int]:
        """Numbers of the sender's events of a type that annotate the event, without those that are redacted."""
        rows = await self._database.fetch(
            "SELECT event_nid FROM events WHERE room_nid = $1 AND relates_to = $2 AND sender = $3 "
            "AND rel_type = 'm.annotation' AND type = $4 AND redacted_by_nid = 0 AND flags & $5 = 0 LIMIT $6",
            room_nid,
            target_id,
            sender,
            type,
            HIDDEN,
            _MOST,
        )
        return [row["event_nid"] for row in rows]
