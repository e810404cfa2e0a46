"""Rooms by the moment of their last change, for what is announced by room and kept in memory."""

from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import TypeVar

T = TypeVar("T")

# About 150 bytes each: 15 MB when full.
_REMEMBERED = 100_000


class RecentRooms:
    """Which rooms have changed after a serial number; the longest unchanged are forgotten."""

    def __init__(self, remembered: int = _REMEMBERED) -> None:
        self._remembered = remembered
        # By serial, ascending: looking for what is new must cost what is new.
        self._serials: OrderedDict[int, int] = OrderedDict()

    def __len__(self) -> int:
        """How many rooms are remembered."""
        return len(self._serials)

    def note(self, room_nid: int, serial: int) -> None:
        """The room has changed; serials must ascend."""
        self._serials[room_nid] = serial
        self._serials.move_to_end(room_nid)
        if len(self._serials) > self._remembered:
            self._serials.popitem(last=False)

    def list_since(self, room_nids: Collection[int], since: int) -> list[int]:
        """Those of the rooms that have changed after `since`."""
        return list_newer(self._serials, int, room_nids, since)


def list_newer(
    by_change: OrderedDict[int, T], newest: Callable[[T], int], room_nids: Collection[int], since: int
) -> list[int]:
    """Those of the rooms whose `newest` is above `since`; `by_change` has the longest unchanged first.

    Costs what is new, or what the user has where the server is busier than the user.
    """
    found: list[int] = []
    for looked_at, (room_nid, room) in enumerate(reversed(by_change.items())):
        if newest(room) <= since:
            return found
        if looked_at > len(room_nids):
            return [nid for nid in room_nids if nid in by_change and newest(by_change[nid]) > since]
        if room_nid in room_nids:
            found.append(room_nid)
    return found
