"""The last receipts of busy rooms: they answer most syncs without the database."""

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, field
from operator import attrgetter

from hs.storage.receipts import Receipt, ReceiptKey
from hs.sync.recent_rooms import list_newer

# A receipt takes about 500 bytes: all of them 50 MB at the very most. When everybody in a very large room
# reads the same message at once, polls must still find the last moments here.
MAX_RECEIPTS = 100_000
MAX_RECEIPTS_OF_ROOM = 5_000


@dataclass(eq=False, slots=True)
class _Recent:
    """What stands of the receipts after `complete_from`, in the order of their stream ids."""

    complete_from: int
    newest: int = 0
    receipts: OrderedDict[ReceiptKey, Receipt] = field(default_factory=OrderedDict)


_newest = attrgetter("newest")


class RecentReceipts:
    """Which receipts have come after a stream id; rooms that are quiet for longest are forgotten."""

    def __init__(
        self, start: int, max_receipts: int = MAX_RECEIPTS, max_of_room: int = MAX_RECEIPTS_OF_ROOM
    ) -> None:
        self._max_receipts = max_receipts
        self._max_of_room = max_of_room
        # Rooms that are not remembered have had no receipts after this.
        self._floor = start
        # By their newest receipt, oldest first.
        self._rooms: OrderedDict[int, _Recent] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        """How many receipts are remembered."""
        return self._count

    def add(self, receipt: Receipt) -> None:
        """Take over a receipt that was committed; stream ids must ascend."""
        recent = self._rooms.get(receipt.room_nid)
        if recent is None:
            recent = self._rooms[receipt.room_nid] = _Recent(self._floor)
        self._rooms.move_to_end(receipt.room_nid)
        if recent.receipts.pop(receipt.key, None) is None:
            self._count += 1
        recent.receipts[receipt.key] = receipt
        recent.newest = receipt.stream_id
        if len(recent.receipts) > self._max_of_room:
            _, oldest = recent.receipts.popitem(last=False)
            recent.complete_from = oldest.stream_id
            self._count -= 1
        while self._count > self._max_receipts:
            _, dropped = self._rooms.popitem(last=False)
            self._floor = max(self._floor, dropped.newest)
            self._count -= len(dropped.receipts)

    def forget(self, upto: int) -> None:
        """Let the database say what has happened up to here."""
        self._rooms.clear()
        self._count = 0
        self._floor = max(self._floor, upto)

    def list_rooms_since(self, room_nids: Collection[int], since: int) -> list[int] | None:
        """Those of the rooms with receipts after `since`; None where only the database knows."""
        if since < self._floor:
            return None
        return list_newer(self._rooms, _newest, room_nids, since)

    def list_since(self, room_nid: int, since: int, upto: int) -> list[Receipt] | None:
        """The room's receipts in (since, upto], oldest first; None where not all are known."""
        recent = self._rooms.get(room_nid)
        if recent is None:
            return [] if since >= self._floor else None
        if since < recent.complete_from:
            return None
        found: list[Receipt] = []
        for receipt in reversed(recent.receipts.values()):
            if receipt.stream_id <= since:
                break
            if receipt.stream_id <= upto:
                found.append(receipt)
        found.reverse()
        return found
