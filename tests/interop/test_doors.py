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


@pytest.mark.parametrize("version_id", ["1", "2", "3", "6", "10", "11", "12"])
async def test_an_invite_is_accepted(pair: Pair, version_id: str) -> None:
    alice, bob = await pair.people()
    room_id = await alice.create_room(preset="private_chat", name="Quiet room", room_version=version_id)
    await alice.invite(room_id, bob.user_id)
    bob_sees = Eyes(bob)
    told = {event["type"]: event for event in await bob_sees.invite_state(room_id)}
    assert told["m.room.name"]["content"] == {"name": "Quiet room"}
    assert told["m.room.member"]["content"]["membership"] == "invite"
    assert told["m.room.join_rules"]["content"]["join_rule"] == "invite"
    await join_by(bob, room_id)
    await bob_sees.membership(room_id, "join")
    await Eyes(alice).sees_member(room_id, bob.user_id, "join")
    said = await bob.say(room_id, "thank you")
    await Eyes(alice).event(room_id, said)


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


async def test_a_direct_chat_says_so(pair: Pair) -> None:
    alice, bob = await pair.people()
    room_id = await alice.create_room(preset="trusted_private_chat", is_direct=True, invite=[bob.user_id])
    bob_sees = Eyes(bob)
    told = await bob_sees.invite_state(room_id)
    [member] = [e for e in told if e["type"] == "m.room.member" and e["state_key"] == bob.user_id]
    assert member["content"]["is_direct"] is True
    assert member["sender"] == alice.user_id
    await join_by(bob, room_id)
    said = await bob.say(room_id, "hello")
    await Eyes(alice).event(room_id, said)


async def test_who_was_invited_there_invites_others_back(pair: Pair) -> None:
    alice, bob = await pair.people()
    carol = await pair.here.person("carol")
    room_id = await alice.create_room(preset="private_chat", invite=[bob.user_id])
    await Eyes(bob).membership(room_id, "invite")
    await join_by(bob, room_id)
    await bob.invite(room_id, carol.user_id)
    await Eyes(carol).membership(room_id, "invite")
    await join_by(carol, room_id)
    bob_sees = Eyes(bob)
    await bob_sees.sees_member(room_id, carol.user_id, "join")


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


# --- restricted rooms


@pytest.mark.parametrize(
    ("version_id", "rule"),
    [
        ("8", "restricted"),
        ("9", "restricted"),
        ("12", "restricted"),
        ("10", "knock_restricted"),
        ("12", "knock_restricted"),
    ],
)
async def test_members_of_a_space_come_in(pair: Pair, version_id: str, rule: str) -> None:
    alice, bob = await pair.people()
    carol = await pair.there.person("carol")
    space = await alice.create_room(preset="public_chat", creation_content={"type": "m.space"})
    room_id = await alice.create_room(preset="private_chat", room_version=version_id)
    await set_join_rule(alice, room_id, rule, space)
    refused = await try_join(bob, room_id, pair.here.server_name)
    assert refused.status == 403, refused
    await join_by(bob, space, pair.here.server_name)
    await Eyes(alice).sees_member(space, bob.user_id, "join")
    await join_by(bob, room_id, pair.here.server_name)
    alice_sees = Eyes(alice)
    await alice_sees.sees_member(room_id, bob.user_id, "join")
    content = alice_sees.state(room_id, "m.room.member", bob.user_id)
    assert content["join_authorised_via_users_server"] == alice.user_id
    # Their own server is in the room and in the space now, but nobody on it may let others in.
    await join_by(carol, space, pair.here.server_name)
    await join_by(carol, room_id, pair.here.server_name)
    await alice_sees.sees_member(room_id, carol.user_id, "join")
    # A new name does not copy who had let them in.
    renamed = await carol.put("profile", carol.user_id, "displayname", body={"displayname": "Caroline"})
    assert renamed.status == 200
    await alice_sees.sees_name(room_id, carol.user_id, "Caroline")
    content = alice_sees.state(room_id, "m.room.member", carol.user_id)
    assert "join_authorised_via_users_server" not in content


# --- aliases


async def test_a_room_is_joined_by_its_alias(pair: Pair) -> None:
    alice, bob = await pair.people()
    name = bob.user_id[1:].partition(":")[0] + "-alias"
    room_id = await alice.create_room(preset="public_chat", room_alias_name=name)
    alias = f"#{name}:{pair.here.server_name}"
    found = await bob.get("directory", "room", alias)
    assert found.body["room_id"] == room_id
    assert pair.here.server_name in found.body["servers"]
    answer = await bob.post("join", alias)
    assert answer.body == {"room_id": room_id}
    await Eyes(alice).sees_member(room_id, bob.user_id, "join")
    unknown = await bob.get("directory", "room", f"#nothing-here:{pair.here.server_name}")
    assert unknown.error == (404, "M_NOT_FOUND")
