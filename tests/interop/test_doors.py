"""Ways into rooms of another homeserver: invites, knocks, restricted rooms, aliases."""

from typing import Any

import pytest

from tests.eyes import Eyes
from tests.interop.pairs import Pair, join_by, try_join
from tests.people import Person
from tests.synapse_server import ForeignTown

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]


async def set_join_rule(person: Person, room_id: str, rule: str, *spaces: str) -> None:
    """Who may come in; by being in one of the spaces where that matters."""
    content: dict[str, Any] = {"join_rule": rule}
    if spaces:
        content["allow"] = [{"type": "m.room_membership", "room_id": space} for space in spaces]
    answer = await person.set_state(room_id, "m.room.join_rules", content)
    assert answer.status == 200, answer


# --- invites


async def test_an_invite_is_declined(pair: Pair) -> None:
    alice, bob = await pair.people()
    room_id = await alice.create_room(preset="private_chat")
    await alice.invite(room_id, bob.user_id)
    bob_sees = Eyes(bob)
    await bob_sees.membership(room_id, "invite")
    assert (await bob.post("rooms", room_id, "leave")).status == 200
    await bob_sees.membership(room_id, "leave")
    await Eyes(alice).sees_member(room_id, bob.user_id, "leave")
    assert (await try_join(bob, room_id, pair.here.server_name)).status == 403


async def test_an_invite_is_taken_back(pair: Pair) -> None:
    alice, bob = await pair.people()
    room_id = await alice.create_room(preset="private_chat")
    await alice.invite(room_id, bob.user_id)
    bob_sees = Eyes(bob)
    await bob_sees.membership(room_id, "invite")
    answer = await alice.post("rooms", room_id, "kick", body={"user_id": bob.user_id})
    assert answer.status == 200
    assert (await try_join(bob, room_id, pair.here.server_name)).status == 403


async def test_nobody_there_has_that_name(pair: Pair) -> None:
    alice, _ = await pair.people()
    room_id = await alice.create_room(preset="private_chat")
    target = f"@nobody-at-all:{pair.there.server_name}"
    answer = await alice.post("rooms", room_id, "invite", body={"user_id": target})
    # Servers differ in whether they say so.
    assert answer.status in (200, 403, 404), answer


# --- knocks


async def test_a_knock_is_answered_with_an_invite(pair: Pair) -> None:
    alice, bob = await pair.people()
    room_id = await alice.create_room(preset="private_chat", name="Knock first")
    await set_join_rule(alice, room_id, "knock")
    query = {"via": pair.here.server_name, "server_name": pair.here.server_name}
    answer = await bob.ask("POST", "knock", room_id, body={"reason": "please"}, query=query)
    assert answer.status == 200, answer
    bob_sees, alice_sees = Eyes(bob), Eyes(alice)
    told = {event["type"]: event["content"] for event in await bob_sees.knock_state(room_id)}
    assert told["m.room.name"] == {"name": "Knock first"}
    await alice_sees.sees_member(room_id, bob.user_id, "knock")
    assert alice_sees.state(room_id, "m.room.member", bob.user_id)["reason"] == "please"
    await alice.invite(room_id, bob.user_id)
    await bob_sees.membership(room_id, "invite")
    await join_by(bob, room_id)
    await alice_sees.sees_member(room_id, bob.user_id, "join")


async def test_a_knock_is_taken_back(pair: Pair) -> None:
    alice, bob = await pair.people()
    room_id = await alice.create_room(preset="private_chat")
    await set_join_rule(alice, room_id, "knock")
    query = {"via": pair.here.server_name, "server_name": pair.here.server_name}
    assert (await bob.ask("POST", "knock", room_id, body={}, query=query)).status == 200
    alice_sees = Eyes(alice)
    await alice_sees.sees_member(room_id, bob.user_id, "knock")
    assert (await bob.post("rooms", room_id, "leave")).status == 200
    if not isinstance(pair.there, ForeignTown):
        # Synapse takes its own knocks back, but does not tell.
        await alice_sees.sees_member(room_id, bob.user_id, "leave")


async def test_a_knock_is_refused(pair: Pair) -> None:
    alice, bob = await pair.people()
    room_id = await alice.create_room(preset="private_chat")
    query = {"via": pair.here.server_name, "server_name": pair.here.server_name}
    answer = await bob.ask("POST", "knock", room_id, body={}, query=query)
    assert answer.error == (403, "M_FORBIDDEN")
    await set_join_rule(alice, room_id, "knock")
    assert (await bob.ask("POST", "knock", room_id, body={}, query=query)).status == 200
    await Eyes(alice).sees_member(room_id, bob.user_id, "knock")
    refused = await alice.post("rooms", room_id, "kick", body={"user_id": bob.user_id})
    assert refused.status == 200
