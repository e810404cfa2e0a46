"""People of this server join a public room."""

import asyncio

from bench.load.rows.base import Row, Scale
from bench.load.town import Person, Town


class JoinSequential(Row):
    """One after the other joins a new room."""

    name = "join-sequential"
    unit = "join"

    def __init__(self, town: Town, scale: Scale) -> None:
        super().__init__(town, scale)
        self.count = scale.pick(4, 50)
        self.people: list[Person] = []

    async def set_up(self) -> None:
        self.host, *self.people = await self.town.people("joiner", self.count + 1)

    async def prepare(self) -> None:
        self.room_id = await self.host.create_room(name="a room to join")

    async def run(self) -> int:
        for person in self.people:
            await person.join(self.room_id)
        return self.count

    async def finish(self) -> None:
        members = (await self.host.get("rooms", self.room_id, "joined_members"))["joined"]
        assert len(members) == self.count + 1


class JoinAtOnce(JoinSequential):
    """All of them join at the same time."""

    name = "join-at-once"

    async def run(self) -> int:
        await asyncio.gather(*(person.join(self.room_id) for person in self.people))
        return self.count


class JoinLarge(JoinSequential):
    """Some join a room that has five hundred members already, and have left it before the next round."""

    name = "join-room-of-500"

    def __init__(self, town: Town, scale: Scale) -> None:
        super().__init__(town, scale)
        self.count = scale.pick(3, 30)

    async def set_up(self) -> None:
        crowd = await self.town.people("crowd", self.scale.pick(12, 500))
        self.host, *self.people = await self.town.people("joiner", self.count + 1)
        self.room_id = await self.town.room("crowd", crowd)

    async def prepare(self) -> None:
        return

    async def finish(self) -> None:
        for person in self.people:
            await person.post("rooms", self.room_id, "leave", body={})
