"""Which events a reader wants: those that their filter lets through, and nothing said by users they ignore.

Spec: client-server-api "Filtering", module "Ignoring Users": "Servers must still send state events".
"""

from collections.abc import Sequence

from hs._fast.event_record import EventRecord
from hs.matrix.filters import EventMatcher
from hs.storage.relations import RelationStore
from hs.sync.ignored_users import IgnoredUsers


class WantedEvents:
    """Chooses events."""

    def __init__(self, relations: RelationStore, ignored_users: IgnoredUsers) -> None:
        self._relations = relations
        self._ignored_users = ignored_users

    async def keep(
        self, user_id: str, records: Sequence[EventRecord], matcher: EventMatcher
    ) -> list[EventRecord]:
        """Those of the records, all of one room, that the user wants: one look-up where related ones are asked for."""
        kept = [record for record in records if matcher.matches(record)]
        ignored = await self._ignored_users.get(user_id)
        if ignored:
            kept = [record for record in kept if record.state_key is not None or record.sender not in ignored]
        related = matcher.related_by
        if related is None or not kept:
            return kept
        event_ids = [record.event_id for record in kept]
        found = await self._relations.list_related(
            kept[0].room_nid, event_ids, related.senders, related.rel_types
        )
        return [record for record, event_id in zip(kept, event_ids, strict=True) if event_id in found]

    async def keeps_all(self, user_id: str, matcher: EventMatcher) -> bool:
        """Whether nothing is left out."""
        return matcher.is_open and not await self._ignored_users.get(user_id)
