"""Messages into rooms."""

import asyncio

from bench.load.rows.base import Row, Scale
from bench.load.town import Person, Town


class SendSequential(Row):
    """One person sends one message after the other into a room of ten."""

    name = "send-sequential"
    unit = "message"

    def __init__(self, town: Town, scale: Scale) -> None:
        super().__init__(town, scale)
        self.count = scale.pick(5, 100)

    async def set_up(self) -> None:
        people = await self.town.people("writer", 10)
        self.sender = people[0]
        self.room_id = await self.town.room("sequential", people)

    async def run(self) -> int:
        for number in range(self.count):
            await self.sender.send(self.room_id, f"message {number}, of an ordinary length")
        return self.count


class SendInCrowd(SendSequential):
    """The same in a room of five hundred local members, each of whom has push rules."""

    name = "send-sequential-500"

    async def set_up(self) -> None:
        people = await self.town.people("crowd", self.scale.pick(12, 500))
        self.sender = people[1]
        self.room_id = await self.town.room("crowd", people)


class SendAtOnce(Row):
    """Twenty people send at the same time into one room, each one message after the other."""

    name = "send-20-one-room"
    unit = "message"

    def __init__(self, town: Town, scale: Scale) -> None:
        super().__init__(town, scale)
        self.senders = scale.pick(4, 20)
        self.each = scale.pick(2, 15)
        self.places: list[tuple[Person, str]] = []

    async def set_up(self) -> None:
        people = await self.town.people("writer", self.senders)
        room_id = await self.town.room("busy", people)
        self.places = [(person, room_id) for person in people]

    async def run(self) -> int:
        await asyncio.gather(*(self._send(person, room_id) for person, room_id in self.places))
        return self.senders * self.each

    async def _send(self, person: Person, room_id: str) -> None:
        for number in range(self.each):
            await person.send(room_id, f"message {number}, of an ordinary length")


class SendAtOnceApart(SendAtOnce):
    """Twenty people send at the same time into twenty rooms of five members."""

    name = "send-20-rooms"

    async def set_up(self) -> None:
        people = await self.town.people("writer", self.senders)
        for index, person in enumerate(people):
            others = [people[(index + distance) % len(people)] for distance in range(1, 5)]
            members = list(dict.fromkeys([person, *others]))
            self.places.append((person, await self.town.room(f"apart {index}", members)))
