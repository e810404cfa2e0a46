"""Messages that came before what allows them are judged again.

A message is soft-failed where the room's state of the moment does not allow it. Where that was because its sender's
join did not count yet, and the join comes to count, it was not the message's fault: it is accepted then, as news.

    second_looks         a row for each such join, written in its own commit: a crash loses none
    _look                judges the messages in the lane, then deletes the row; twice is as good as once

Spec: server-server-api "Soft failure" ("may later be accepted").
"""

import asyncio
from typing import Final

from hs.matrix.ids import server_of
from hs.rooms.arrivals import Arrival
from hs.rooms.drafts import Committed
from hs.rooms.worker import Worker
from hs.rooms.writer import RoomWriter
from hs.storage.rooms import RoomStore
from hs.storage.second_looks import SecondLookStore

# Joins that are looked at together, and the newest messages of their users.
_MAX_JOINS: Final = 100
_MAX_MESSAGES: Final = 100
# Rooms at once; others wait.
_MAX_ROOMS: Final = 4


class SecondLooks:
    """Follows commits: `on_commit` is to be told of each, and `resume` called once after a start."""

    def __init__(
        self, writer: RoomWriter, rooms: RoomStore, store: SecondLookStore, server_name: str
    ) -> None:
        self._writer = writer
        self._rooms = rooms
        self._store = store
        self._server_name = server_name
        self._worker = Worker("second looks", self._look_everywhere)

    def on_commit(self, committed: Committed) -> None:
        """Look at the messages of those who are in the room now; ours are judged when they are sent."""
        if committed.is_uncertain or any(
            change.membership == "join" and server_of(change.user_id) != self._server_name
            for change in committed.membership_changes
        ):
            self._worker.hurry()

    def resume(self) -> None:
        """Go on with what was to be looked at when the server ended."""
        self._worker.hurry()

    async def settle(self) -> None:
        """Return when nothing is looked at."""
        await self._worker.settle()

    async def close(self) -> None:
        """Wait for the looks that have begun; they ask nobody but the database."""
        await self._worker.close()

    async def _look_everywhere(self) -> None:
        failures: list[BaseException] = []
        last = 0
        while room_nids := await self._store.list_room_nids(last, _MAX_ROOMS):
            # One room that cannot be looked at does not hold up the others.
            done = await asyncio.gather(*(self._look(nid) for nid in room_nids), return_exceptions=True)
            failures += [error for error in done if error is not None]
            last = room_nids[-1]
        if failures:
            raise failures[0]

    async def _look(self, room_nid: int) -> None:
        room = await self._rooms.by_nid(room_nid)
        while looks := await self._store.list_due(room_nid, _MAX_JOINS):
            users = list({look.user_id for look in looks})
            refused = await self._store.list_soft_failed(room, users, _MAX_MESSAGES)
            if refused:
                await self._writer.receive(room, [Arrival(event, is_second_look=True) for event in refused])
            await self._store.delete(room_nid, looks)
