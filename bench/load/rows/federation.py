"""Rooms of another server."""

import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import ClassVar

from bench.load.connection import BadAnswer, Connection
from bench.load.remote import FarRoom, Remote, deliver
from bench.load.rows.base import Row, Scale
from bench.load.town import Person, Town

_AHEAD = 50
# Rarely enough that asking costs next to nothing.
_POLL_S = 0.2
_POLLS = 1000


class FarRow(Row):
    """A row with other servers, scripted, that the server under test federates with."""

    # How many there are on the other side.
    servers: ClassVar[int] = 1

    async def set_up(self) -> None:
        self._stack = AsyncExitStack()
        folder = Path(tempfile.mkdtemp(prefix="hs-load-far-"))
        self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
        count = self.scale.pick(min(self.servers, 3), self.servers)
        self.remote = await self._stack.enter_async_context(Remote.start(folder, count))
        await self.town.restart(self.remote.settings(self.town.server))
        [self.person] = await self.town.people("far", 1)

    async def tear_down(self) -> None:
        await self.town.restart()
        await self._stack.aclose()

    async def join(self, person: Person, room: FarRoom) -> None:
        """Join a room of the other server."""
        where = (
            f"/_matrix/client/v3/join/{room.room_id}?server_name={self.remote.name}&via={self.remote.name}"
        )
        await person.ask("POST", where, {})


class JoinFar(FarRow):
    """Somebody joins a room of two thousand on another server, which tells all of it at once."""

    name = "join-far-2000"
    unit = "join"

    def __init__(self, town: Town, scale: Scale) -> None:
        super().__init__(town, scale)
        self.members = scale.pick(8, 2000)

    async def prepare(self) -> None:
        self.room = self.remote.make_room(self.members)
        self.town.server.tree.forget_peak()
        self.before_mb = self.town.server.tree.peak_mb()

    async def run(self) -> int:
        await self.join(self.person, self.room)
        return 1

    async def finish(self) -> None:
        peak_mb = self.town.server.tree.peak_mb()
        print(f"{self.town.server.name}: {self.before_mb:.0f} MB, at most {peak_mb:.0f} MB", file=sys.stderr)
        # A server may let somebody in before it has taken in everybody else.
        for _ in range(_POLLS):
            members = await self.person.get("rooms", self.room.room_id, "joined_members")
            if len(members["joined"]) == self.members + 1:
                break
            await asyncio.sleep(_POLL_S)
        else:
            raise AssertionError("members are missing")
        await self.person.post("rooms", self.room.room_id, "leave", body={})


class InboundOne(FarRow):
    """Messages of another server in a room of two thousand, one in each transaction."""

    name = "inbound-1"
    unit = "event"
    per_transaction: ClassVar[int] = 1

    def __init__(self, town: Town, scale: Scale) -> None:
        super().__init__(town, scale)
        self.members = scale.pick(8, 2000)
        self.transactions = scale.pick(3, 50 if self.per_transaction == 1 else 4)

    async def set_up(self) -> None:
        await super().set_up()
        self.room = self.remote.make_room(self.members)
        await self.join(self.person, self.room)
        self.connection = await Connection.open(self.town.server.port)
        self._stack.callback(self.connection.close)

    async def prepare(self) -> None:
        port = self.town.server.port
        self.requests = []
        for _ in range(self.transactions):
            pdus = self.room.say(self.per_transaction)
            request = self.remote.sign_transaction(pdus, port)
            self.requests.append((request, self.room.last_id))

    async def run(self) -> int:
        for number, (request, last_id) in enumerate(self.requests, 1):
            await deliver(self.connection, request)
            # Synapse answers before it has taken them in, and throws away what is more than a hundred.
            if number * self.per_transaction % _AHEAD == 0 or number == self.transactions:
                await self._wait_for(last_id)
        return self.transactions * self.per_transaction

    async def _wait_for(self, event_id: str) -> None:
        for _ in range(_POLLS):
            if await self._has(event_id):
                return
            await asyncio.sleep(_POLL_S)
        raise AssertionError(f"{event_id} was not taken in")

    async def _has(self, event_id: str) -> bool:
        try:
            await self.person.get("rooms", self.room.room_id, "event", event_id)
        except BadAnswer:
            return False
        return True


class InboundMany(InboundOne):
    """Messages of another server in a room of two thousand, fifty in each transaction."""

    name = "inbound-50"
    per_transaction = 50


class FanOutFar(FarRow):
    """Messages in a room with people of five hundred servers, each of which has an address of its own."""

    name = "fan-out-500-servers"
    unit = "destination"
    servers = 500
    is_repeatable = True
    messages = 4

    async def set_up(self) -> None:
        await super().set_up()
        # The room's creator is one more.
        self.room = self.remote.make_room(len(self.remote.names) + 1)
        await self.join(self.person, self.room)
        self.remote.on_transaction = self._note
        self._marker = b""
        self._missing: set[str] = set()
        self._all_have_it = asyncio.Event()
        self._times_s: list[float] = []

    async def run(self) -> int:
        for number in range(self.messages):
            text = f"to all servers, number {number}"
            self._marker = text.encode()
            self._missing = set(self.remote.names)
            self._all_have_it.clear()
            begun_s = time.monotonic()
            await self.person.send(self.room.room_id, text)
            await asyncio.wait_for(self._all_have_it.wait(), 120)
            self._times_s.append(time.monotonic() - begun_s)
        return self.messages * len(self.remote.names)

    async def finish(self) -> None:
        median_s = statistics.median(self._times_s)
        print(f"{self.town.server.name}: {median_s:.2f} s until the last server has it", file=sys.stderr)
        self._times_s.clear()

    def _note(self, name: str, body: bytes) -> None:
        if self._marker and self._marker in body:
            self._missing.discard(name)
            if not self._missing:
                self._all_have_it.set()
