"""What has been read stays read: a receipt that was answered outlives kill -9."""

import asyncio
from collections.abc import Callable

import aiohttp
import pytest

from tests.client_api.sync_client import joined, sync
from tests.client_api.test_receipts import receipts_in, send_receipt, shared_room
from tests.people import Person, Town
from tests.server_process import ServerProcess

pytestmark = [pytest.mark.faults, pytest.mark.slow]

READERS = 4
MESSAGES = 60


class Reading:
    """A user who reads message by message, as fast as the server answers."""

    def __init__(self, person: Person) -> None:
        self.person = person
        # How many receipts were answered.
        self.answered = 0

    async def run(self, room_id: str, events: list[str], enough: asyncio.Event) -> None:
        for event_id in events:
            try:
                answer = await send_receipt(self.person, room_id, event_id)
            except (aiohttp.ClientError, ConnectionError, TimeoutError):
                return
            assert answer.status == 200
            self.answered += 1
            if self.answered == MESSAGES // 2:
                enough.set()


async def test_answered_receipts_outlive_a_kill(make_server: Callable[..., ServerProcess]) -> None:
    server = make_server()
    server.start()
    enough = asyncio.Event()
    async with aiohttp.ClientSession() as session:
        town = Town(session, server.base_url, server.server_name)
        people = await town.people(*["reader"] * READERS)
        alice = people[0]
        room_id = await shared_room(*people)
        events = [await alice.say(room_id, str(number)) for number in range(MESSAGES)]
        since = (await sync(alice))["next_batch"]
        readings = [Reading(person) for person in people[1:]]
        tasks = [asyncio.create_task(reading.run(room_id, events, enough)) for reading in readings]
        await enough.wait()
        middle = (await sync(alice))["next_batch"]
        server.kill_everything()
        await asyncio.gather(*tasks)
    assert any(reading.answered < MESSAGES for reading in readings), "nothing was under way"

    server.start()
    async with aiohttp.ClientSession() as session:
        for person in people:
            person.session = session
        for token in (None, since):
            told = receipts_in(await sync(alice, token), room_id)
            reached = {user_id: events.index(event_id) + 1 for event_id, _, user_id, _ in told}
            assert len(reached) == len(told)
            for reading in readings:
                # One may have been written whose answer was lost.
                at = reached[reading.person.user_id]
                assert reading.answered <= at <= reading.answered + 1
                if token is None:
                    body = joined(await sync(reading.person), room_id)
                    assert body["unread_notifications"]["notification_count"] == MESSAGES - at
        # Tokens of before the crash are told what comes after it.
        tokens = (middle, (await sync(alice, middle))["next_batch"])
        last = await alice.say(room_id, "last")
        for reading in readings:
            assert (await send_receipt(reading.person, room_id, last)).status == 200
        expected = {(last, "m.read", reading.person.user_id, None) for reading in readings}
        for token in tokens:
            assert receipts_in(await sync(alice, token), room_id) == expected
    server.stop()
