"""Reading what a room has: messages, state, members; and the cheapest request of all."""

from bench.load.rows.base import Row, Scale
from bench.load.town import Person, Town


class Messages(Row):
    """Paging back through a room of a thousand messages, a hundred at a time."""

    name = "messages-100"
    unit = "page"

    def __init__(self, town: Town, scale: Scale) -> None:
        super().__init__(town, scale)
        self.messages = scale.pick(20, 1000)
        self.page = scale.pick(10, 100)
        self.times = scale.pick(1, 3)

    async def set_up(self) -> None:
        self.people = await self.town.people("writer", 10)
        self.room_id = await self.town.room("long", self.people, self.messages)

    async def run(self) -> int:
        pages = 0
        for _ in range(self.times):
            query = {"dir": "b", "limit": str(self.page)}
            seen = 0
            while seen < self.messages:
                answer = await self.people[1].get("rooms", self.room_id, "messages", **query)
                assert answer["chunk"]
                seen += len(answer["chunk"])
                pages += 1
                query["from"] = answer["end"]
        return pages


class _InCrowd(Row):
    """Requests about a room of five hundred."""

    def __init__(self, town: Town, scale: Scale) -> None:
        super().__init__(town, scale)
        self.count = scale.pick(2, 20)

    async def set_up(self) -> None:
        self.people = await self.town.people("crowd", self.scale.pick(12, 500))
        self.room_id = await self.town.room("crowd", self.people)

    async def _get(self, *parts: str) -> int:
        for number in range(self.count):
            person: Person = self.people[number % len(self.people)]
            await person.get("rooms", self.room_id, *parts)
        return self.count


class State(_InCrowd):
    """The whole state of a room of five hundred."""

    name = "state-500"
    unit = "answer"

    async def run(self) -> int:
        return await self._get("state")


class Members(_InCrowd):
    """The members of a room of five hundred, as events."""

    name = "members-500"
    unit = "answer"

    async def run(self) -> int:
        return await self._get("members")


class JoinedMembers(_InCrowd):
    """The members of a room of five hundred, as a list."""

    name = "joined-members-500"
    unit = "answer"

    async def run(self) -> int:
        return await self._get("joined_members")


class WhoAmI(Row):
    """What every request costs at least."""

    name = "whoami"
    unit = "request"

    def __init__(self, town: Town, scale: Scale) -> None:
        super().__init__(town, scale)
        self.count = scale.pick(5, 300)

    async def set_up(self) -> None:
        [self.person] = await self.town.people("hermit", 1)

    async def run(self) -> int:
        for _ in range(self.count):
            await self.person.get("account", "whoami")
        return self.count
