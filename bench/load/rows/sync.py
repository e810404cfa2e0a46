"""Syncs of one person at a time, in few and in many rooms."""

import json
from typing import ClassVar

from bench.load.rows.base import Row, Scale
from bench.load.rows.fan_out import next_batch
from bench.load.town import PASSWORD, Person, Town

LAZY = json.dumps({"room": {"state": {"lazy_load_members": True}, "timeline": {"limit": 20}}})


async def make_busy_person(town: Town, scale: Scale) -> tuple[Person, list[str]]:
    """Somebody in 150 rooms: 145 of ten people and five of a hundred, each with twenty messages; with the rooms."""
    [busy] = await town.people("busy", 1)
    neighbours = await town.people("crowd", scale.pick(6, 200))
    rooms = []
    for number in range(scale.pick(4, 150)):
        size = scale.pick(2, 9) if number % 30 else scale.pick(4, 99)
        start = number * 7
        members = [neighbours[(start + index) % len(neighbours)] for index in range(size)]
        rooms.append(await town.room(f"neighbours {number}", [busy, *members], messages=scale.pick(2, 20)))
    return busy, rooms


class SyncIdle(Row):
    """Incremental syncs without anything new, timeout=0, of somebody in 150 rooms."""

    name = "sync-idle-150-rooms"
    unit = "sync"

    def __init__(self, town: Town, scale: Scale) -> None:
        super().__init__(town, scale)
        self.count = scale.pick(3, 200)

    async def set_up(self) -> None:
        self.person, _ = await make_busy_person(self.town, self.scale)
        self.token = next_batch(await self.person.sync(timeout="0"))

    async def run(self) -> int:
        for _ in range(self.count):
            self.token = next_batch(await self.person.sync(timeout="0", since=self.token))
        return self.count


class SyncIdleFew(SyncIdle):
    """The same for somebody in one room."""

    name = "sync-idle-1-room"

    async def set_up(self) -> None:
        [self.person] = people = await self.town.people("hermit", 1)
        await self.town.room("cave", people)
        self.token = next_batch(await self.person.sync(timeout="0"))


class SyncOneNew(SyncIdle):
    """Incremental syncs that bring one message each; sending it counts too."""

    name = "sync-one-message"

    def __init__(self, town: Town, scale: Scale) -> None:
        super().__init__(town, scale)
        self.count = scale.pick(3, 50)

    async def set_up(self) -> None:
        self.person, self.rooms = await make_busy_person(self.town, self.scale)
        self.token = next_batch(await self.person.sync(timeout="0"))

    async def run(self) -> int:
        for number in range(self.count):
            event_id = await self.person.send(self.rooms[number % len(self.rooms)], "news")
            # Synapse may answer the sender before its own readers see the event.
            seen = False
            while not seen:
                answer = await self.person.sync(timeout="1000", since=self.token)
                seen = event_id.encode() in answer.body
                self.token = next_batch(answer)
        return self.count


class SyncFirst(Row):
    """The first sync of a new device of somebody in 150 rooms; the server has what it needs in memory."""

    name = "sync-first-warm"
    unit = "sync"
    sync_filter: ClassVar[str] = ""

    async def set_up(self) -> None:
        self.person, self.rooms = await make_busy_person(self.town, self.scale)

    async def prepare(self) -> None:
        # A device of its own each time: a server may remember its answer to the same question.
        local = self.person.user_id[1:].partition(":")[0]
        body = {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": local},
            "password": PASSWORD,
        }
        answer = await self.town.visitor.post("login", body=body)
        self.device = Person(self.town.server, answer["user_id"], answer["access_token"])

    async def run(self) -> int:
        query = {"timeout": "0"} | ({"filter": self.sync_filter} if self.sync_filter else {})
        self.answer = await self.device.sync(**query)
        return 1

    async def finish(self) -> None:
        assert set(self.answer.json["rooms"]["join"]) >= set(self.rooms)
        self.device.hang_up()


class SyncFirstLazy(SyncFirst):
    """The same with lazily loaded members and twenty messages of each room, as mobile clients do it."""

    name = "sync-first-warm-lazy"
    sync_filter = LAZY


class SyncFirstCold(SyncFirst):
    """The same right after a restart of the server."""

    name = "sync-first-cold"
    has_warm_up = False

    async def prepare(self) -> None:
        await self.town.restart()
        await super().prepare()
        # What only the first request after a start costs, whatever it asks for, is not part of this.
        await self.device.get("account", "whoami")


class SyncFirstColdLazy(SyncFirstCold):
    """Right after a restart, with lazily loaded members."""

    name = "sync-first-cold-lazy"
    sync_filter = LAZY
