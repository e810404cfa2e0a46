"""Which members a lazily loading client has been told of already.

Spec: client-server-api "Lazy-loading room members". Remembered in memory only: after a restart, or when
a device falls out, members are sent once more, which the spec allows.
"""

from dataclasses import dataclass

from cachetools import LRUCache

from hs.sync.client_events import Viewer

# About 150 bytes each.
_MEMBERS_A_ROOM = 200
_ROOMS = 20_000


@dataclass(frozen=True, slots=True)
class _Told:
    """A member event that was sent with the answer whose token is `at`."""

    event_nid: int
    at: int


class LazyMembers:
    """Member events sent to each device, by room."""

    def __init__(self) -> None:
        self._told: LRUCache[tuple[Viewer, int], dict[str, _Told]] = LRUCache(_ROOMS)

    def forget(self, viewer: Viewer, room_nid: int) -> None:
        """The device starts over in this room."""
        self._told.pop((viewer, room_nid), None)

    def is_told(self, viewer: Viewer, room_nid: int, member: str, event_nid: int, since: int) -> bool:
        """Whether the device has this member event.

        It has what came with an answer whose token it uses, or an older one: other answers may be lost.
        """
        told = self._told.get((viewer, room_nid), {}).get(member)
        return told is not None and told.event_nid == event_nid and told.at <= since

    def tell(self, viewer: Viewer, room_nid: int, member: str, event_nid: int, at: int) -> None:
        """The device is being told of this member event, with an answer whose token is `at`."""
        told = self._told.get((viewer, room_nid))
        if told is None:
            told = self._told[viewer, room_nid] = {}
        known = told.get(member)
        if known is not None and known.event_nid == event_nid and known.at <= at:
            return
        if len(told) >= _MEMBERS_A_ROOM and member not in told:
            told.pop(next(iter(told)))
        told[member] = _Told(event_nid, at)
