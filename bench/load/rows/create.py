"""New rooms."""

from typing import Any, ClassVar

from bench.load.rows.base import Row, Scale
from bench.load.town import Town


class CreatePrivate(Row):
    """A room with a name, as clients make them for a group."""

    name = "create-room"
    unit = "room"
    options: ClassVar[dict[str, Any]] = {"preset": "private_chat", "name": "A room of our own"}

    def __init__(self, town: Town, scale: Scale) -> None:
        super().__init__(town, scale)
        self.count = scale.pick(2, 20)

    async def set_up(self) -> None:
        # Not those of other rows: what they have to sync would grow.
        [self.person, self.other] = await self.town.people("founder", 2)

    async def run(self) -> int:
        for _ in range(self.count):
            await self.person.create_room(**self.options)
        return self.count


class CreateDirect(CreatePrivate):
    """A direct chat: encrypted, with one person invited."""

    name = "create-direct-chat"

    async def run(self) -> int:
        encryption = {
            "type": "m.room.encryption",
            "state_key": "",
            "content": {"algorithm": "m.megolm.v1.aes-sha2"},
        }
        for _ in range(self.count):
            await self.person.create_room(
                preset="trusted_private_chat",
                is_direct=True,
                invite=[self.other.user_id],
                initial_state=[encryption],
            )
        return self.count
