"""Many people of two homeservers do everything at once, and ours is killed in the middle of it.

What was answered 200 on either side must be in the history of both in the end, and the rooms' state the same.
"""

import asyncio
import random
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from hs.storage.embedded import EmbeddedPostgres
from tests.certificates import Authority
from tests.databases import make_database
from tests.eyes import Eyes
from tests.federation_town import FederatedProcess
from tests.interop.pairs import Pair, history, join_by, state_ids, texts
from tests.people import Answer, Person, Town
from tests.server_fixtures import make_server_folder
from tests.synapse_server import ForeignTown, SynapseServer

pytestmark = [pytest.mark.interop, pytest.mark.faults, pytest.mark.timeout(300)]

PEOPLE = 3
STEPS = 24
KILLED_AFTER = 30
SEED = 7


@dataclass
class Storm:
    """What has been said so far, by room."""

    pair: Pair
    rooms: list[str]
    said: dict[str, set[str]] = field(default_factory=dict)
    answered: int = 0
    is_late: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, person: Person, room_id: str, text: str) -> None:
        """Say something, again and again under one transaction id until there is an answer."""
        body = {"msgtype": "m.text", "body": text}
        parts = ("rooms", room_id, "send", "m.room.message", text)
        await self._insist(person, "PUT", *parts, body=body)
        self.said.setdefault(room_id, set()).add(text)

    async def set_state(self, person: Person, room_id: str, number: int) -> None:
        """Change a setting that everybody changes, and one of the person's own."""
        for type, key in (("org.example.shared", ""), ("org.example.own", person.user_id)):
            parts = ("rooms", room_id, "state", type, key)
            await self._insist(person, "PUT", *parts, body={"by": person.user_id, "number": number})

    async def leave_and_return(self, person: Person, room_id: str) -> None:
        """Leave the room and join it again."""
        await self._insist(person, "POST", "rooms", room_id, "leave", body={})
        await self._insist(person, "POST", "join", room_id, body={})

    async def _insist(self, person: Person, method: str, *parts: str, body: Any, **how: Any) -> Answer:
        is_repeated = False
        while True:
            try:
                answer = await person.ask(method, *parts, body=body, **how)
            except (aiohttp.ClientError, ConnectionError):
                # It is down; nothing tells when it is up again.
                await asyncio.sleep(0.2)
                is_repeated = True
                continue
            # Nobody leaves twice: the first time may have come through without an answer.
            has_left = is_repeated and parts[-1] == "leave" and answer.status == 403
            assert answer.status == 200 or has_left, answer
            self.answered += 1
            if self.answered >= KILLED_AFTER:
                self.is_late.set()
            return answer


async def _act(storm: Storm, person: Person, name: str, is_restless: bool) -> None:
    chance = random.Random(f"{SEED} {name}")
    for number in range(STEPS):
        room_id = chance.choice(storm.rooms)
        match chance.randrange(8):
            case 0:
                await storm.set_state(person, room_id, number)
            case 1 if is_restless:
                await storm.leave_and_return(person, room_id)
            case _:
                await storm.send(person, room_id, f"{name} says {number}")


async def _kill(storm: Storm, server: FederatedProcess) -> None:
    await storm.is_late.wait()
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)


@pytest.fixture(params=["hs-synapse", "hs-hs"])
async def storm_pair(
    request: pytest.FixtureRequest, authority: Authority, postgres: EmbeddedPostgres
) -> AsyncIterator[tuple[Pair, FederatedProcess]]:
    """Ours, as a process that may be killed, and another server."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())

        async def run(kind: str) -> FederatedProcess | SynapseServer:
            folder = make_server_folder()
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            server: FederatedProcess | SynapseServer
            if kind == "synapse":
                server = SynapseServer(folder, authority)
            else:
                server = FederatedProcess(folder, authority, await make_database(postgres.url))
            await asyncio.to_thread(server.start)
            stack.push_async_callback(asyncio.to_thread, server.stop)
            return server

        ours, theirs = [await run(kind) for kind in request.param.split("-")]
        assert isinstance(ours, FederatedProcess)
        make_town = ForeignTown if isinstance(theirs, SynapseServer) else Town
        here = Town(session, ours.base_url, ours.server_name)
        yield Pair(here, make_town(session, theirs.base_url, theirs.server_name)), ours


async def test_a_storm_with_a_crash(storm_pair: tuple[Pair, FederatedProcess]) -> None:
    pair, ours = storm_pair
    crowd = {}
    for name, town in (("here", pair.here), ("there", pair.there)):
        for number in range(PEOPLE):
            crowd[f"{name}{number}"] = await town.person(f"{name}{number}")
    founders = crowd["here0"], crowd["there0"]
    storm = Storm(pair, [])
    for founder, town in zip(founders, (pair.here, pair.there), strict=True):
        levels = {"state_default": 0}
        room_id = await founder.create_room(preset="public_chat", power_level_content_override=levels)
        storm.rooms.append(room_id)
        for person in crowd.values():
            if person is not founder:
                await join_by(person, room_id, town.server_name)

    acting = [_act(storm, person, name, not name.endswith("0")) for name, person in crowd.items()]
    await asyncio.gather(_kill(storm, ours), *acting)

    eyes = [Eyes(founder) for founder in founders]
    for room_id in storm.rooms:
        await _hear_each_other(room_id, eyes)
        await _check_same(room_id, founders, storm.said[room_id])


async def _hear_each_other(room_id: str, eyes: list[Eyes]) -> None:
    """Talk until each has heard the other: then all that was said before has arrived or never will."""
    for speaker, listener in (eyes, reversed(eyes)):
        said = await speaker.person.say(room_id, "the storm is over")
        await listener.event(room_id, said)


async def _check_same(room_id: str, founders: tuple[Person, Person], said: set[str]) -> None:
    states = [await state_ids(founder, room_id) for founder in founders]
    assert states[0] == states[1]
    for founder in founders:
        heard = await _hear_all(founder, room_id, said)
        assert len(heard) == len(set(heard)) + 1  # what is said at the end is said twice


async def _hear_all(person: Person, room_id: str, said: set[str]) -> list[str]:
    """The room's messages, once they are all there: a server that has missed some may fetch them when it is asked."""
    async with asyncio.timeout(30):
        while not said <= set(heard := texts(await history(person, room_id))):  # noqa: ASYNC110
            # Nothing announces it.
            await asyncio.sleep(0.2)
    return heard
