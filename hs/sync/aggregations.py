"""Events for clients with what relates to them: `unsigned.m.relations`.

Spec: client-server-api "Aggregations of child events", modules "Event replacements", "Threading", "Reference
relations". Annotations are not aggregated: clients count them themselves.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from hs._fast.event_record import EventRecord
from hs.matrix.relations import REPLACE, find_relation
from hs.storage.events import EventStore, Flag
from hs.storage.relations import Summary
from hs.sync.access import END
from hs.sync.client_events import CLIENT_SHAPE, ClientEvents, EventShape, Viewer
from hs.sync.ignored_users import IgnoredUsers
from hs.sync.relation_summaries import RelationSummaries
from hs.sync.visibility import Seen, Visibility


class Aggregations:
    """Renders events of a room together with what relates to them; costs nothing where nothing does."""

    def __init__(
        self,
        summaries: RelationSummaries,
        ignored_users: IgnoredUsers,
        events: EventStore,
        visibility: Visibility,
        client_events: ClientEvents,
    ) -> None:
        self._summaries = summaries
        self._ignored_users = ignored_users
        self._events = events
        self._visibility = visibility
        self._client_events = client_events

    async def render(
        self,
        records: Sequence[EventRecord],
        viewer: Viewer,
        memberships: Mapping[int, str] | None = None,
        *,
        until: int = END,
        with_room_id: bool = False,
        with_previous: bool = True,
        shape: EventShape = CLIENT_SHAPE,
    ) -> list[bytes]:
        """The events, all of one room, as JSON and in order; what came after `until` the viewer does not see."""
        relations = await self.bundle(records, viewer, until, with_room_id=with_room_id)
        return await self._client_events.render(
            records,
            viewer,
            memberships,
            with_room_id=with_room_id,
            with_previous=with_previous,
            shape=shape,
            relations=relations,
        )

    async def summarise(
        self, records: Sequence[EventRecord], viewer: Viewer, until: int
    ) -> dict[int, Summary]:
        """What relates to each of the events, as far as the viewer is concerned; by number."""
        found = await self._summaries.get_many(records)
        if not found:
            return found
        ignored: frozenset[str] = frozenset()
        # An edit is of the event's own sender: it is shown to whoever is shown the event.
        if any(summary.references or summary.thread for summary in found.values()):
            ignored = await self._ignored_users.get(viewer.user_id)
        if until == END and not ignored:
            return found
        related = [record for record in records if record.event_nid in found]
        return await self._summaries.get_many_for(related, until, ignored)

    async def bundle(
        self, records: Sequence[EventRecord], viewer: Viewer, until: int, *, with_room_id: bool
    ) -> dict[int, bytes]:
        """What `m.relations` says of each of the events to which others relate, by number."""
        summaries = await self.summarise(records, viewer, until)
        if not summaries:
            return {}
        parents = [record for record in records if record.event_nid in summaries]
        children = await self._see(viewer, until, summaries.values())
        edits: dict[int, Seen] = {}
        newest: dict[int, Seen] = {}
        for parent in parents:
            summary, relation = summaries[parent.event_nid], find_relation(parent.content)
            # Spec: an edit cannot be edited, and a redacted event is not shown as edited.
            if not parent.flags & Flag.REDACTED and (relation is None or relation.rel_type != REPLACE):
                edit = next((s for s in _pick(children, summary.edits) if _is_edit(s.record)), None)
                if edit is not None:
                    edits[parent.event_nid] = edit
            # Spec: no thread starts from an event that relates to another.
            latest = next(_pick(children, summary.thread), None)
            if relation is None and latest is not None:
                newest[parent.event_nid] = latest
        shown = await self._render_children(viewer, until, edits, newest, with_room_id)
        bundles = {
            parent.event_nid: _bundle(parent, viewer, summaries[parent.event_nid], edits, newest, shown)
            for parent in parents
        }
        return {nid: bundle for nid, bundle in bundles.items() if bundle != b"{}"}

    async def _see(self, viewer: Viewer, until: int, summaries: Iterable[Summary]) -> dict[int, Seen]:
        """Those of the edits and messages of threads that the viewer may see."""
        nids = [nid for summary in summaries for nid in (*summary.edits, *summary.thread)]
        if not nids:
            return {}
        records = list((await self._events.get_many(nids)).values())
        seen = await self._visibility.filter(viewer.user_id, records)
        return {one.record.event_nid: one for one in seen if one.record.stream_ordering <= until}

    async def _render_children(
        self,
        viewer: Viewer,
        until: int,
        edits: Mapping[int, Seen],
        newest: Mapping[int, Seen],
        with_room_id: bool,
    ) -> dict[int, bytes]:
        """Edits and newest messages as JSON, by number; the messages with what relates to them in turn."""
        seen = [*edits.values(), *newest.values()]
        if not seen:
            return {}
        # They relate to an event themselves, so none of them is a thread's root: this ends here.
        relations = await self.bundle(
            [one.record for one in newest.values()], viewer, until, with_room_id=with_room_id
        )
        records = [one.record for one in seen]
        memberships = {one.record.event_nid: one.membership for one in seen}
        rendered = await self._client_events.render(
            records, viewer, memberships, with_room_id=with_room_id, relations=relations
        )
        return dict(zip((record.event_nid for record in records), rendered, strict=True))


def _pick(children: Mapping[int, Seen], nids: Iterable[int]) -> Iterator[Seen]:
    return (children[nid] for nid in nids if nid in children)


def _is_edit(record: EventRecord) -> bool:
    """Whether the event says what the new content is; of an encrypted one only its readers know."""
    return record.type == "m.room.encrypted" or isinstance(record.content.get("m.new_content"), dict)


def _bundle(
    parent: EventRecord,
    viewer: Viewer,
    summary: Summary,
    edits: Mapping[int, Seen],
    newest: Mapping[int, Seen],
    shown: Mapping[int, bytes],
) -> bytes:
    parts: list[bytes] = []
    edit, latest = edits.get(parent.event_nid), newest.get(parent.event_nid)
    if edit is not None:
        parts.append(b'"m.replace":' + shown[edit.record.event_nid])
    if summary.references:
        chunk = b",".join(b'{"event_id":%b}' % msgspec.json.encode(id) for id in summary.references)
        parts.append(b'"m.reference":{"chunk":[%b]}' % chunk)
    if latest is not None:
        takes_part = viewer.user_id == parent.sender or viewer.user_id in summary.thread_senders
        parts.append(
            b'"m.thread":{"count":%d,"current_user_participated":%b,"latest_event":%b}'
            % (summary.thread_count, b"true" if takes_part else b"false", shown[latest.record.event_nid])
        )
    return b"{%b}" % b",".join(parts)
