"""Messages that came before what allows them are judged again.

A message is soft-failed where the room's state of the moment does not allow it. Where that was because its sender's
join did not count yet, and the join comes to count, it was not the message's fault: it is accepted then, as news.

Spec: server-server-api "Soft failure" ("may later be accepted").
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from hs.matrix.ids import server_of
from hs.rooms.arrivals import Arrival
from hs.rooms.drafts import Committed
from hs.rooms.writer import RoomWriter
from hs.storage.arrivals import ArrivalStore
from hs.storage.rooms import RoomInfo

logger = logging.getLogger(__name__)

# Of the users of one commit, the newest.
_MAX_MESSAGES: Final = 100
# More joins come into a room at once only where we come into it ourselves, and nothing was refused before that.
_MAX_JOINS: Final = 1000
# Rooms at once; others wait.
_MAX_RUNNING: Final = 4


class SecondLooks:
    """Follows commits: `on_commit` is to be told of each."""

    def __init__(self, writer: RoomWriter, store: ArrivalStore, server_name: str) -> None:
        self._writer = writer
        self._store = store
        self._server_name = server_name
        self._slots = asyncio.Semaphore(_MAX_RUNNING)
        self._tasks: set[asyncio.Task[None]] = set()

    def on_commit(self, committed: Committed) -> None:
        """Look at the messages of those who are in the room now; ours are judged when they are sent."""
        joined = [
            change.user_id
            for change in committed.membership_changes
            if change.membership == "join" and server_of(change.user_id) != self._server_name
        ]
        if joined and len(joined) <= _MAX_JOINS:
            task = asyncio.create_task(self._look(committed.room, joined), name="second look")
            self._tasks.add(task)
            task.add_done_callback(self._end)

    async def close(self) -> None:
        """Wait for the looks that have begun; they ask nobody but the database."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _look(self, room: RoomInfo, users: Sequence[str]) -> None:
        async with self._slots:
            refused = await self._store.list_soft_failed(room, users, _MAX_MESSAGES)
            if refused:
                await self._writer.receive(room, [Arrival(event, is_second_look=True) for event in refused])

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("soft-failed messages cannot be judged again", exc_info=error)
