"""Profiles and logins."""

from typing import Any

from bench.load.rows.base import Row, Scale
from bench.load.town import PASSWORD, Town


class Profile(Row):
    """A new display name of somebody in fifty rooms of five; done once every room has it."""

    name = "profile-50-rooms"
    unit = "change"

    def __init__(self, town: Town, scale: Scale) -> None:
        super().__init__(town, scale)
        self.count = scale.pick(1, 3)
        self._number = 0

    async def set_up(self) -> None:
        [self.person] = await self.town.people("renamed", 1)
        others = await self.town.people("writer", 4)
        self.rooms = [
            await self.town.room(f"renamed {number}", [self.person, *others])
            for number in range(self.scale.pick(3, 50))
        ]

    async def run(self) -> int:
        for _ in range(self.count):
            self._number += 1
            name = f"name number {self._number}"
            await self.person.put("profile", self.person.user_id, "displayname", body={"displayname": name})
            # It may be done after the answer.
            await self.town.server.tree.rest()
        return self.count

    async def finish(self) -> None:
        for room_id in self.rooms:
            content = await self.person.get("rooms", room_id, "state", "m.room.member", self.person.user_id)
            assert content["displayname"] == f"name number {self._number}"


class Login(Row):
    """Logins with a password, each server with the cost of hashing it has by default."""

    name = "login"
    unit = "login"

    def __init__(self, town: Town, scale: Scale) -> None:
        super().__init__(town, scale)
        self.count = scale.pick(2, 8)

    async def set_up(self) -> None:
        settings: dict[str, Any] = {"bcrypt_rounds": 12} if self.town.server.name == "synapse" else {}
        await self.town.restart(settings)
        await self.town.newcomer("regular")

    async def run(self) -> int:
        user = {"type": "m.id.user", "user": "regular"}
        body = {"type": "m.login.password", "identifier": user, "password": PASSWORD}
        for _ in range(self.count):
            await self.town.visitor.post("login", body=body)
        return self.count

    async def tear_down(self) -> None:
        await self.town.restart()
