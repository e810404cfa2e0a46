"""What a sync tells of a room beside its events: who types, who has read what, and how much is unread.

Spec: client-server-api GET /sync, JoinedRoom: ephemeral, unread_notifications, unread_thread_notifications.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from hs.matrix.filters import SyncFilter
from hs.matrix.tokens import StreamToken
from hs.storage.rooms import RoomStore
from hs.sync.receipts import Receipts
from hs.sync.typing import Typing
from hs.sync.unread import RoomUnread, UnreadCounts

_NOTHING_UNREAD = b'"unread_notifications":{"highlight_count":0,"notification_count":0}'


@dataclass(frozen=True, slots=True)
class Extras:
    """Ephemeral events, and the members of the room's JSON object that count what is unread."""

    ephemeral: Sequence[bytes]
    unread: bytes
    # The user has read something: the counts may be other ones, whatever else there is.
    has_read: bool = False

    @property
    def is_news(self) -> bool:
        """Whether these alone are worth telling."""
        return bool(self.ephemeral) or self.has_read

    def render(self) -> bytes:
        """All of it as members of a JSON object."""
        return b'"ephemeral":{"events":[%b]},%b' % (b",".join(self.ephemeral), self.unread)


class RoomExtras:
    """Reads extras, for many rooms at once."""

    def __init__(self, rooms: RoomStore, typing: Typing, receipts: Receipts, unread: UnreadCounts) -> None:
        self._rooms = rooms
        self._typing = typing
        self._receipts = receipts
        self._unread = unread

    async def list_rooms_since(
        self, user_id: str, room_nids: Collection[int], since: StreamToken, now: StreamToken
    ) -> set[int]:
        """Those of the rooms of which there is something after `since`."""
        found: set[int] = set()
        if since.typing < now.typing:
            found.update(self._typing.list_rooms_since(room_nids, since.typing))
        if since.receipts < now.receipts:
            found.update(
                await self._receipts.list_rooms_since(user_id, room_nids, since.receipts, now.receipts)
            )
        return found

    async def read(
        self,
        user_id: str,
        room_nids: Collection[int],
        since: StreamToken | None,
        now: StreamToken,
        wanted: SyncFilter,
    ) -> dict[int, Extras]:
        """The extras of each of the rooms: what is new since the token, or all there is."""
        shown = await self._list_shown(room_nids, wanted)
        typing = self._typing_since(shown, since, now) if wanted.ephemeral.accepts_type("m.typing") else {}
        receipts: Mapping[int, bytes] = {}
        if since is None or since.receipts < now.receipts:
            receipts = await self._receipts.list_events(
                user_id, room_nids, None if since is None else since.receipts, now.receipts
            )
        counts = await self._unread.get_many(user_id, room_nids)
        by_thread = wanted.definition.room.timeline.unread_thread_notifications
        shows_receipts = wanted.ephemeral.accepts_type("m.receipt")
        own = msgspec.json.encode(user_id)
        found: dict[int, Extras] = {}
        for nid in room_nids:
            receipt = receipts.get(nid)
            events = [typing[nid]] if nid in typing else []
            is_shown = shows_receipts and nid in shown
            if receipt is not None and is_shown:
                events.append(receipt)
            has_read = receipt is not None and not is_shown and own in receipt
            found[nid] = Extras(events, render_unread(counts.get(nid), by_thread), has_read)
        return found

    async def _list_shown(self, room_nids: Collection[int], wanted: SyncFilter) -> set[int]:
        """Those of the rooms whose ephemeral events the filter lets through."""
        of = wanted.definition.room.ephemeral
        if of.rooms is None and not of.not_rooms:
            return set(room_nids)
        infos = await self._rooms.list_by_nids(list(room_nids))
        return {nid for nid, info in infos.items() if wanted.ephemeral.accepts_room(info.room_id)}

    def _typing_since(
        self, room_nids: Collection[int], since: StreamToken | None, now: StreamToken
    ) -> dict[int, bytes]:
        if since is not None:
            if since.typing >= now.typing:
                return {}
            if self._typing.is_forgotten(since.typing):
                # The client may show typists of before a restart, who stop without our noticing. Rooms that
                # are told anyway say so; all others would make the first sync after a restart a long one.
                return {nid: self._typing.render(nid) for nid in room_nids}
            changed = self._typing.list_rooms_since(room_nids, since.typing)
        else:
            changed = [nid for nid in room_nids if self._typing.list_users(nid)]
        return {nid: self._typing.render(nid) for nid in changed}


def render_unread(unread: RoomUnread | None, by_thread: bool) -> bytes:
    """The counts as members of a JSON object: of threads apart where the client asked for it, else together."""
    if unread is None:
        return _NOTHING_UNREAD
    notify, highlight = (unread.notify, unread.highlight) if by_thread else unread.total
    if not notify and not unread.threads:
        return _NOTHING_UNREAD
    rendered = b'"unread_notifications":' + _counts(notify, highlight)
    if by_thread and unread.threads:
        threads = [
            msgspec.json.encode(root) + b":" + _counts(*count) for root, count in unread.threads.items()
        ]
        rendered += b',"unread_thread_notifications":{%b}' % b",".join(threads)
    return rendered


def _counts(notify: int, highlight: int) -> bytes:
    return b'{"highlight_count":%d,"notification_count":%d}' % (highlight, notify)
