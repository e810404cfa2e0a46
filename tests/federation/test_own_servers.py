"""Two of our own servers: what the one asks of rooms, the other answers."""

from collections.abc import Awaitable, Callable

import pytest

from tests.eyes import Eyes
from tests.federation_town import FederationTown
from tests.people import Person

pytestmark = pytest.mark.timeout(180)


async def read_back(person: Person, room_id: str) -> list[str]:
    """The texts of a room from the newest on, as far as there are any."""
    found: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = await person.get("rooms", room_id, "messages", dir="b", limit="100", **token)
        assert page.status == 200, page
        found += [e["content"].get("body", "") for e in page.body["chunk"] if e["type"] == "m.room.message"]
        if "end" not in page.body:
            return found
        token = {"from": page.body["end"]}


async def enter(person: Person, room_id: str, via: str) -> None:
    answer = await person.ask("POST", "join", room_id, query={"via": via})
    assert answer.status == 200, answer


@pytest.mark.parametrize("version_id", ["2", "10", "12"])
async def test_history_from_before_the_join(
    make_federation: Callable[..., Awaitable[FederationTown]], version_id: str
) -> None:
    town = await make_federation(2)
    alice, bob = await town.towns[0].person("alice"), await town.towns[1].person("bob")
    room_id = await alice.create_room(preset="public_chat", room_version=version_id)
    texts = [f"message {n}" for n in range(130)]
    for text in texts:
        await alice.say(room_id, text)
    await enter(bob, room_id, town.names[0])
    assert await read_back(bob, room_id) == texts[::-1]


async def test_history_that_is_for_members_stays_with_them(
    make_federation: Callable[..., Awaitable[FederationTown]],
) -> None:
    town = await make_federation(2)
    alice, bob = await town.towns[0].person("alice"), await town.towns[1].person("bob")
    room_id = await alice.create_room(preset="public_chat", topic="for everybody")
    await alice.set_state(room_id, "m.room.history_visibility", {"history_visibility": "joined"})
    await alice.set_state(room_id, "m.room.topic", {"topic": "for members"})
    await alice.say(room_id, "not for you")
    await enter(bob, room_id, town.names[0])
    last = await alice.say(room_id, "for you")
    await Eyes(bob).event(room_id, last)
    assert await read_back(bob, room_id) == ["for you"]
    assert (await bob.state(room_id, "m.room.topic")) == {"topic": "for members"}


async def test_a_long_gap_is_filled(make_federation: Callable[..., Awaitable[FederationTown]]) -> None:
    town = await make_federation(2)
    alice, bob = await town.towns[0].person("alice"), await town.towns[1].person("bob")
    room_id = await alice.create_room(preset="public_chat")
    await enter(bob, room_id, town.names[0])
    first = await alice.say(room_id, "before the gap")
    eyes = Eyes(bob)
    await eyes.event(room_id, first)
    town.network.partition({town.names[0]}, {town.names[1]})
    texts = [f"message {n}" for n in range(70)]
    for text in texts:
        await alice.say(room_id, text)
    await alice.set_state(room_id, "m.room.topic", {"topic": "news"})
    town.network.heal()
    # Whoever talks to a server that was away is heard from again.
    await bob.say(room_id, "are you there?")
    last = await alice.say(room_id, "after the gap")
    await eyes.event(room_id, last)
    await eyes.until(lambda: eyes.state(room_id, "m.room.topic") == {"topic": "news"})
    found = await read_back(bob, room_id)
    assert sorted(found) == sorted([*texts, "before the gap", "are you there?", "after the gap"])
