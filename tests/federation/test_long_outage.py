"""An hour without a line between two of our own servers, with people on both who go on talking."""

from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from hs.matrix.destinations import FIRST_RETRY_MS, LAST_RETRY_MS, MIN_WAIT_MS, SPREAD
from tests.eyes import Eyes
from tests.federation_town import FederationTown, JumpingClock
from tests.interop.pairs import history, join_by, state_ids, texts
from tests.people import Person

pytestmark = pytest.mark.timeout(180)

MINUTE_MS = 60_000


class Outage:
    """Alice on the first server, Bob on the second, some rooms, and what is said in them."""

    def __init__(self, town: FederationTown, clock: JumpingClock, alice: Person, bob: Person) -> None:
        self.town = town
        self.clock = clock
        self.alice, self.bob = alice, bob
        self.rooms: list[str] = []
        self.said: dict[str, list[str]] = {}

    async def open_rooms(self, count: int) -> None:
        for _ in range(count):
            # Both may do everything.
            room_id = await self.alice.create_room(
                preset="public_chat", power_level_content_override={"users_default": 100}, room_version="11"
            )
            await join_by(self.bob, room_id, self.town.names[0])
            self.rooms.append(room_id)
            self.said[room_id] = []

    async def say(self, person: Person, room_id: str, text: str) -> str:
        self.said[room_id].append(text)
        return await person.say(room_id, text)

    async def wait_for_tries(self, origin: int, count: int) -> None:
        """Return once the server has tried to reach the other one so often in vain."""
        connection = await asyncpg.connect(self.town.database_urls[origin])
        name = self.town.names[1 - origin]
        query = "SELECT failures, failed_ts, retry_ts FROM destinations WHERE server_name = $1"
        try:
            for _ in range(200):
                row = await connection.fetchrow(query, name)
                if row is not None and row["failures"] >= count:
                    wait_ms = min(FIRST_RETRY_MS << (row["failures"] - 1), LAST_RETRY_MS)
                    waits_ms = row["retry_ts"] - row["failed_ts"]
                    assert wait_ms * (1 - SPREAD / 2) - 1 <= waits_ms <= wait_ms * (1 + SPREAD / 2) + 1
                    return
                # What is planned is looked at each second; the clock is ahead of all plans.
                self.clock.jump(MINUTE_MS)
                await connection.execute("SELECT pg_sleep(0.1)")
        finally:
            await connection.close()
        raise AssertionError("nobody tries")


async def test_after_an_hour_both_have_everything(
    make_federation: Callable[..., Awaitable[FederationTown]],
) -> None:
    clock = JumpingClock()
    town = await make_federation(2, clock)
    alice, bob = await town.towns[0].person("alice"), await town.towns[1].person("bob")
    outage = Outage(town, clock, alice, bob)
    await outage.open_rooms(3)
    town.network.partition({town.names[0]}, {town.names[1]})
    for number in range(5):
        for room_id in outage.rooms:
            await outage.say(alice, room_id, f"alice {number}")
            await outage.say(bob, room_id, f"bob {number}")
    for room_id in outage.rooms:
        assert (await alice.set_state(room_id, "m.room.topic", {"topic": "from here"})).status == 200
        assert (await bob.set_state(room_id, "m.room.name", {"name": "from there"})).status == 200
    # Both have given up what they kept for each other: it is in the database only that something is missed.
    for origin in (0, 1):
        await outage.wait_for_tries(origin, 4)
    clock.jump(60 * MINUTE_MS)
    town.network.heal()
    # The one whose turn comes first wakes the other.
    clock.jump(MIN_WAIT_MS)
    sees = {person: Eyes(person) for person in (alice, bob)}
    for room_id in outage.rooms:
        await sees[bob].until(lambda room_id=room_id: sees[bob].state(room_id, "m.room.topic"))
        await sees[alice].until(lambda room_id=room_id: sees[alice].state(room_id, "m.room.name"))
        wanted = sorted(outage.said[room_id])
        for person in (alice, bob):
            assert sorted(texts(await history(person, room_id))) == wanted
        assert await state_ids(alice, room_id) == await state_ids(bob, room_id)
    await outage.say(alice, outage.rooms[0], "over")
    await sees[bob].until(lambda: "over" in sees[bob].texts(outage.rooms[0]))
