"""Nobody annotates an event twice with the same key.

Spec: client-server-api module "Event annotations", "Avoiding duplicate annotations".
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hs.matrix.errors import DuplicateAnnotation
from hs.matrix.relations import ANNOTATION, Relation, find_relation
from hs.rooms.drafts import Draft, Transaction
from hs.storage.annotations import AnnotationStore
from hs.storage.events import EventStore
from hs.storage.rooms import RoomInfo

# room_nid, sender, type, event_id, key
_Name = tuple[int, str, str, str, str]


class Annotations:
    """Lets each annotation through once."""

    def __init__(self, store: AnnotationStore, events: EventStore) -> None:
        self._store = store
        self._events = events
        # What is being sent at this moment is not in the database yet.
        self._under_way: dict[_Name, Transaction | None] = {}

    @asynccontextmanager
    async def claim(self, room: RoomInfo, draft: Draft) -> AsyncIterator[None]:
        """Within the block the draft may be sent; DuplicateAnnotation where it is there already.

        A repeated transaction is no duplicate: it gets the answer that it got before.
        """
        relation = find_relation(draft.content)
        if relation is None or relation.rel_type != ANNOTATION or relation.key is None:
            yield
            return
        name = (room.room_nid, draft.sender, draft.type, relation.event_id, relation.key)
        if name in self._under_way:
            if draft.transaction is None or self._under_way[name] != draft.transaction:
                raise DuplicateAnnotation("you have annotated this event with the same key")
            yield
            return
        self._under_way[name] = draft.transaction
        try:
            await self._check(room, draft, relation)
            yield
        finally:
            del self._under_way[name]

    async def _check(self, room: RoomInfo, draft: Draft, relation: Relation) -> None:
        nids = await self._store.list_own(room.room_nid, relation.event_id, draft.sender, draft.type)
        for record in (await self._events.get_many(nids)).values():
            transaction = draft.transaction
            is_repeated = (
                transaction is not None
                and record.txn_id == transaction.txn_id
                and record.txn_device_id == transaction.device_id
            )
            if find_relation(record.content) == relation and not is_repeated:
                raise DuplicateAnnotation("you have annotated this event with the same key")
