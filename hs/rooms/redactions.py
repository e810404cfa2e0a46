"""What an event from elsewhere redacts, and what has redacted it before it came.

Spec: rooms/v3 "Handling redactions": a redaction counts where its sender has the power, or shares the server of the
sender of what is redacted.
"""

from typing import Final

from hs._fast import event_auth
from hs._fast.state_tree import Node
from hs.matrix.ids import server_of
from hs.rooms.stage import PlacedEvent, Stage
from hs.rooms.stage_reader import CREATE, POWER, StageReader
from hs.storage.arrivals import Known

_DEFAULT_LEVEL: Final = 50


class Redactions:
    """Pairs redactions with their targets, whichever comes first."""

    def __init__(self, reader: StageReader) -> None:
        self._reader = reader

    async def note(self, stage: Stage, placed: PlacedEvent, known: Known) -> None:
        """Let an accepted event say what it redacts, and which redaction of it came first."""
        event = placed.event
        if placed.flags:
            return
        if event.redacts is not None:
            target = _find_target(stage, event.redacts, known)
            if target is not None and await self._counts(stage, placed.root, event.sender, target[1]):
                placed.redacts_nid = target[0]
        for nid, sender in known.redactions.get(event.event_id, ()):
            if await self._counts(stage, stage.head.root, sender, event.sender):
                placed.redacted_by_nid = nid
                return

    async def _counts(self, stage: Stage, root: Node, sender: str, target_sender: str) -> bool:
        if sender == target_sender or server_of(sender) == server_of(target_sender):
            return True
        found = await self._reader.records_at(stage, root, [CREATE, POWER])
        levels = found.get(POWER)
        power = event_auth.power_of(stage.head.room.version.number, sender, found.get(CREATE), levels)
        needed: int = _DEFAULT_LEVEL
        if levels is not None and levels.payload is not None:
            needed = levels.payload["levels"].get("redact", _DEFAULT_LEVEL)
        return power >= needed


def _find_target(stage: Stage, event_id: str, known: Known) -> tuple[int, str] | None:
    """The number and the sender of an event, where we have it."""
    staged = stage.find_staged_id(event_id)
    if staged is not None:
        return staged.event_nid, staged.event.sender
    held = known.held.get(event_id)
    return None if held is None else (held.event_nid, held.sender)
