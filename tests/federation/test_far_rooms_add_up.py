"""Clients that only ever sync and page back know all that happened in another server's room, whatever was missed.

The other server sends what it says in any order, late, on branches, or not at all, and at times does not tell what is
missing. HS_FUZZ_EXAMPLES sets how many plays there are, HS_FUZZ_RANDOM=1 has other ones each time.
"""

import json
import os
import random
from typing import Any

import pytest

from tests.people import Person, Town
from tests.remote_room import RemoteRoom
from tests.remote_scripts import refuse
from tests.remote_server import RemoteServer
from tests.room_builder import BuiltEvent

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(300)]

EXAMPLES = int(os.environ.get("HS_FUZZ_EXAMPLES", "3"))
STEPS = 60
SEEDS = [
    random.randrange(10**6) if os.environ.get("HS_FUZZ_RANDOM") else number for number in range(EXAMPLES)
]


class Client:
    """Somebody who syncs. A limited timeline takes the place of what they knew; the rest is paged to."""

    def __init__(self, person: Person, room_id: str, limit: int, state_after: bool) -> None:
        self.person = person
        self.room_id = room_id
        self.limit = limit
        self.state_after = state_after
        self.state: dict[tuple[str, str], str] = {}
        self.since: str | None = None
        self.timeline: list[str] = []
        self.start: str | None = None

    async def sync(self) -> None:
        """Take what is new."""
        query = {"timeout": "0", "filter": json.dumps({"room": {"timeline": {"limit": self.limit}}})}
        if self.state_after:
            query["use_state_after"] = "true"
        answer = await self.person.get("sync", **query, **({"since": self.since} if self.since else {}))
        assert answer.status == 200, answer
        self.since = answer.body["next_batch"]
        news = answer.body.get("rooms", {}).get("join", {}).get(self.room_id)
        if news is None:
            return
        timeline = news["timeline"]
        if self.state_after:
            self._take_state(news["state_after"]["events"])
        else:
            self._take_state([*news["state"]["events"], *timeline["events"]])
        events = [event["event_id"] for event in timeline["events"]]
        if timeline["limited"] or self.start is None:
            self.timeline, self.start = events, timeline["prev_batch"]
        else:
            again = set(self.timeline).intersection(events)
            assert not again, f"{again} came again"
            self.timeline += events

    def _take_state(self, events: list[Any]) -> None:
        self.state |= {(e["type"], e["state_key"]): e["event_id"] for e in events if "state_key" in e}

    async def read_all(self) -> list[str]:
        """All that there is, oldest first."""
        found: list[str] = []
        token = self.start
        while token is not None:
            page = await self.person.get(
                "rooms", self.room_id, "messages", **{"dir": "b", "limit": "7", "from": token}
            )
            assert page.status == 200, page
            found += [event["event_id"] for event in page.body["chunk"]]
            token = page.body.get("end")
        return found[::-1] + self.timeline


class Play:
    """What the other server does."""

    def __init__(self, chance: random.Random, town: Town, remote: RemoteServer, room: RemoteRoom) -> None:
        self.chance = chance
        self.town = town
        self.remote = remote
        self.room = room
        self.alice = remote.user("alice")
        self.unsent: list[BuiltEvent] = []

    async def step(self, clients: list[Client]) -> None:
        """One thing at random."""
        chance = self.chance.random()
        if chance < 0.45:
            self.unsent.append(self._make())
        elif chance < 0.6 and self.unsent:
            count = self.chance.randrange(1, 4)
            picked = self.chance.sample(self.unsent, min(count, len(self.unsent)))
            await self._send(picked)
        elif chance < 0.7 and self.unsent:
            await self._send([self.unsent[-1]])
        elif chance < 0.8:
            await self.chance.choice(clients).person.say(self.room.room_id, "ours")
        elif chance < 0.85:
            self.remote.script("POST", "/get_missing_events/", refuse(500, "M_UNKNOWN"), times=2)
        for client in clients:
            if self.chance.random() < 0.3:
                await client.sync()

    async def end(self) -> None:
        """Join all branches, and tell it."""
        self.remote.behave()
        await self._send([self.room.say(self.alice, "the end")])

    def _make(self) -> BuiltEvent:
        events = [event for event in self.room.events if event.rejected is None and event.prev]
        prev = None
        if self.chance.random() < 0.3:
            prev = [self.chance.choice(events[-8:])]
        if self.chance.random() < 0.2:
            content = {"topic": str(self.chance.random())}
            return self.room.send("m.room.topic", self.alice, content, state_key="", prev=prev)
        return self.room.say(self.alice, "theirs", prev=prev)

    async def _send(self, events: list[BuiltEvent]) -> None:
        answer = await self.remote.send(self.town.server_name, *events)
        assert answer.status == 200, answer
        self.unsent = [event for event in self.unsent if event not in events]


async def enter(person: Person, remote: RemoteServer, room: RemoteRoom) -> None:
    answer = await person.ask("POST", "join", room.room_id, query={"via": remote.name}, body={})
    assert answer.status == 200, answer


@pytest.mark.parametrize("seed", SEEDS)
async def test_all_of_a_far_room_is_found(federated_town: Town, remote: RemoteServer, seed: int) -> None:
    chance = random.Random(seed)
    room = remote.make_room()
    for number in range(chance.randrange(40)):
        room.say(remote.user("alice"), f"early {number}")
    people = await federated_town.people("often", "seldom")
    for person in people:
        await enter(person, remote, room)
    guest = await federated_town.person("guest")
    clients = [
        Client(people[0], room.room_id, 10, False),
        Client(people[1], room.room_id, 3, True),
        Client(people[1], room.room_id, 4, False),
    ]
    play = Play(chance, federated_town, remote, room)
    for _ in range(STEPS):
        await play.step(clients)
        if chance.random() < 0.05:
            await enter(guest, remote, room)
            await guest.post("rooms", room.room_id, "leave")
    await play.end()
    # Somebody who begins only now.
    clients.append(Client(people[0], room.room_id, 20, True))
    theirs = {e.event_id for e in room.events if e.rejected is None}
    for client in clients:
        await client.sync()
        told = await client.read_all()
        assert len(told) == len(set(told)), [e for e in told if told.count(e) > 1]
        assert theirs <= set(told), theirs - set(told)
        if not client.state_after:
            # They take an event that a resolution has passed over for news.
            continue
        answer = await client.person.get("rooms", room.room_id, "state")
        there_is = {(e["type"], e["state_key"]): e["event_id"] for e in answer.body}
        assert client.state == there_is
