"""Branches without end: a server may not have a room's states resolved out of ever more of them.

Each forward extremity with a state of its own makes the resolution dearer, with the square of how many there are, and
one member can make thousands that build on the same old event. Servers build on what they have sent themselves, so the
branches of an honest one are few, however the network is. Spec: none; soft failure is how others' branches are kept out.
"""

from collections.abc import Collection
from typing import Final

from hs._fast.state_tree import Node
from hs.matrix.event import Event
from hs.matrix.ids import server_of
from hs.rooms.stage import Stage
from hs.storage.arrivals import ArrivalStore

# Resolving so many states takes some ten milliseconds.
_FEW: Final = 50
_MAX_OF_SERVER: Final = 25


class Branches:
    """Knows whose branches there are."""

    def __init__(self, store: ArrivalStore) -> None:
        self._store = store

    async def are_too_many_with(self, stage: Stage, event: Event, prev_nids: Collection[int]) -> bool:
        """Whether the event is one more branch of a server that has many, in a room that has many."""
        extremities = stage.head.extremities
        if len(extremities) < _FEW or len(distinct_roots([e.root for e in extremities])) < _FEW:
            return False
        nids = [extremity.event_nid for extremity in extremities]
        if not set(nids).isdisjoint(prev_nids):
            return False
        staged = [placed for nid in nids if (placed := stage.find_staged(nid)) is not None]
        stored = set(nids) - {placed.event_nid for placed in staged}
        senders = await self._store.list_senders(stage.head.room.room_nid, list(stored))
        senders += [placed.event.sender for placed in staged]
        server = server_of(event.sender)
        return sum(server_of(sender) == server for sender in senders) >= _MAX_OF_SERVER


def distinct_roots(roots: Collection[Node]) -> list[Node]:
    """The states without repetitions, in order; those that are stored are told apart by their ids."""
    # Ids of states are above 0, those of objects are made different from them.
    return list({root.id or -id(root): root for root in roots}.values())
