"""Account data in a sync. Spec: client-server-api module "Client Config", GET /sync."""

from collections.abc import Sequence

import msgspec

from hs.matrix.tokens import StreamToken
from hs.storage.user_data import AccountDataEvent, AccountDataStore
from hs.sync.sync_request import SyncRequest


class AccountDataEvents:
    """Reads account data as JSON events."""

    def __init__(self, store: AccountDataStore) -> None:
        self._store = store

    async def since(
        self, request: SyncRequest, now: StreamToken
    ) -> tuple[dict[str, list[bytes]], list[bytes]]:
        """What the client lacks: by room id, and that of the whole account."""
        since = None if request.since is None or request.full_state else request.since.account_data
        if since is not None and since >= now.account_data:
            return {}, []
        user_id = request.viewer.user_id
        if since is None:
            changes = await self._store.list_account_data(user_id)
        else:
            changes = await self._store.list_account_data_since(user_id, since, now.account_data)
        by_room = _render(request, changes)
        return by_room, by_room.pop("", [])

    async def of_rooms(self, request: SyncRequest, room_ids: Sequence[str]) -> dict[str, list[bytes]]:
        """All there is of these rooms."""
        return _render(request, await self._store.list_room_account_data(request.viewer.user_id, room_ids))


def _render(request: SyncRequest, changes: Sequence[AccountDataEvent]) -> dict[str, list[bytes]]:
    by_room: dict[str, list[bytes]] = {}
    for change in changes:
        matcher = request.wanted.room_account_data if change.room_id else request.wanted.account_data
        if change.room_id and not matcher.accepts_room(change.room_id):
            continue
        if matcher.accepts_type(change.type):
            event = b'{"content":%b,"type":%b}' % (change.content_json, msgspec.json.encode(change.type))
            by_room.setdefault(change.room_id, []).append(event)
    return by_room
