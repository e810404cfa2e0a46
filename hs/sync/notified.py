"""Past notifications of a user. Spec: client-server-api "Listing notifications"."""

import msgspec

from hs.storage.events import EventStore
from hs.storage.notified import NotifiedEvent, NotifiedStore
from hs.sync.client_events import ClientEvents, Viewer
from hs.sync.unread import PositionSource, ReadPositions

MAX_LIMIT = 100
# Sounds and other tweaks are of the moment in which a device rings.
_ACTIONS = {1: b'["notify"]', 2: b'["notify",{"set_tweak":"highlight"}]'}


class Notifications:
    """Builds pages of past notifications, newest first."""

    def __init__(
        self,
        store: NotifiedStore,
        events: EventStore,
        client_events: ClientEvents,
        receipts: PositionSource,
    ) -> None:
        self._store = store
        self._events = events
        self._client_events = client_events
        self._receipts = receipts

    async def list_page(self, viewer: Viewer, before: int, limit: int, *, only_highlights: bool) -> bytes:
        """The answer of GET /notifications as JSON; `before` is the stream ordering that it goes on from."""
        limit = max(1, min(limit, MAX_LIMIT))
        user_id = viewer.user_id
        found = await self._store.list_notified(user_id, before, limit, only_highlights=only_highlights)
        records = await self._events.get_many([one.event_nid for one in found])
        # They came while the user was in the room.
        rendered = await self._client_events.render(
            list(records.values()), viewer, dict.fromkeys(records, "join")
        )
        events = dict(zip(records, rendered, strict=True))
        positions = await self._receipts.read_positions(user_id, {one.room_nid for one in found})
        items = [
            b'{"actions":%b,"event":%b,"read":%b,"room_id":%b,"ts":%d}'
            % (
                _ACTIONS[one.push],
                events[one.event_nid],
                b"true" if _is_read(one, positions.get(one.room_nid)) else b"false",
                msgspec.json.encode(records[one.event_nid].room_id),
                records[one.event_nid].origin_server_ts,
            )
            for one in found
            if one.event_nid in records
        ]
        token = b',"next_token":"%d"' % found[-1].stream_ordering if len(found) == limit else b""
        return b'{"notifications":[%b]%b}' % (b",".join(items), token)


def _is_read(one: NotifiedEvent, positions: ReadPositions | None) -> bool:
    read_upto = one.sent_upto
    if positions is not None:
        read_upto = max(read_upto, positions.unthreaded, positions.by_thread.get(one.thread_nid, 0))
    return one.stream_ordering <= read_upto
