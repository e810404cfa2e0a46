"""Which members a lazily loading client has been told of already.

Spec: client-server-api "Lazy-loading room members". Remembered in memory only: after a restart, or when
a device falls out, members are sent once more, which the spec allows.
"""

from cachetools import LRUCache

# About 100 bytes each.
_MEMBERS_A_ROOM = 100
_ROOMS = 20_000


class LazyMembers:
    """Member events sent to each device, by room."""

    def __init__(self) -> None:
        self._sent: LRUCache[tuple[str, str, int], LRUCache[str, int]] = LRUCache(_ROOMS)

    def forget(self, user_id: str, device_id: str, room_nid: int) -> None:
        """The device starts over in this room."""
        self._sent.pop((user_id, device_id, room_nid), None)

    def is_sent(self, user_id: str, device_id: str, room_nid: int, member: str, event_nid: int) -> bool:
        """Whether the device has this member event."""
        sent = self._sent.get((user_id, device_id, room_nid))
        return sent is not None and sent.get(member) == event_nid

    def note(self, user_id: str, device_id: str, room_nid: int, member: str, event_nid: int) -> None:
        """The device is being told of this member event."""
        key = (user_id, device_id, room_nid)
        sent = self._sent.get(key)
        if sent is None:
            sent = self._sent[key] = LRUCache(_MEMBERS_A_ROOM)
        sent[member] = event_nid
