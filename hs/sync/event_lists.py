"""Long lists of state events as JSON: made once for everybody who asks, until the room's state changes.

What is personal in them is left to `ClientEvents`: short lists say what each event replaced, as far as the
reader may see it, and events that a device sent with a transaction id name it to that device.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

from cachetools import LRUCache

from hs._fast.event_record import EventRecord
from hs.rooms.clock import Clock
from hs.rooms.drafts import Committed
from hs.storage.events import EventStore
from hs.sync.client_events import AGE, ClientEvents, Viewer

# After so many events of a long list others get their turn.
_CHUNK = 500
_MOST_PREVIOUS = 100

_MAX_BYTES = 32 * 2**20
# Of one list: to fill in the ages of more would keep others waiting.
_MAX_LIST_BYTES = 4 * 2**20
# Of one room: its state, and members by the filters that clients use.
_LISTS = 4
_ENTRY_BYTES = 300
# A time, its number included.
_TIME_BYTES = 40


@dataclass(frozen=True, slots=True)
class _List:
    """A list with a place for each age, and when its events were sent."""

    template: bytes
    sent_ts: tuple[int, ...]
    newest_ts: int

    def at(self, now_ms: int) -> bytes:
        """The list as of now."""
        # A clock may be behind that of who sent an event: nothing is younger than now.
        late = max(now_ms, self.newest_ts) != now_ms
        ages = [max(0, now_ms - ts) for ts in self.sent_ts] if late else [now_ms - ts for ts in self.sent_ts]
        return self.template % tuple(ages)

    @property
    def size(self) -> int:
        """Bytes it takes."""
        return len(self.template) + _TIME_BYTES * len(self.sent_ts)


_Lists = dict[Hashable, _List]


class EventLists:
    """Renders lists of state events, and keeps those that are the same for everybody."""

    def __init__(self, events: EventStore, client_events: ClientEvents, clock: Clock) -> None:
        self._events = events
        self._client_events = client_events
        self._clock = clock
        self._rooms: LRUCache[int, _Lists] = LRUCache(
            _MAX_BYTES, lambda lists: _ENTRY_BYTES + sum(_ENTRY_BYTES + one.size for one in lists.values())
        )

    async def render(
        self, room_nid: int, name: Hashable, viewer: Viewer, list_nids: Callable[[], Awaitable[Sequence[int]]]
    ) -> bytes:
        """The list of events; `name` says which it is as long as the room's state does not change."""
        lists = self._rooms.get(room_nid)
        if lists is not None and name in lists:
            return lists[name].at(self._clock.now_ms())
        if lists is None:
            lists = self._rooms[room_nid] = {}
        nids = await list_nids()
        made = await self._make(nids) if len(nids) > _MOST_PREVIOUS else None
        if made is None:
            return await self.render_for(viewer, nids)
        # A commit meanwhile has taken the room's lists away: this one may be out of date for the next reader.
        if made.size <= _MAX_LIST_BYTES and self._rooms.get(room_nid) is lists:
            while len(lists) >= _LISTS:
                del lists[next(iter(lists))]
            lists[name] = made
            # Put anew, so that its size is taken again.
            self._rooms[room_nid] = lists
        return made.at(self._clock.now_ms())

    async def render_for(self, viewer: Viewer, nids: Sequence[int]) -> bytes:
        """The list of events as this viewer sees it."""
        rendered: list[bytes] = []
        # What each of many events replaced is left out: whether it may be seen takes a look at as many states.
        with_previous = len(nids) <= _MOST_PREVIOUS
        for part in chunks(nids):
            found = await self._events.get_many(part)
            records = [found[nid] for nid in part if nid in found]
            rendered += await self._client_events.render(
                records, viewer, with_room_id=True, with_previous=with_previous
            )
            if len(nids) > _CHUNK:
                await asyncio.sleep(0)
        return b"[%b]" % b",".join(rendered)

    def on_commit(self, committed: Committed) -> None:
        """Forget the room where its lists are others now."""
        if committed.is_uncertain or committed.state_changes or committed.membership_changes:
            self._rooms.pop(committed.room.room_nid, None)

    def on_written(self, records: Sequence[EventRecord], redacted_nids: Sequence[int]) -> None:
        """Forget the room where something is redacted, by news or by old history."""
        if redacted_nids and records:
            self._rooms.pop(records[0].room_nid, None)

    async def _make(self, nids: Sequence[int]) -> _List | None:
        """The list for everybody; None where something in it is personal."""
        rendered: list[bytes] = []
        sent_ts: list[int] = []
        for part in chunks(nids):
            found = await self._events.get_many(part)
            records = [found[nid] for nid in part if nid in found]
            if any(record.txn_device_id is not None for record in records):
                return None
            rendered += await self._client_events.render_for_all(records)
            sent_ts += [record.origin_server_ts for record in records]
            if len(nids) > _CHUNK:
                await asyncio.sleep(0)
        template = (b"[%b]" % b",".join(rendered)).replace(b"%", b"%%").replace(AGE, b"%d")
        return _List(template, tuple(sent_ts), max(sent_ts, default=0))


def chunks(nids: Sequence[int]) -> Iterable[Sequence[int]]:
    """Parts of a long list."""
    return (nids[start : start + _CHUNK] for start in range(0, len(nids), _CHUNK))
