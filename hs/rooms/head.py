"""A room's head in memory: what the next event builds on. Immutable; a commit makes the next one."""

from dataclasses import dataclass

from cachetools import LRUCache

from hs._fast.state_tree import EMPTY, Node
from hs.rooms.state import RoomStates
from hs.storage.room_heads import HeadStore
from hs.storage.rooms import RoomInfo

# Heads are small (their trees are in the node cache); rooms that were busy lately stay.
_CACHED_HEADS = 10_000


@dataclass(frozen=True, slots=True)
class Extremity:
    """A forward extremity and the state after it."""

    event_nid: int
    event_id: str
    depth: int
    root: Node


@dataclass(frozen=True, slots=True)
class RoomHead:
    """Forward extremities, current state and the next free key number of a room."""

    room: RoomInfo
    extremities: tuple[Extremity, ...]
    root: Node
    next_key_ix: int


def new_head(room: RoomInfo) -> RoomHead:
    """The head of a room without events."""
    return RoomHead(room, (), EMPTY, 0)


class RoomHeads:
    """Heads of the rooms in use; read and replaced only by who holds the room's lane."""

    def __init__(self, store: HeadStore, states: RoomStates) -> None:
        self._store = store
        self._states = states
        self._cache: LRUCache[int, RoomHead] = LRUCache(_CACHED_HEADS)

    async def get(self, room: RoomInfo) -> RoomHead:
        """The room's head as last committed."""
        head = self._cache.get(room.room_nid)
        if head is None:
            row = await self._store.load_head(room.room_nid)
            extremities = tuple(
                Extremity(e.event_nid, e.event_id, e.depth, self._states.root(e.state_id))
                for e in row.extremities
            )
            head = RoomHead(room, extremities, self._states.root(row.state_id), row.next_key_ix)
            self._cache[room.room_nid] = head
        return head

    def set(self, head: RoomHead) -> None:
        """Go on from here: the commit that made this head has succeeded."""
        self._cache[head.room.room_nid] = head

    def forget(self, room_nid: int) -> None:
        """Read the head anew next time: what became of the last commit is not known."""
        self._cache.pop(room_nid, None)
