"""Threads start from events that relate to nothing.

Spec: client-server-api module "Threading", "Validation of m.thread relationships".
"""

from typing import Any

from hs.matrix.errors import Unknown
from hs.matrix.relations import THREAD, find_relation
from hs.storage.events import EventStore
from hs.storage.rooms import RoomInfo


async def check_thread(events: EventStore, room: RoomInfo, content: dict[str, Any]) -> None:
    """Unknown for a message of a thread whose root is known here and relates to another event itself."""
    relation = find_relation(content)
    if relation is None or relation.rel_type != THREAD:
        return
    root_nid = await events.find_nid(room.room_nid, relation.event_id)
    if root_nid is not None and find_relation((await events.get(root_nid)).content) is not None:
        # Spec: there is no error code for this.
        raise Unknown("a thread cannot start from an event that relates to another")
