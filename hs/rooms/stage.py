"""The working copy of a room while a batch of events is prepared in its lane.

Nothing here is visible to others or written until the commit; all parts are immutable or append-only,
so taking a failed job's events back is cutting lists to their former length.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hs._fast.event_auth import AuthRecord
from hs._fast.state_tree import EMPTY, Node
from hs.matrix.event import Event
from hs.rooms.drafts import SentEvent, Transaction
from hs.rooms.head import Extremity, RoomHead
from hs.storage.room_heads import TransactionKey


@dataclass(slots=True)
class PlacedEvent:
    """An event with its place in the room's history."""

    event: Event
    event_nid: int
    prev_nids: tuple[int, ...]
    root: Node  # the state after it
    room_root: Node  # the room's current state once it is in
    auth: AuthRecord
    key_ix: int | None = None
    replaces_nid: int = 0
    transaction: Transaction | None = None
    redacts_nid: int = 0
    # The redaction that came before it.
    redacted_by_nid: int = 0
    # Bits of hs.storage.events.Flag, and the auth rule that set them.
    flags: int = 0
    rule: str | None = None
    # Its rows are there, as an outlier's or a soft-failed event's, and are written anew.
    was_here: bool = False
    # The state before it, where it was made elsewhere.
    before: Node = EMPTY
    # Ours to pass on, although another server's user has sent it.
    is_relayed: bool = False
    # Of one of our users, and the server that it came in through tells the others.
    is_told: bool = False
    # The room begins anew for us with it.
    is_beginning: bool = False
    # (event_nid, event_id) of previous events that we lack.
    missing_prevs: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Mark:
    """A point to which a stage can be taken back."""

    head: RoomHead
    placed: int
    keys: int
    transactions: int


class Stage:
    """A room's head with the events that the batch has added so far."""

    def __init__(self, head: RoomHead, done: dict[TransactionKey, SentEvent]) -> None:
        self.committed = head
        self.head = head
        self.placed: list[PlacedEvent] = []
        # Numbers given by this batch; those of the database, as far as looked up (None: it has none).
        self.new_keys: dict[tuple[str, str], int] = {}
        self.stored_keys: dict[tuple[str, str], int | None] = {}
        # Requests that were carried out before this batch, by (user, device, key).
        self._done = done
        self._staged: dict[TransactionKey, PlacedEvent] = {}
        self._by_nid: dict[int, PlacedEvent] = {}
        self._by_id: dict[str, PlacedEvent] = {}

    def find_done(self, key: TransactionKey) -> SentEvent | PlacedEvent | None:
        """What the same request led to earlier, in this batch or before."""
        return self._staged.get(key) or self._done.get(key)

    def find_staged(self, event_nid: int) -> PlacedEvent | None:
        """The batch's own event with this number."""
        return self._by_nid.get(event_nid)

    def find_staged_id(self, event_id: str) -> PlacedEvent | None:
        """The batch's own event with this id."""
        return self._by_id.get(event_id)

    def find_key_ix(self, key: tuple[str, str]) -> int | None:
        """The number of a (type, state_key) that was looked up, None where it never had one."""
        return self.new_keys.get(key, self.stored_keys.get(key))

    def list_auth_edges(self) -> list[tuple[int, Sequence[int]]]:
        """(event_nid, auth_nids) of the batch's own state events."""
        return [(p.event_nid, p.auth.auth_nids) for p in self.placed if p.event.is_state]

    def number_key(self, key: tuple[str, str]) -> int:
        """The number of a (type, state_key) that the database has none for."""
        if key not in self.new_keys:
            self.new_keys[key] = self.head.next_key_ix
            self.head = replace(self.head, next_key_ix=self.head.next_key_ix + 1)
        return self.new_keys[key]

    def place(self, placed: PlacedEvent) -> None:
        """Add an event that was judged; `advance` is to follow."""
        self.placed.append(placed)
        self._by_nid[placed.event_nid] = placed
        self._by_id[placed.event.event_id] = placed
        if placed.transaction is not None:
            sender = placed.event.sender
            key = TransactionKey(sender, placed.transaction.device_id, placed.transaction.key)
            self._staged[key] = placed

    def advance(self, extremities: Sequence[Extremity], root: Node) -> None:
        """The room's extremities and its current state with the last placed event in."""
        self.head = replace(self.head, extremities=tuple(extremities), root=root)

    def mark(self) -> Mark:
        """This point."""
        return Mark(self.head, len(self.placed), len(self.new_keys), len(self._staged))

    def take_back(self, mark: Mark) -> None:
        """Forget all that was added since the mark."""
        self.head = mark.head
        for placed in self.placed[mark.placed :]:
            del self._by_nid[placed.event_nid], self._by_id[placed.event.event_id]
        del self.placed[mark.placed :]
        # Dicts keep insertion order: what was added last goes first.
        while len(self.new_keys) > mark.keys:
            self.new_keys.popitem()
        while len(self._staged) > mark.transactions:
            self._staged.popitem()
