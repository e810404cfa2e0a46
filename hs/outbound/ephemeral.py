"""What is only of the moment: typing, receipts and presence of our users, told to the servers that share rooms.

Nothing here is stored. One worker looks up where all that waits is to go, so what is newer never goes before what is
older, and takes its place where that has not gone yet. In rooms with many servers, receipts are collected for longer:
everybody who reads there would cost a request to each of them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final, TypeAlias, TypeVar

from cachetools import LRUCache

from hs.matrix.ids import server_of
from hs.outbound.deliveries import Deliveries
from hs.outbound.queues import ReceiptEntry, WaitingEdus
from hs.outbound.room_servers import RoomServers
from hs.outbound.transactions import encode_edu
from hs.rooms.worker import Worker
from hs.storage.receipts import READ, Receipt
from hs.storage.rooms import RoomInfo, RoomStore

# Who goes on typing is told of again: servers take them to have stopped after 30 to 60 seconds.
_TELL_AGAIN_S: Final = 25.0
_TYPISTS: Final = 20_000
# Of one room: receipts wait so long for each server in it, at most for as long as the second says.
_PAUSE_PER_SERVER_S: Final = 0.02
_MAX_PAUSE_S: Final = 10.0
# Typing is told to so many servers at most: in a larger room nobody looks at it.
_MAX_TYPING_SERVERS: Final = 500
# Typists, and users with presence, of whom it is not known yet where that goes; what is oldest is dropped.
_MAX_WAITING: Final = 10_000
_MAX_RECEIPTS: Final = 5_000
# Rooms that are looked up together.
_ROOMS_AT_ONCE: Final = 500

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
# A room, and the servers in it.
_Room: TypeAlias = tuple[RoomInfo, frozenset[str]]


@dataclass(slots=True)
class _PresenceNews:
    """What a user is now, as in m.presence, and whom that is for."""

    entry: Mapping[str, Any]
    rooms: set[int] = field(default_factory=set)
    servers: set[str] = field(default_factory=set)


class EphemeralSender:
    """Sends EDUs of our users; what is of others' users is ignored."""

    def __init__(
        self,
        deliveries: Deliveries,
        room_servers: RoomServers,
        rooms: RoomStore,
        settle: Callable[[], Awaitable[None]],
        server_name: str,
    ) -> None:
        """`settle` returns when it is known who is in the rooms now."""
        self._deliveries = deliveries
        self._room_servers = room_servers
        self._rooms = rooms
        self._settle = settle
        self._server_name = server_name
        # By room and user: when it was told that they are typing, in the loop's time.
        self._told: LRUCache[tuple[int, str], float] = LRUCache(_TYPISTS)
        # What waits: whether users are typing, by room and user; receipts by room; users with what they are.
        self._typing: dict[tuple[int, str], bool] = {}
        self._receipts: dict[int, dict[tuple[str, str], Receipt]] = {}
        self._presence: dict[str, _PresenceNews] = {}
        # Rooms where receipts were told a moment ago.
        self._pauses: dict[int, asyncio.TimerHandle] = {}
        self._worker = Worker("outbound EDUs", self._work)

    def on_typing(self, room_nid: int, user_id: str, is_typing: bool) -> None:
        """A user is typing, still is, or has stopped."""
        if server_of(user_id) != self._server_name:
            return
        key, now = (room_nid, user_id), asyncio.get_running_loop().time()
        if not is_typing:
            self._told.pop(key, None)
        elif now - self._told.get(key, -_TELL_AGAIN_S) < _TELL_AGAIN_S:
            return
        else:
            self._told[key] = now
        _put_last(self._typing, key, is_typing)
        self._worker.wake()

    def on_receipts(self, receipts: Iterable[Receipt]) -> None:
        """Users have read; what is private stays here."""
        for receipt in receipts:
            if receipt.receipt_type != READ or server_of(receipt.user_id) != self._server_name:
                continue
            room_nid = receipt.room_nid
            waiting = self._receipts.setdefault(room_nid, {})
            if len(waiting) < _MAX_RECEIPTS:
                waiting[receipt.user_id, receipt.thread_id] = receipt
            if room_nid not in self._pauses:
                self._worker.wake()

    def on_presence(
        self, entries: Sequence[Mapping[str, Any]], rooms_by_user: Mapping[str, Collection[int]]
    ) -> None:
        """Users have changed (`entries` as in m.presence); their changes are for those in these rooms of theirs."""
        for entry in entries:
            if (news := self._renew(entry)) is not None:
                news.rooms.update(rooms_by_user.get(entry["user_id"], ()))

    def on_new_server(self, server_name: str, entries: Sequence[Mapping[str, Any]]) -> None:
        """A server has come into a room; these users of the room are there, or were told of just now."""
        if server_name != self._server_name:
            for entry in entries:
                if (news := self._renew(entry)) is not None:
                    news.servers.add(server_name)

    async def close(self) -> None:
        """Drop what is under way."""
        for timer in self._pauses.values():
            timer.cancel()
        await self._worker.close(waits=False)

    def _renew(self, entry: Mapping[str, Any]) -> _PresenceNews | None:
        """What waits to be told of a user of ours, with this for the newest."""
        user_id = entry["user_id"]
        if server_of(user_id) != self._server_name:
            return None
        news = self._presence.get(user_id) or _PresenceNews(entry)
        news.entry = entry
        _put_last(self._presence, user_id, news)
        self._worker.wake()
        return news

    async def _work(self) -> None:
        """Tell of all that waits; what has not been told stays where an error ends this."""
        while self._typing or self._presence or not self._receipts.keys() <= self._pauses.keys():
            await self._settle()
            nids = self._list_rooms()
            rooms = await self._rooms.list_by_nids(nids)
            found = {nid: (room, await self._room_servers.list_servers(room)) for nid, room in rooms.items()}
            # From here on nothing is awaited: what comes now is told after this.
            self._tell_typing(nids, found)
            self._tell_receipts(nids, found)
            self._tell_presence(nids, found)

    def _list_rooms(self) -> list[int]:
        """Rooms whose servers are needed next."""
        nids: set[int] = set()
        for room_nid in chain(
            (room_nid for room_nid, _ in self._typing),
            (room_nid for room_nid in self._receipts if room_nid not in self._pauses),
            (room_nid for news in self._presence.values() for room_nid in news.rooms),
        ):
            nids.add(room_nid)
            if len(nids) == _ROOMS_AT_ONCE:
                break
        return list(nids)

    def _tell_typing(self, nids: Collection[int], found: Mapping[int, _Room]) -> None:
        for room_nid, user_id in [key for key in self._typing if key[0] in nids]:
            is_typing = self._typing.pop((room_nid, user_id))
            room, servers = found.get(room_nid, (None, frozenset[str]()))
            if room is not None and len(servers) <= _MAX_TYPING_SERVERS:
                edu = encode_edu(
                    "m.typing", {"room_id": room.room_id, "user_id": user_id, "typing": is_typing}
                )
                for edus in self._open(servers):
                    edus.put_typing(room.room_id, user_id, edu)

    def _tell_receipts(self, nids: Collection[int], found: Mapping[int, _Room]) -> None:
        loop = asyncio.get_running_loop()
        for room_nid in [nid for nid in self._receipts if nid in nids and nid not in self._pauses]:
            receipts = self._receipts.pop(room_nid)
            room, servers = found.get(room_nid, (None, frozenset[str]()))
            if room is None or not servers:
                continue
            entries = [
                ReceiptEntry(room.room_id, one.user_id, one.thread_id, one.event_id, one.ts)
                for one in receipts.values()
            ]
            for edus in self._open(servers):
                edus.put_receipts(entries)
            pause_s = min(len(servers) * _PAUSE_PER_SERVER_S, _MAX_PAUSE_S)
            self._pauses[room_nid] = loop.call_later(pause_s, self._end_pause, room_nid)

    def _end_pause(self, room_nid: int) -> None:
        del self._pauses[room_nid]
        if room_nid in self._receipts:
            self._worker.wake()

    def _tell_presence(self, nids: Collection[int], found: Mapping[int, _Room]) -> None:
        for user_id, news in list(self._presence.items()):
            servers = news.servers.union(*(found[nid][1] for nid in news.rooms if nid in found))
            for edus in self._open(servers):
                edus.put_presence(user_id, news.entry)
            news.rooms.difference_update(nids)
            news.servers.clear()
            if not news.rooms:
                del self._presence[user_id]

    def _open(self, servers: Iterable[str]) -> Iterator[WaitingEdus]:
        """Where to put what goes to these servers; it is sent after that."""
        for name in servers:
            queue = self._deliveries.open_for_edus(name)
            if queue is not None:
                yield queue.edus
                self._deliveries.flush(queue)


def _put_last(waiting: dict[_Key, _Value], key: _Key, value: _Value) -> None:
    """The newest goes to the end; the oldest is dropped where there are too many."""
    waiting.pop(key, None)
    waiting[key] = value
    if len(waiting) > _MAX_WAITING:
        del waiting[next(iter(waiting))]
