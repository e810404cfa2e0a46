"""Messages to people who wait for them."""

import asyncio

import msgspec

from bench.load.connection import Answer
from bench.load.rows.base import Row, Scale
from bench.load.town import Person, Town


class _Batch(msgspec.Struct):
    next_batch: str


def next_batch(answer: Answer) -> str:
    """The token of a sync answer; the rest is not decoded."""
    return msgspec.json.decode(answer.body, type=_Batch).next_batch


class FanOut(Row):
    """Messages to 400 people with open polls: until the last has each; the polls that follow count too."""

    name = "fan-out-400"
    unit = "delivery"
    is_repeatable = True
    in_room = 400

    def __init__(self, town: Town, scale: Scale) -> None:
        super().__init__(town, scale)
        self.messages = scale.pick(2, 5)
        self.count = scale.pick(5, self.in_room)
        self._polls: list[asyncio.Task[None]] = []
        self._marker = b""
        self._missing: set[str] = set()
        self._all_have_it = asyncio.Event()

    async def set_up(self) -> None:
        people = await self.town.people("crowd", self.count)
        self.people = people
        self.sender = people[0]
        self.room_id = await self.town.room(f"fan-out-{self.in_room}", people)

    async def prepare(self) -> None:
        tokens = [next_batch(await person.sync(timeout="0")) for person in self.people]
        self._polls = [
            asyncio.create_task(self._poll(person, token))
            for person, token in zip(self.people, tokens, strict=True)
        ]
        await asyncio.sleep(0.2)
        await self.town.server.tree.rest()

    async def run(self) -> int:
        for number in range(self.messages):
            text = f"to everybody, number {number}"
            self._missing = {person.user_id for person in self.people}
            self._all_have_it.clear()
            self._marker = text.encode()
            await self.sender.send(self.room_id, text)
            await asyncio.wait_for(self._all_have_it.wait(), 60)
        return self.messages * self.count

    async def finish(self) -> None:
        for poll in self._polls:
            poll.cancel()
        for result in await asyncio.gather(*self._polls, return_exceptions=True):
            assert isinstance(result, asyncio.CancelledError), result
        await self.town.server.tree.rest()

    async def _poll(self, person: Person, token: str) -> None:
        while True:
            answer = await person.sync(timeout="30000", since=token)
            token = next_batch(answer)
            if self._marker and self._marker in answer.body:
                self._missing.discard(person.user_id)
                if not self._missing:
                    self._all_have_it.set()


class FanOutSmall(FanOut):
    """The same for twenty people: rooms as most are."""

    name = "fan-out-20"
    in_room = 20

    def __init__(self, town: Town, scale: Scale) -> None:
        super().__init__(town, scale)
        self.messages = scale.pick(2, 30)
