"""What waits for one server, cut into transactions. Pure."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from hs.outbound.transactions import (
    MAX_BYTES,
    MAX_EDUS,
    MAX_PDUS,
    Pdu,
    Transaction,
    build_transaction,
    encode_edu,
)
from hs.storage.outbound_edus import StoredEdu

# Events that wait for a server; one that is slower than that is sent the newest of each room only. All of them
# are shared with other servers' queues: an entry is a pointer.
MAX_WAITING: Final = 500
# Rooms times typists, and users with presence; and receipts. What is oldest is dropped.
MAX_WAITING_EDUS: Final = 500
# Users of one m.presence, readers of one m.receipt.
_MAX_USERS: Final = 100

# (room_id, user_id, thread_id)
ReceiptKey = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class ReceiptEntry:
    """How far a user has read; `thread_id` is "" for all threads."""

    room_id: str
    user_id: str
    thread_id: str
    event_id: str
    ts: int

    @property
    def key(self) -> ReceiptKey:
        """What it replaces earlier ones of."""
        return self.room_id, self.user_id, self.thread_id


@dataclass(slots=True)
class WaitingEdus:
    """Ephemeral events for one server: what is newer replaces what is older."""

    # By (room_id, user_id): m.typing, encoded.
    typing: dict[tuple[str, str], bytes] = field(default_factory=dict)
    # By user: an entry of m.presence.
    presence: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    receipts: dict[ReceiptKey, ReceiptEntry] = field(default_factory=dict)

    def __len__(self) -> int:
        """How much waits."""
        return len(self.typing) + len(self.presence) + len(self.receipts)

    def put_typing(self, room_id: str, user_id: str, edu: bytes) -> None:
        """A user is typing or not."""
        _put(self.typing, (room_id, user_id), edu)

    def put_presence(self, user_id: str, entry: Mapping[str, Any]) -> None:
        """What a user is."""
        _put(self.presence, user_id, entry)

    def put_receipts(self, receipts: Iterable[ReceiptEntry]) -> None:
        """How far users have read."""
        for receipt in receipts:
            _put(self.receipts, receipt.key, receipt)

    def take(self, limit: int = MAX_EDUS) -> list[bytes]:
        """At most so many EDUs, which wait no longer."""
        edus: list[bytes] = []
        while self.typing and len(edus) < limit:
            edus.append(self.typing.pop(next(iter(self.typing))))
        while self.presence and len(edus) < limit:
            users = [self.presence.pop(user_id) for user_id in list(self.presence)[:_MAX_USERS]]
            edus.append(encode_edu("m.presence", {"push": users}))
        while self.receipts and len(edus) < limit:
            edus.append(self._take_receipts())
        return edus

    def _take_receipts(self) -> bytes:
        """One m.receipt: of each user in each room one entry, for one thread."""
        content: dict[str, dict[str, dict[str, Any]]] = {}
        for key, receipt in list(self.receipts.items())[: 2 * _MAX_USERS]:
            users = content.setdefault(receipt.room_id, {}).setdefault("m.read", {})
            if receipt.user_id in users:
                continue
            data: dict[str, Any] = {"ts": receipt.ts}
            if receipt.thread_id:
                data["thread_id"] = receipt.thread_id
            users[receipt.user_id] = {"data": data, "event_ids": [receipt.event_id]}
            del self.receipts[key]
        return encode_edu("m.receipt", content)


@dataclass(slots=True)
class ServerQueue:
    """What waits for one server, and how its last transaction went."""

    server_name: str
    pdus: deque[Pdu] = field(default_factory=deque)
    edus: WaitingEdus = field(default_factory=WaitingEdus)
    # Under way, or to be sent again as it is.
    transaction: Transaction | None = None
    # In a row.
    failures: int = 0
    # How often transactions were made half as long.
    halvings: int = 0
    # It lacks more than what waits here.
    is_catching_up: bool = False
    # Events were dropped since it began to catch up.
    has_dropped: bool = False
    # In line or under way, or waiting until it may be asked again.
    is_placed: bool = False
    # Since when, in seconds, the event that waits longest is here.
    waiting_since: float = 0.0

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits here."""
        return not (self.pdus or self.transaction or self.is_catching_up or self.edus)

    @property
    def oldest(self) -> int | None:
        """The stream ordering of the first event that the server has not confirmed; None where there is none."""
        if self.transaction is not None and self.transaction.pdus:
            return self.transaction.pdus[0].stream_ordering
        return self.pdus[0].stream_ordering if self.pdus else None

    def add(self, pdu: Pdu, now_s: float) -> bool:
        """Have an event wait; False where there is no room for it."""
        if len(self.pdus) >= MAX_WAITING:
            return False
        if self.oldest is None:
            self.waiting_since = now_s
        self.pdus.append(pdu)
        return True

    def take(
        self,
        origin: bytes,
        txn_id: str,
        now_ms: int,
        stored: Sequence[StoredEdu] = (),
        max_pdus: int = MAX_PDUS,
    ) -> Transaction | None:
        """The next transaction of what waits, and of `stored`, to be kept until it is confirmed; None for nothing."""
        if self.transaction is None and (self.pdus or self.edus or stored):
            pdus: list[Pdu] = []
            size = 0
            while (
                self.pdus and len(pdus) < max_pdus and (not pdus or size + len(self.pdus[0].pdu) <= MAX_BYTES)
            ):
                pdus.append(self.pdus.popleft())
                size += len(pdus[-1].pdu)
            edus = self.edus.take(MAX_EDUS - len(stored))
            self.transaction = build_transaction(origin, txn_id, now_ms, pdus, edus, stored)
        return self.transaction

    def confirm(self, now_s: float) -> None:
        """The server has the transaction."""
        self.transaction = None
        self.failures = 0
        self.waiting_since = now_s

    def drop(self) -> list[Pdu]:
        """Forget all that waits; the events."""
        dropped = [*(self.transaction.pdus if self.transaction else ()), *self.pdus]
        self.transaction = None
        self.pdus.clear()
        self.edus = WaitingEdus()
        return dropped


def _put(waiting: dict[Any, Any], key: Any, value: Any) -> None:
    """The newest goes to the end; the oldest is dropped where there are too many."""
    waiting.pop(key, None)
    waiting[key] = value
    if len(waiting) > MAX_WAITING_EDUS:
        del waiting[next(iter(waiting))]
