"""kill -9 in the middle of 2,000 concurrent sends, and what must be true after the restart.

- An event that a client got a 200 for is there, exactly once.
- A send without an answer is repeated with its transaction id and ends up there exactly once too,
  whether or not the crash came after its commit.
- A transaction that was answered gives the same event again.
- /sync goes on from tokens of before the crash and brings every event once.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from tests.people import Person, Town
from tests.server_process import ServerProcess

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(600)]

SENDS = 2000
CONCURRENT = 400
PEOPLE = 4
ROOMS = 4
FILTER = json.dumps({"room": {"timeline": {"limit": 50}}})


@dataclass(frozen=True)
class Message:
    """One thing to say, with the transaction id it is repeated under."""

    person: Person
    room_id: str
    text: str

    async def send(self) -> str | None:
        """The event id; None where the server went away instead of answering."""
        content = {"msgtype": "m.text", "body": self.text}
        try:
            answer = await self.person.put(
                "rooms", self.room_id, "send", "m.room.message", self.text, body=content
            )
        except (aiohttp.ClientError, ConnectionError, TimeoutError):
            return None
        assert answer.status == 200, answer
        event_id: str = answer.body["event_id"]
        return event_id


@dataclass
class Reader:
    """A syncing client that keeps what it has seen and pages into the gaps."""

    person: Person
    since: str | None = None
    seen: list[str] = field(default_factory=list)

    async def step(self, timeout_ms: int = 0) -> int:
        """How many messages one more /sync has brought."""
        query = {"filter": FILTER, "timeout": str(timeout_ms)} | ({"since": self.since} if self.since else {})
        answer = await self.person.get("sync", **query)
        assert answer.status == 200, answer
        new: list[str] = []
        for room_id, room in answer.body.get("rooms", {}).get("join", {}).items():
            timeline = room["timeline"]
            if timeline.get("limited") and self.since:
                new += await self._read_gap(room_id, timeline["prev_batch"], self.since)
            new += _messages(timeline["events"])
        # Together, as a client's store does it: a crash between pages must not count them twice.
        self.seen += new
        self.since = answer.body["next_batch"]
        return len(new)

    async def run(self) -> None:
        """Sync until the server goes away."""
        try:
            while True:
                await self.step(timeout_ms=10_000)
        except (aiohttp.ClientError, ConnectionError, TimeoutError):
            return

    async def catch_up(self) -> None:
        """Sync until nothing new comes."""
        while await self.step():
            pass

    async def _read_gap(self, room_id: str, start: str, end: str) -> list[str]:
        found: list[str] = []
        while True:
            answer = await self.person.get(
                "rooms", room_id, "messages", **{"dir": "b", "from": start, "to": end, "limit": "100"}
            )
            assert answer.status == 200, answer
            found += _messages(answer.body["chunk"])
            if not answer.body.get("end") or not answer.body["chunk"]:
                return found
            start = answer.body["end"]


def _messages(events: list[Any]) -> list[str]:
    return [event["event_id"] for event in events if event["type"] == "m.room.message"]


async def read_room(person: Person, room_id: str) -> list[Any]:
    """Every message of the room, newest first."""
    found: list[Any] = []
    query = {"dir": "b", "limit": "100"}
    while True:
        answer = await person.get("rooms", room_id, "messages", **query)
        assert answer.status == 200, answer
        found += [event for event in answer.body["chunk"] if event["type"] == "m.room.message"]
        if not answer.body.get("end"):
            return found
        query["from"] = answer.body["end"]


async def send_until_killed(messages: list[Message], kill: Callable[[], None]) -> dict[Message, str]:
    """Event ids of the sends that were answered before `kill`, which comes when a third of them is."""
    answered: dict[Message, str] = {}
    gate = asyncio.Semaphore(CONCURRENT)
    killed = False

    async def send(message: Message) -> None:
        nonlocal killed
        async with gate:
            event_id = None if killed else await message.send()
        if event_id is None:
            return
        answered[message] = event_id
        if len(answered) >= SENDS // 3 and not killed:
            killed = True
            # Other sends are under way: some not yet read, some waiting for a commit, some in one.
            kill()

    async with asyncio.TaskGroup() as group:
        for message in messages:
            group.create_task(send(message))
    assert killed, "the sends ended before the server was killed"
    return answered


async def prepare(town: Town) -> tuple[list[Person], list[str], list[Message]]:
    people = await town.people(*["sender"] * PEOPLE)
    rooms = [await people[0].create_room(preset="public_chat") for _ in range(ROOMS)]
    for person in people[1:]:
        for room_id in rooms:
            await person.join(room_id)
    messages = [Message(people[n % PEOPLE], rooms[n // PEOPLE % ROOMS], f"message {n}") for n in range(SENDS)]
    return people, rooms, messages


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=CONCURRENT + 50), timeout=aiohttp.ClientTimeout(total=120)
    )


@pytest.mark.parametrize("with_database", [False, True], ids=["server", "server and database"])
async def test_nothing_answered_is_lost_and_nothing_is_there_twice(
    make_server: Callable[..., ServerProcess], with_database: bool
) -> None:
    server = make_server()
    server.start()

    kill = server.kill_everything if with_database else server.kill

    async with _session() as session:
        people, rooms, messages = await prepare(Town(session, server.base_url, server.server_name))
        readers = [Reader(person) for person in people]
        for reader in readers:
            await reader.step()
        old_tokens = [reader.since for reader in readers]
        syncing = [asyncio.create_task(reader.run()) for reader in readers[:2]]
        answered = await send_until_killed(messages, kill)
        await asyncio.gather(*syncing)

    server.start()
    async with _session() as session:
        for person in people:
            person.session = session

        # What was answered is there, once; what was not is there at most once.
        kept = [event for room_id in rooms for event in await read_room(people[0], room_id)]
        texts = Counter(event["content"]["body"] for event in kept)
        assert set(texts.values()) == {1}
        ids = {event["event_id"]: event["content"]["body"] for event in kept}
        lost = [m.text for m, event_id in answered.items() if ids.get(event_id) != m.text]
        assert lost == []
        committed_unanswered = len(kept) - len(answered)
        assert committed_unanswered >= 0

        # Every transaction, answered or not, leads to exactly one event.
        gate = asyncio.Semaphore(50)

        async def repeat(message: Message) -> str:
            async with gate:
                event_id = await message.send()
            assert event_id is not None
            return event_id

        repeated = dict(zip(messages, await asyncio.gather(*map(repeat, messages)), strict=True))
        assert {m: repeated[m] for m in answered} == answered
        by_text = {text: event_id for event_id, text in ids.items()}
        assert [m for m in messages if by_text.get(m.text, repeated[m]) != repeated[m]] == []
        everything = [event["event_id"] for room_id in rooms for event in await read_room(people[0], room_id)]
        assert Counter(everything) == Counter(repeated.values())

        # Who synced through the crash, who slept since before it, and who is new see the same.
        for reader in readers:
            await reader.catch_up()
            assert Counter(reader.seen) == Counter(everything)
        for person, token in zip(people, old_tokens, strict=True):
            late = Reader(person, since=token)
            await late.catch_up()
            assert Counter(late.seen) == Counter(everything)

    print(  # noqa: T201 - the closing note of a release tells what the crash test did
        f"\n{len(answered)} of {SENDS} sends answered before the kill, {committed_unanswered} more were committed "
        f"without an answer; after the restart all {SENDS} are there once"
    )
    server.stop()
