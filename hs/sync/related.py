"""The parts of a filter that ask for events to which others relate: related_by_senders, related_by_rel_types."""

from collections.abc import Sequence

from hs._fast.event_record import EventRecord
from hs.matrix.filters import EventMatcher
from hs.storage.relations import RelationStore


async def keep_matching(
    store: RelationStore, records: Sequence[EventRecord], matcher: EventMatcher
) -> list[EventRecord]:
    """The records, all of one room, that the filter lets through: one look-up where it asks for relations."""
    kept = [record for record in records if matcher.matches(record)]
    related = matcher.related_by
    if related is None or not kept:
        return kept
    event_ids = [record.event_id for record in kept]
    found = await store.list_related(kept[0].room_nid, event_ids, related.senders, related.rel_types)
    return [record for record, event_id in zip(kept, event_ids, strict=True) if event_id in found]
