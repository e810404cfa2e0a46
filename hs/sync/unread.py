"""How much a user has not read: notification counts of rooms and of the threads in them.

Spec: client-server-api module "Push Notifications", "Receiving notifications"; module "Receipts".
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RoomUnread:
    """Counts of the main timeline, and (notify, highlight) of each thread that has any, by the id of its root."""

    notify: int = 0
    highlight: int = 0
    threads: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def total(self) -> tuple[int, int]:
        """(notify, highlight) of the whole room, for clients that do not ask for threads."""
        return (
            self.notify + sum(notify for notify, _ in self.threads.values()),
            self.highlight + sum(highlight for _, highlight in self.threads.values()),
        )


NOTHING_UNREAD = RoomUnread()


class UnreadCounts:
    """Counts for users in rooms they are joined to; as of now, which may be a little after a sync's token."""

    async def get_many(self, user_id: str, room_nids: Collection[int]) -> dict[int, RoomUnread]:
        """The counts of each of the rooms."""
        return dict.fromkeys(room_nids, NOTHING_UNREAD)
