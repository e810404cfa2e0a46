"""What the state before old events was, without asking anybody: it follows from the state before what came after them."""

from collections.abc import Mapping, Sequence

from hs._fast.state_tree import Node
from hs.matrix.event import Event
from hs.rooms.state import RoomStates
from hs.storage.backfill import BackfillStore
from hs.storage.events import EventStore
from hs.storage.rooms import RoomInfo


class InferredStates:
    """Works backwards from events that we hold."""

    def __init__(self, store: BackfillStore, events: EventStore, states: RoomStates) -> None:
        self._store = store
        self._events = events
        self._states = states

    async def find(self, room: RoomInfo, events: Sequence[Event], nids: Mapping[str, int]) -> dict[str, Node]:
        """The state before those of the events, by id, for which it is certain.

        Where an event has no other previous event than a message, nothing lies between the states before the
        two: they are the same. `nids` are the numbers of those events that others already refer to.
        """
        messages = {event.event_id: event for event in events if not event.is_state}
        starts = {nids[event_id]: event_id for event_id in messages if event_id in nids}
        successors = await self._store.list_only_successors(room.room_nid, list(starts))
        records = await self._events.get_many(list(set(successors.values())))
        found: dict[str, Node] = {}
        for nid, successor_nid in successors.items():
            root = await self._states.before(records[successor_nid])
            event = messages.get(starts[nid])
            while event is not None and event.event_id not in found:
                found[event.event_id] = root
                event = messages.get(event.prev_events[0]) if len(event.prev_events) == 1 else None
        return found
