"""Receipts and typing notices."""

from bench.load.rows.base import Row, Scale
from bench.load.town import Town, path


class Receipts(Row):
    """Somebody reads a room of fifty, message by message."""

    name = "receipt"
    unit = "receipt"

    def __init__(self, town: Town, scale: Scale) -> None:
        super().__init__(town, scale)
        self.count = scale.pick(3, 60)
        self._round = 0

    async def set_up(self) -> None:
        self.people = await self.town.people("crowd", self.scale.pick(6, 50))
        self.room_id = await self.town.room("read", self.people)
        self.messages = [
            await self.people[0].send(self.room_id, f"to be read {number}") for number in range(self.count)
        ]

    async def run(self) -> int:
        # Somebody else each time: going back is no news.
        self._round += 1
        reader = self.people[self._round % len(self.people)]
        for event_id in self.messages:
            await reader.post("rooms", self.room_id, "receipt", "m.read", event_id, body={})
        return self.count


class Typing(Row):
    """People of a room of fifty start and stop typing."""

    name = "typing"
    unit = "notice"

    def __init__(self, town: Town, scale: Scale) -> None:
        super().__init__(town, scale)
        self.count = scale.pick(4, 100)

    async def set_up(self) -> None:
        self.people = await self.town.people("crowd", self.scale.pick(6, 50))
        self.room_id = await self.town.room("read", self.people)

    async def run(self) -> int:
        for number in range(self.count // 2):
            person = self.people[number % len(self.people)]
            where = path("rooms", self.room_id, "typing", person.user_id)
            await person.ask("PUT", where, {"typing": True, "timeout": 20_000})
            await person.ask("PUT", where, {"typing": False})
        return self.count
