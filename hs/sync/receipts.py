"""Receipts: taken from users, and told to syncs. Spec: client-server-api module "Receipts"."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import msgspec
from cachetools import LRUCache

from hs.matrix.errors import InvalidParam, NotFound
from hs.rooms.clock import Clock
from hs.storage.receipts import MAIN, READ_PRIVATE, EventPlace, ReadUpTo, Receipt, ReceiptStore
from hs.storage.rooms import RoomInfo
from hs.storage.streams import StreamIds
from hs.sync.receipt_writer import ReceiptNews, ReceiptWriter
from hs.sync.recent_receipts import RecentReceipts

OnRead = Callable[[str, int], None]

# About 300 bytes each.
_CACHED_POSITIONS = 200_000
_RENDERED_BYTES = 16 * 1024 * 1024
# Every receipt is news to everybody in its room. In a crowd, where they all read the same message, they are
# told together, so that polls take at most about half of the time: answering one costs half a millisecond.
_CROWD = 100
_PAUSE_PER_USER_S = 0.001
_MAX_PAUSE_S = 2.0
_Reader = tuple[str, int]


@dataclass(frozen=True, slots=True)
class _News:
    """A room's receipts of a while: the event for everybody (None: no public ones), and who has private ones."""

    event: bytes | None
    private: Collection[str]


class Receipts:
    """Takes receipts, and tells what users may know of them."""

    def __init__(
        self,
        store: ReceiptStore,
        writer: ReceiptWriter,
        stream: StreamIds,
        clock: Clock,
        wake_room: Callable[[int], None],
        wake_user: Callable[[str], None],
        count_users: Callable[[int], int],
    ) -> None:
        """`count_users` says how many users a room has who may be waiting for its news."""
        self._store = store
        self._writer = writer
        self._stream = stream
        self._clock = clock
        self._wake_room = wake_room
        self._wake_user = wake_user
        self._count_users = count_users
        self._current = stream.current
        # Whom to wake once the pause is over.
        self._rooms: set[int] = set()
        self._users: set[str] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._recent = RecentReceipts(stream.current)
        # Whoever waits for a room's news is woken by the same receipts: they are rendered once.
        self._rendered: LRUCache[tuple[int, int, int], _News] = LRUCache(_RENDERED_BYTES, getsizeof=_weigh)
        self._positions: LRUCache[_Reader, ReadUpTo] = LRUCache(_CACHED_POSITIONS)
        # Who is reading positions from the database that have not changed meanwhile.
        self._loading: dict[_Reader, set[object]] = {}
        self._on_read: list[OnRead] = []
        writer.on_receipts(self._take_over)

    @property
    def current(self) -> int:
        """The newest stream id that readers may see."""
        return self._current

    async def close(self) -> None:
        """Wait until everything is written."""
        await self._writer.close()
        if self._pause is not None:
            self._pause.cancel()

    def on_read(self, tell: OnRead) -> None:
        """Call `tell` with the user and the room after each receipt."""
        self._on_read.append(tell)

    def on_receipts(self, tell: Callable[[Sequence[Receipt]], None]) -> None:
        """Call `tell` with receipts that were committed."""
        self._writer.on_receipts(lambda news: None if news.is_uncertain else tell(news.receipts))

    async def check_event(self, room: RoomInfo, event_id: str) -> EventPlace:
        """Where the event is; NotFound where the room has no such event."""
        place = await self._store.find_place(room.room_nid, event_id)
        if place is None:
            raise NotFound("there is no such event in this room")
        return place

    async def set(
        self,
        room: RoomInfo,
        user_id: str,
        receipt_type: str,
        event_id: str,
        thread_id: str | None,
        ts: int | None = None,
    ) -> None:
        """The user has read up to the event; earlier ones than before change nothing.

        `thread_id` is "main", a root's event id, or None for all threads; `ts` says when it was, if not now: what
        is in the future is now.
        NotFound for an event that the room does not have, InvalidParam where it is not in the thread.
        """
        now_ms = self._clock.now_ms()
        place = await self.check_event(room, event_id)
        thread_nid = 0 if thread_id is None else await self._find_thread(room, event_id, place, thread_id)
        await self._writer.write(
            Receipt(
                room.room_nid,
                user_id,
                receipt_type,
                thread_id or "",
                thread_nid,
                event_id,
                place.stream_ordering,
                now_ms if ts is None else min(ts, now_ms),
            )
        )

    async def _find_thread(self, room: RoomInfo, event_id: str, place: EventPlace, thread_id: str) -> int:
        """The number of the thread's root, 0 for the main timeline; InvalidParam where the event is not in it."""
        if thread_id == (place.thread_id or MAIN):
            return place.thread_nid
        # A root, and what relates to it, are in the main timeline. Clients send them as read in the thread as
        # well, and the spec asks only that the event is related to the thread.
        if not place.thread_id and thread_id in (event_id, place.relates_to):
            root_nid = await self._store.find_thread_root(room.room_nid, thread_id)
            if root_nid is not None:
                return root_nid
        raise InvalidParam("the event is not related to this thread")

    async def list_rooms_since(
        self, user_id: str, room_nids: Collection[int], since: int, upto: int
    ) -> Collection[int]:
        """Those of the rooms with receipts in (since, upto] that the user may know of.

        A room of which too much has happened to be remembered is among them without being looked at.
        """
        rooms = self._recent.list_rooms_since(room_nids, since)
        if rooms is None:
            return await self._store.list_rooms_since(user_id, room_nids, since, upto)
        return [nid for nid in rooms if self._may_have_news(user_id, nid, since, upto)]

    async def list_events(
        self, user_id: str, room_nids: Collection[int], since: int | None, upto: int
    ) -> dict[int, bytes]:
        """What is new since, or all there is, of the rooms where there is something: see `_render`.

        At most the newest MAX_TOLD of a room and as many own ones where the database is asked.
        """
        found: dict[int, bytes] = {}
        unknown: list[int] = []
        for nid in room_nids:
            news = None if since is None else self._find_news(nid, since, upto)
            if news is None:
                unknown.append(nid)
            elif user_id in news.private:
                receipts = self._recent.list_since(nid, since or 0, upto) or ()
                if shown := [one for one in receipts if _is_for(user_id, one)]:
                    found[nid] = _render(shown)
            elif news.event is not None:
                found[nid] = news.event
        if unknown:
            lists = await asyncio.gather(
                *(self._store.list_receipts(user_id, nid, since or 0, upto) for nid in unknown)
            )
            found.update((nid, _render(one)) for nid, one in zip(unknown, lists, strict=True) if one)
        return found

    async def read_positions(self, user_id: str, room_nids: Collection[int]) -> dict[int, ReadUpTo]:
        """How far the user has read the rooms; the same objects until that changes."""
        found: dict[int, ReadUpTo] = {}
        missing: list[int] = []
        for room_nid in room_nids:
            known = self._positions.get((user_id, room_nid))
            if known is None:
                missing.append(room_nid)
            else:
                found[room_nid] = known
        if missing:
            loaded = await asyncio.gather(*(self._load_position((user_id, nid)) for nid in missing))
            found.update(zip(missing, loaded, strict=True))
        return found

    async def _load_position(self, reader: _Reader) -> ReadUpTo:
        while True:
            token = object()
            self._loading.setdefault(reader, set()).add(token)
            try:
                found = await self._store.find_read(*reader)
            finally:
                unchanged = self._loading.get(reader, set())
                is_current = token in unchanged
                unchanged.discard(token)
                if not unchanged:
                    self._loading.pop(reader, None)
            if is_current:
                return self._positions.setdefault(reader, found)

    def _may_have_news(self, user_id: str, room_nid: int, since: int, upto: int) -> bool:
        news = self._find_news(room_nid, since, upto)
        return news is None or news.event is not None or user_id in news.private

    def _find_news(self, room_nid: int, since: int, upto: int) -> _News | None:
        """What is new, None where only the database knows."""
        key = room_nid, since, upto
        news = self._rendered.get(key)
        if news is None:
            receipts = self._recent.list_since(room_nid, since, upto)
            if receipts is None:
                return None
            public = [one for one in receipts if one.receipt_type != READ_PRIVATE]
            private = {one.user_id for one in receipts if one.receipt_type == READ_PRIVATE}
            news = self._rendered[key] = _News(_render(public) if public else None, private)
        return news

    def _take_over(self, news: ReceiptNews) -> None:
        if news.is_uncertain:
            self._recent.forget(news.upto)
        for receipt in news.receipts:
            reader = receipt.user_id, receipt.room_nid
            self._loading.pop(reader, None)
            known = self._positions.pop(reader, None)
            if not news.is_uncertain:
                self._recent.add(receipt)
                if known is not None:
                    self._positions[reader] = known.after(receipt)
            if receipt.receipt_type == READ_PRIVATE:
                self._users.add(receipt.user_id)
            else:
                self._rooms.add(receipt.room_nid)
            for tell in self._on_read:
                tell(*reader)
        if self._pause is None:
            self._publish()

    def _publish(self) -> None:
        self._pause = None
        self._current = self._stream.current
        users, self._users = self._users, set()
        rooms, self._rooms = self._rooms, set()
        for user_id in users:
            self._wake_user(user_id)
        for room_nid in rooms:
            self._wake_room(room_nid)
        crowd = sum(map(self._count_users, rooms))
        if crowd >= _CROWD:
            pause_s = min(_MAX_PAUSE_S, crowd * _PAUSE_PER_USER_S)
            self._pause = asyncio.get_running_loop().call_later(pause_s, self._publish)


def _is_for(user_id: str, receipt: Receipt) -> bool:
    return receipt.receipt_type != READ_PRIVATE or receipt.user_id == user_id


def _weigh(news: _News) -> int:
    return 200 + len(news.event or b"") + 100 * len(news.private)


def _render(receipts: Iterable[Receipt]) -> bytes:
    """The receipts as an m.receipt event; as several, with commas between, where one cannot hold them.

    A user has one entry per event and type there. Where there are two of different threads, an unthreaded
    one says it all (MSC4102); others follow in an event of their own.
    """
    content: dict[str, dict[str, dict[str, dict[str, object]]]] = {}
    beside: list[Receipt] = []
    for receipt in receipts:
        users = content.setdefault(receipt.event_id, {}).setdefault(receipt.receipt_type, {})
        known = users.get(receipt.user_id)
        if known is not None and receipt.thread_id:
            beside.append(receipt)
            continue
        entry: dict[str, object] = {"ts": receipt.ts}
        if receipt.thread_id:
            entry["thread_id"] = receipt.thread_id
        users[receipt.user_id] = entry
    event = b'{"content":%b,"type":"m.receipt"}' % msgspec.json.encode(content)
    beside = [one for one in beside if "thread_id" in content[one.event_id][one.receipt_type][one.user_id]]
    return event + b"," + _render(beside) if beside else event
