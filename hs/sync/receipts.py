"""Receipts: taken, written in groups, and told to syncs.

Spec: client-server-api module "Receipts".
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

import msgspec
from cachetools import LRUCache

from hs.matrix.errors import InvalidParam, NotFound
from hs.rooms.clock import Clock
from hs.storage.database import Database
from hs.storage.receipts import MAIN, READ_PRIVATE, ReadUpTo, Receipt, ReceiptStore
from hs.storage.rooms import RoomInfo
from hs.storage.streams import StreamIds

OnReceipt = Callable[[Receipt], None]
OnRead = Callable[[str, int], None]

# A receipt takes about 400 bytes: a room at most 80 KB, all of them 160 MB at the very most.
_RECENT_RECEIPTS = 200
_RECENT_ROOMS = 2_000
_CACHED_POSITIONS = 200_000
# Receipts written in one transaction at most.
_BATCH = 500
_KEY = tuple[str, int]


@dataclass(slots=True)
class _Recent:
    """The room's receipts after `complete_from`, in the order of their stream ids."""

    complete_from: int
    receipts: deque[Receipt] = field(default_factory=deque)


class RecentReceipts:
    """The last receipts of busy rooms; answers most syncs without the database."""

    def __init__(self, start: int) -> None:
        # Rooms that are not remembered have had no receipts after this.
        self._floor = start
        # By their newest receipt, oldest first.
        self._rooms: OrderedDict[int, _Recent] = OrderedDict()

    def add(self, receipt: Receipt) -> None:
        """Take over a receipt that was committed."""
        recent = self._rooms.get(receipt.room_nid)
        if recent is None:
            if len(self._rooms) >= _RECENT_ROOMS:
                _, dropped = self._rooms.popitem(last=False)
                self._floor = max(self._floor, dropped.receipts[-1].stream_id)
            recent = self._rooms[receipt.room_nid] = _Recent(self._floor)
        recent.receipts.append(receipt)
        if len(recent.receipts) > _RECENT_RECEIPTS:
            recent.complete_from = recent.receipts.popleft().stream_id
        self._rooms.move_to_end(receipt.room_nid)

    def forget(self, upto: int) -> None:
        """Let the database say what has happened up to here."""
        self._rooms.clear()
        self._floor = max(self._floor, upto)

    def list_rooms_since(self, room_nids: Collection[int], since: int) -> list[int] | None:
        """Those of the rooms with receipts after `since`; None where only the database knows."""
        if since < self._floor:
            return None
        found = []
        for room_nid, recent in reversed(self._rooms.items()):
            if recent.receipts[-1].stream_id <= since:
                break
            if room_nid in room_nids:
                found.append(room_nid)
        return found

    def list_since(self, room_nid: int, since: int, upto: int) -> list[Receipt] | None:
        """The room's receipts in (since, upto]; None where not all are known."""
        recent = self._rooms.get(room_nid)
        if recent is None:
            return [] if since >= self._floor else None
        if since < recent.complete_from:
            return None
        return [receipt for receipt in recent.receipts if since < receipt.stream_id <= upto]


class ReceiptWriter:
    """Writes receipts: those that come up while a transaction runs go together in the next."""

    def __init__(self, database: Database, store: ReceiptStore, stream: StreamIds) -> None:
        self._database = database
        self._store = store
        self._stream = stream
        self._waiting: list[tuple[Receipt, asyncio.Future[None]]] = []
        self._worker: asyncio.Task[None] | None = None
        self._on_receipts: Callable[[Sequence[Receipt]], None] = lambda receipts: None
        self._on_uncertain: Callable[[int, Sequence[Receipt]], None] = lambda upto, receipts: None

    def tell(
        self,
        on_receipts: Callable[[Sequence[Receipt]], None],
        on_uncertain: Callable[[int, Sequence[Receipt]], None],
    ) -> None:
        """Whom to tell of what was committed, and of what may have been."""
        self._on_receipts, self._on_uncertain = on_receipts, on_uncertain

    async def write(self, receipt: Receipt) -> None:
        """Return once the receipt, or one that is further ahead, is committed."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((receipt, done))
        if self._worker is None:
            self._worker = asyncio.create_task(self._work(), name="receipts")
        await done

    async def close(self) -> None:
        """Wait until everything is written."""
        while self._worker is not None:
            await asyncio.gather(self._worker, return_exceptions=True)

    async def _work(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
                try:
                    await self._write(batch)
                except Exception as error:  # worker loop: whatever went wrong must reach the waiting callers
                    for _, done in batch:
                        if not done.done():
                            done.set_exception(error)
        finally:
            self._worker = None
            for _, done in self._waiting:
                done.cancel()

    async def _write(self, batch: Sequence[tuple[Receipt, asyncio.Future[None]]]) -> None:
        # One statement cannot change a row twice.
        newest: dict[tuple[int, str, str, str], Receipt] = {}
        for receipt, _ in batch:
            known = newest.get(receipt.key)
            if known is None or known.position < receipt.position:
                newest[receipt.key] = receipt
        # In one order, so that two processes never wait for each other.
        receipts = [newest[key] for key in sorted(newest)]
        with self._stream.reserve(len(receipts)) as ids:
            numbered = [replace(receipt, stream_id=ids.first + i) for i, receipt in enumerate(receipts)]
            ids.on_failed(lambda: self._on_uncertain(ids.last, numbered))
            async with self._database.write() as writer:
                stored = await self._store.upsert(writer, numbered)
            stored.sort(key=lambda receipt: receipt.stream_id)
            ids.on_published(lambda: self._on_receipts(stored))
        for _, done in batch:
            if not done.done():
                done.set_result(None)


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
    ) -> None:
        self._store = store
        self._writer = writer
        self._stream = stream
        self._clock = clock
        self._wake_room = wake_room
        self._wake_user = wake_user
        self._recent = RecentReceipts(stream.current)
        self._positions: LRUCache[_KEY, ReadUpTo] = LRUCache(_CACHED_POSITIONS)
        # Positions that are being read, and whether they have changed meanwhile.
        self._loading: dict[_KEY, bool] = {}
        self._on_read: list[OnRead] = []
        writer.tell(self._take_over, self._doubt)

    @property
    def current(self) -> int:
        """The newest stream id that readers may see."""
        return self._stream.current

    async def close(self) -> None:
        """Wait until everything is written."""
        await self._writer.close()

    def on_read(self, tell: OnRead) -> None:
        """Call `tell` with the user and the room after each receipt."""
        self._on_read.append(tell)

    async def set(
        self, room: RoomInfo, user_id: str, receipt_type: str, event_id: str, thread_id: str | None
    ) -> None:
        """The user has read up to the event; earlier ones than before change nothing.

        NotFound for an event that the room does not have, InvalidParam where it is not in the thread.
        """
        place = await self._store.find_place(room.room_nid, event_id)
        if place is None:
            raise NotFound("there is no such event in this room")
        position, thread_nid, root_id = place
        if thread_id is not None and thread_id != (root_id or MAIN):
            raise InvalidParam("the event is not in this thread")
        await self._writer.write(
            Receipt(
                room.room_nid,
                user_id,
                receipt_type,
                thread_id or "",
                thread_nid if thread_id is not None else 0,
                event_id,
                position,
                self._clock.now_ms(),
            )
        )

    async def list_rooms_since(
        self, user_id: str, room_nids: Collection[int], since: int, upto: int
    ) -> Collection[int]:
        """Those of the rooms with receipts in (since, upto] that the user may know of."""
        rooms = self._recent.list_rooms_since(room_nids, since)
        if rooms is None:
            found = await self._store.list_since(user_id, list(room_nids), since, upto)
            return {receipt.room_nid for receipt in found}
        return [nid for nid in rooms if self._has_visible(nid, user_id, since, upto)]

    async def list_events(
        self, user_id: str, room_nids: Collection[int], since: int | None, upto: int
    ) -> dict[int, bytes]:
        """The m.receipt event of each of the rooms that has one, as JSON: what is new since, or all there is."""
        by_room = await self._list(user_id, room_nids, since, upto)
        return {nid: _render(receipts) for nid, receipts in by_room.items() if receipts}

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

    async def _load_position(self, key: _KEY) -> ReadUpTo:
        while True:
            self._loading[key] = False
            try:
                found = await self._store.find_read(*key)
            finally:
                was_touched = self._loading.pop(key, True)
            if not was_touched:
                return self._positions.setdefault(key, found)

    async def _list(
        self, user_id: str, room_nids: Collection[int], since: int | None, upto: int
    ) -> dict[int, list[Receipt]]:
        if since is None:
            lists = await asyncio.gather(*(self._store.list_of_room(user_id, nid) for nid in room_nids))
            return {
                nid: [one for one in found if one.stream_id <= upto]
                for nid, found in zip(room_nids, lists, strict=True)
            }
        by_room: dict[int, list[Receipt]] = {}
        unknown: list[int] = []
        for nid in room_nids:
            recent = self._recent.list_since(nid, since, upto)
            if recent is None:
                unknown.append(nid)
            else:
                by_room[nid] = [one for one in recent if one.is_visible_to(user_id)]
        if unknown:
            for one in await self._store.list_since(user_id, unknown, since, upto):
                by_room.setdefault(one.room_nid, []).append(one)
        return by_room

    def _has_visible(self, room_nid: int, user_id: str, since: int, upto: int) -> bool:
        recent = self._recent.list_since(room_nid, since, upto)
        return recent is None or any(one.is_visible_to(user_id) for one in recent)

    def _take_over(self, receipts: Sequence[Receipt]) -> None:
        rooms: set[int] = set()
        for receipt in receipts:
            self._recent.add(receipt)
            self._touch(receipt)
            if receipt.receipt_type == READ_PRIVATE:
                self._wake_user(receipt.user_id)
            else:
                rooms.add(receipt.room_nid)
        for room_nid in rooms:
            self._wake_room(room_nid)

    def _doubt(self, upto: int, receipts: Sequence[Receipt]) -> None:
        self._recent.forget(upto)
        for receipt in receipts:
            self._touch(receipt)

    def _touch(self, receipt: Receipt) -> None:
        key = (receipt.user_id, receipt.room_nid)
        if key in self._loading:
            self._loading[key] = True
        self._positions.pop(key, None)
        for tell in self._on_read:
            tell(*key)


def _render(receipts: Iterable[Receipt]) -> bytes:
    """The receipts as an m.receipt event.

    A user has one entry per event and type there: where there are two of different threads, the unthreaded
    one says more.
    """
    content: dict[str, dict[str, dict[str, dict[str, object]]]] = {}
    for receipt in receipts:
        users = content.setdefault(receipt.event_id, {}).setdefault(receipt.receipt_type, {})
        known = users.get(receipt.user_id)
        if known is not None and "thread_id" not in known:
            continue
        entry: dict[str, object] = {"ts": receipt.ts}
        if receipt.thread_id:
            entry["thread_id"] = receipt.thread_id
        users[receipt.user_id] = entry
    return b'{"content":%b,"type":"m.receipt"}' % msgspec.json.encode(content)
