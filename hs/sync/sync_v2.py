"""GET /sync: what a client lacks, room by room, waiting for it where there is nothing yet.

Spec: client-server-api "Syncing".
"""

import asyncio
from collections.abc import Callable, Sequence

from hs.matrix.tokens import StreamToken
from hs.sync.account_data import AccountDataEvents
from hs.sync.first_syncs import FirstSyncs
from hs.sync.invites import InviteSections
from hs.sync.news import Notifier
from hs.sync.presence import Presence
from hs.sync.sync_request import SyncRequest
from hs.sync.sync_rooms import SyncRooms
from hs.sync.user_rooms import UserRooms

# To-device messages and device lists come with encryption; clients expect the fields.
_REST_OF_SYNC = (
    b'"to_device":{"events":[]},"device_lists":{"changed":[],"left":[]},'
    b'"device_one_time_keys_count":{},"device_unused_fallback_key_types":[]'
)


class SyncV2:
    """Answers syncs."""

    def __init__(
        self,
        current_token: Callable[[], StreamToken],
        user_rooms: UserRooms,
        notifier: Notifier,
        rooms: SyncRooms,
        invites: InviteSections,
        account_data: AccountDataEvents,
        presence: Presence,
    ) -> None:
        self._current_token = current_token
        self._user_rooms = user_rooms
        self._notifier = notifier
        self._rooms = rooms
        self._invites = invites
        self._account_data = account_data
        self._presence = presence
        self._first = FirstSyncs()
        self._quiet: tuple[StreamToken | None, bytes] = None, b""

    async def close(self) -> None:
        """Give up the first syncs that still run."""
        await self._first.close()

    async def sync(self, request: SyncRequest) -> bytes:
        """The answer as JSON, at once or when there is something to tell, at the latest after the timeout."""
        viewer = request.viewer
        with self._presence.syncing(viewer.user_id, viewer.device_id, request.set_presence):
            if request.since is None:
                return await self._first.run(viewer, request.key, lambda: self._build_first(request))
            return await self._wait_for_news(request)

    async def _wait_for_news(self, request: SyncRequest) -> bytes:
        clock = asyncio.get_running_loop().time
        deadline = clock() + request.timeout_ms / 1000
        with self._notifier.listen(request.viewer.user_id) as waiter:
            while True:
                waiter.clear()
                body, has_news = await self._build(request)
                left = deadline - clock()
                if has_news or request.full_state or left <= 0:
                    return body
                await waiter.wait(left)

    async def _build_first(self, request: SyncRequest) -> bytes:
        return (await self._build(request))[0]

    async def _build(self, request: SyncRequest) -> tuple[bytes, bool]:
        known = await self._user_rooms.get(request.viewer.user_id)
        # Nothing is awaited between the token and the memberships that go with it.
        now = self._current_token()
        rows = await self._rooms.of_interest(request, known, now)
        room_data, global_data = await self._account_data.since(request, now)
        presence = await self._presence_events(request, now)
        if not (rows or room_data or global_data or presence):
            return self._nothing_new(now), False
        joined = await self._rooms.joined(request, rows, now, room_data)
        left = await self._rooms.left(request, rows)
        invited, knocked = await self._invites.build(request.viewer.user_id, rows, request.wanted)
        has_news = bool(joined or left or invited or knocked or global_data or presence)
        return _body(now, joined, invited, knocked, left, global_data, presence), has_news

    def _nothing_new(self, now: StreamToken) -> bytes:
        """The answer of all who have nothing to be told up to this token."""
        token, body = self._quiet
        if token != now:
            body = _body(now, [], [], [], [], [], [])
            self._quiet = now, body
        return body

    async def _presence_events(self, request: SyncRequest, now: StreamToken) -> list[bytes]:
        since, wanted = None if request.since is None else request.since.presence, request.wanted.presence
        if wanted.is_closed or not wanted.accepts_type("m.presence"):
            return []
        if since is not None and since >= now.presence:
            return []
        accepts_sender = None if wanted.is_open else wanted.accepts_sender
        return await self._presence.list_events(request.viewer.user_id, since, now.presence, accepts_sender)


def _body(
    now: StreamToken,
    joined: Sequence[bytes],
    invited: Sequence[bytes],
    knocked: Sequence[bytes],
    left: Sequence[bytes],
    account_data: Sequence[bytes],
    presence: Sequence[bytes],
) -> bytes:
    return (
        b'{"next_batch":"%b","rooms":{"join":{%b},"invite":{%b},"knock":{%b},"leave":{%b}},'
        b'"account_data":{"events":[%b]},"presence":{"events":[%b]},%b}'
    ) % (
        str(now).encode(),
        b",".join(joined),
        b",".join(invited),
        b",".join(knocked),
        b",".join(left),
        b",".join(account_data),
        b",".join(presence),
        _REST_OF_SYNC,
    )
