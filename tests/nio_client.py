"""matrix-nio for tests: a client whose sync loop runs, and awaitable conditions on what it has seen."""

import asyncio
from collections.abc import Callable
from typing import Any

import nio

WAIT_S = 30


class NioClient:
    """One logged-in nio.AsyncClient that syncs in a task."""

    def __init__(self, client: nio.AsyncClient) -> None:
        self.client = client
        # (room_id, event) in the order of the timelines that /sync brought.
        self.seen: list[tuple[str, nio.Event]] = []
        # Rooms that a /sync has listed under "leave" since the last join; nio itself keeps them as they were.
        self.left: set[str] = set()
        self._news = asyncio.Condition()
        self._failed_sync: nio.SyncError | None = None
        self._syncing: asyncio.Task[None] | None = None
        client.add_event_callback(self._on_event, nio.Event)
        client.add_response_callback(self._on_sync, nio.SyncResponse)
        client.add_response_callback(self._on_failed_sync, nio.SyncError)

    @property
    def user_id(self) -> str:
        """Who is logged in."""
        return str(self.client.user_id)

    @classmethod
    async def register_and_start(cls, base_url: str, username: str, password: str) -> "NioClient":
        """Register, log in with the password and begin to sync."""
        config = nio.AsyncClientConfig(encryption_enabled=False, max_limit_exceeded=0, max_timeouts=0)
        guest = nio.AsyncClient(base_url, username, config=config)
        registered = await guest.register(username, password)
        await guest.close()
        assert isinstance(registered, nio.RegisterResponse), registered
        client = nio.AsyncClient(base_url, username, config=config)
        logged_in = await client.login(password)
        assert isinstance(logged_in, nio.LoginResponse), logged_in
        self = cls(client)
        self.start()
        await self.wait_until(lambda: client.next_batch, "the first sync")
        return self

    def start(self) -> None:
        """Begin to sync where the client's token says."""
        self._syncing = asyncio.create_task(self.client.sync_forever(timeout=30_000, full_state=False))

    async def close(self) -> None:
        """Stop syncing and disconnect."""
        if self._syncing is not None:
            self._syncing.cancel()
            await asyncio.gather(self._syncing, return_exceptions=True)
        await self.client.close()

    async def say(self, room_id: str, text: str, txn_id: str | None = None) -> str:
        """The event id of a message."""
        content = {"msgtype": "m.text", "body": text}
        sent = await self.client.room_send(room_id, "m.room.message", content, tx_id=txn_id)
        assert isinstance(sent, nio.RoomSendResponse), sent
        return str(sent.event_id)

    async def wait_for_text(self, room_id: str, sender: str, text: str) -> nio.RoomMessageText:
        """The message, once /sync has brought it."""

        def find() -> Any:
            return next(
                (
                    event
                    for where, event in self.seen
                    if where == room_id
                    and isinstance(event, nio.RoomMessageText)
                    and (event.sender, event.body) == (sender, text)
                ),
                None,
            )

        found: nio.RoomMessageText = await self.wait_until(find, f"{text!r} from {sender}")
        return found

    async def wait_for_invite(self, room_id: str) -> None:
        """Return once /sync has brought an invite to the room."""
        await self.wait_until(lambda: room_id in self.client.invited_rooms, f"an invite to {room_id}")

    async def wait_until(self, find: Callable[[], Any], what: str) -> Any:
        """What `find` gives once it is truthy; asked again after each sync and event."""
        assert self._syncing is not None
        try:
            async with asyncio.timeout(WAIT_S), self._news:
                while not (found := find()):
                    assert not self._syncing.done(), f"the sync loop ended: {self._syncing}"
                    assert self._failed_sync is None, f"a sync failed: {self._failed_sync}"
                    await self._news.wait()
                return found
        except TimeoutError:
            raise AssertionError(f"{self.user_id} waited in vain for {what}; has seen {self.seen}") from None

    async def _on_event(self, room: nio.MatrixRoom, event: nio.Event) -> None:
        self.seen.append((room.room_id, event))
        async with self._news:
            self._news.notify_all()

    async def _on_sync(self, response: nio.SyncResponse) -> None:
        self.left = (self.left | set(response.rooms.leave)) - set(response.rooms.join)
        async with self._news:
            self._news.notify_all()

    async def _on_failed_sync(self, failed: nio.SyncError) -> None:
        # nio itself would ask again for ever.
        self._failed_sync = failed
        async with self._news:
            self._news.notify_all()
