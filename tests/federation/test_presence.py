"""Two of our own servers: who is there is seen on both sides, as it is now."""

from collections.abc import Awaitable, Callable

import pytest

from tests.eyes import Eyes
from tests.federation_town import FederationTown
from tests.people import Person

pytestmark = pytest.mark.timeout(180)

Make = Callable[..., Awaitable[FederationTown]]


async def say_status(person: Person, text: str) -> None:
    body = {"presence": "online", "status_msg": text}
    assert (await person.put("presence", person.user_id, "status", body=body)).status == 200


async def sees(eyes: Eyes, user_id: str, text: str) -> None:
    """Return when the user is online with this status."""
    await eyes.until(lambda: eyes.presence.get(user_id, {}).get("status_msg") == text)


async def test_a_status_of_the_first_second_is_seen(make_federation: Make) -> None:
    town = await make_federation(2)
    alice, bob = await town.towns[0].person("alice"), await town.towns[1].person("bob")
    room_id = await alice.create_room(preset="public_chat")
    alice_sees, bob_sees = Eyes(alice), Eyes(bob)
    await alice_sees.look()
    answer = await bob.ask("POST", "join", room_id, query={"via": town.names[0]})
    assert answer.status == 200, answer
    await bob_sees.look()
    for number in range(5):
        await say_status(bob, f"{number}")
        await say_status(alice, f"{number}")
    await sees(alice_sees, bob.user_id, "4")
    await sees(bob_sees, alice.user_id, "4")


async def test_who_was_there_before_a_server_came_is_seen_by_it(make_federation: Make) -> None:
    town = await make_federation(2)
    alice, bob = await town.towns[0].person("alice"), await town.towns[1].person("bob")
    room_id = await alice.create_room(preset="public_chat")
    await say_status(alice, "here first")
    answer = await bob.ask("POST", "join", room_id, query={"via": town.names[0]})
    assert answer.status == 200, answer
    await sees(Eyes(bob), alice.user_id, "here first")
