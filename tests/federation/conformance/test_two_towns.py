"""Two of our servers, as suites have them talk: invites, bans, knocks, restricted rooms, presence, dates, spaces."""

import json
from typing import Any

import pytest

from tests.eyes import Eyes
from tests.federation_fixtures import run_federated
from tests.people import Person, Town, path

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def second(authority: Any, postgres: Any) -> Any:
    """Another process beside the shared one."""
    yield from run_federated(authority, postgres)


@pytest.fixture
async def other(second: Any, federated_town: Town) -> Town:
    """People on it."""
    return Town(federated_town.session, second.base_url, second.server_name)


async def join(person: Person, room_id: str, *via: Town) -> Any:
    """The answer to a join by way of these servers."""
    query = "&".join(f"server_name={town.server_name}" for town in via)
    return await person.ask_raw("POST", f"{path('join', room_id)}?{query}", b"{}")


async def knock(person: Person, room_id: str, via: Town, reason: str | None = None) -> Any:
    """The answer to a knock."""
    body = json.dumps({} if reason is None else {"reason": reason}).encode()
    return await person.ask_raw("POST", f"{path('knock', room_id)}?server_name={via.server_name}", body)


async def test_invites_are_taken_and_declined_again_and_again(federated_town: Town, other: Town) -> None:
    alice, bob = await federated_town.person("alice"), await other.person("bob")
    room_id = await alice.create_room(
        preset="private_chat", name="Invites room", invite=[bob.user_id], is_direct=True
    )
    here, there = Eyes(alice), Eyes(bob)
    await there.membership(room_id, "invite")
    assert (await join(bob, room_id)).status == 200
    await there.membership(room_id, "join")
    member = await bob.get("rooms", room_id, "state", "m.room.member", bob.user_id, format="event")
    assert member.body["unsigned"]["prev_content"]["membership"] == "invite"
    assert member.body["unsigned"]["prev_content"]["is_direct"] is True
    await bob.post("rooms", room_id, "leave")
    await here.sees_member(room_id, bob.user_id, "leave")
    for _ in range(3):
        await alice.invite(room_id, bob.user_id)
        await there.membership(room_id, "invite")
        assert (await bob.post("rooms", room_id, "leave")).status == 200
        await here.sees_member(room_id, bob.user_id, "leave")
        await there.membership(room_id, "leave")
    await alice.invite(room_id, bob.user_id)
    told = {event["type"]: event["content"] for event in await there.invite_state(room_id)}
    assert (told["m.room.join_rules"], told["m.room.name"]) == (
        {"join_rule": "invite"},
        {"name": "Invites room"},
    )
    await there.membership(room_id, "invite")
    # Nobody is left there to be told.
    await alice.post("rooms", room_id, "leave")
    assert (await bob.post("rooms", room_id, "leave")).status == 200
    await there.membership(room_id, "leave")


async def test_invites_where_somebody_of_the_server_is_in_the_room_already(
    federated_town: Town, other: Town
) -> None:
    alice = await federated_town.person("alice")
    bob, charlie = await other.people("bob", "charlie")
    room_id = await alice.create_room(preset="private_chat", name="Invites room", invite=[charlie.user_id])
    there, beside, here = Eyes(bob), Eyes(charlie), Eyes(alice)
    await beside.membership(room_id, "invite")
    assert (await join(charlie, room_id)).status == 200
    await here.sees_member(room_id, charlie.user_id, "join")
    await alice.invite(room_id, bob.user_id)
    await there.membership(room_id, "invite")
    told = {event["type"] for event in await there.invite_state(room_id)}
    assert told >= {"m.room.create", "m.room.join_rules", "m.room.name", "m.room.member"}
    assert (await bob.post("rooms", room_id, "leave")).status == 200
    await there.membership(room_id, "leave")
    await here.sees_member(room_id, bob.user_id, "leave")
    await alice.invite(room_id, bob.user_id)
    await there.membership(room_id, "invite")
    assert (await join(bob, room_id)).status == 200
    await here.sees_member(room_id, bob.user_id, "join")
    await beside.sees_member(room_id, bob.user_id, "join")


async def test_who_was_banned_comes_back_by_an_invite(federated_town: Town, other: Town) -> None:
    bob, alice = await federated_town.person("bob"), await other.person("alice")
    room_id = await bob.create_room(preset="public_chat")
    assert (await join(alice, room_id, federated_town)).status == 200
    eyes = Eyes(alice)
    await eyes.membership(room_id, "join")
    await bob.post("rooms", room_id, "ban", body={"user_id": alice.user_id})
    await eyes.membership(room_id, "leave")
    await bob.post("rooms", room_id, "unban", body={"user_id": alice.user_id})
    await bob.invite(room_id, alice.user_id)
    await eyes.membership(room_id, "invite")
    assert (await join(alice, room_id, federated_town)).status == 200


@pytest.mark.parametrize(("version", "rule"), [("7", "knock"), ("10", "knock_restricted"), ("12", "knock")])
async def test_knocks(federated_town: Town, other: Town, version: str, rule: str) -> None:
    alice, charlie = await federated_town.person("alice"), await other.person("charlie")
    room_id = await alice.create_room(preset="private_chat", room_version=version)
    assert (await knock(charlie, room_id, federated_town, "anyway?")).status == 403
    await alice.set_state(room_id, "m.room.join_rules", {"join_rule": rule})
    assert (await join(charlie, room_id, federated_town)).status == 403
    here, there = Eyes(alice), Eyes(charlie)
    assert (await knock(charlie, room_id, federated_town, "let me in")).status == 200
    await there.membership(room_id, "knock")
    told = await there.knock_state(room_id)
    assert "m.room.create" in [event["type"] for event in told]
    assert all("origin_server_ts" not in event for event in told)
    await here.sees_member(room_id, charlie.user_id, "knock")
    content = here.state(room_id, "m.room.member", charlie.user_id)
    assert content["reason"] == "let me in"
    assert (await knock(charlie, room_id, federated_town, "knock knock")).status == 200
    for reason in ("please?", None):
        kick = {"user_id": charlie.user_id, "reason": "no"}
        assert (await alice.post("rooms", room_id, "kick", body=kick)).status == 200
        assert (await knock(charlie, room_id, federated_town, reason)).status == 200
        await there.look()
        await there.membership(room_id, "knock")
    await alice.invite(room_id, charlie.user_id)
    await there.membership(room_id, "invite")
    assert (await knock(charlie, room_id, federated_town, "again")).status == 403
    await alice.post("rooms", room_id, "ban", body={"user_id": charlie.user_id})
    assert (await knock(charlie, room_id, federated_town, "sorry")).status == 403


async def restricted(alice: Person, version: str, rule: str, town: Town) -> tuple[str, str]:
    """A room, and one that is open to whoever is in the first."""
    allowed = await alice.create_room(preset="public_chat", name="Allowed")
    allow = [{"type": "m.room_membership", "room_id": allowed, "via": [town.server_name]}]
    rules = {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": rule, "allow": allow}}
    room_id = await alice.create_room(
        preset="public_chat", name="Room", room_version=version, initial_state=[rules]
    )
    return allowed, room_id


@pytest.mark.parametrize(("version", "rule"), [("8", "restricted"), ("10", "knock_restricted")])
async def test_restricted_rooms(federated_town: Town, other: Town, version: str, rule: str) -> None:
    alice, bob = await federated_town.person("alice"), await other.person("bob")
    allowed, room_id = await restricted(alice, version, rule, federated_town)
    assert (await join(bob, room_id, federated_town)).status >= 400
    assert (await join(bob, allowed, federated_town)).status == 200
    assert (await join(bob, room_id, federated_town)).status == 200
    content = {"membership": "join", "displayname": "Bobby", "join_authorised_via_users_server": "unused"}
    assert (await bob.set_state(room_id, "m.room.member", content, bob.user_id)).status == 200
    here = Eyes(alice)
    await here.sees_name(room_id, bob.user_id, "Bobby")
    await bob.post("rooms", room_id, "leave")
    await bob.post("rooms", allowed, "leave")
    await here.sees_member(allowed, bob.user_id, "leave")
    await here.sees_member(room_id, bob.user_id, "leave")
    assert (await join(bob, room_id, federated_town)).status >= 400
    await alice.invite(room_id, bob.user_id)
    assert (await join(bob, room_id, federated_town)).status == 200
    await bob.post("rooms", room_id, "leave")
    assert (await join(bob, allowed, federated_town)).status == 200
    for allow in (["invalid"], "invalid"):
        await here.sees_member(room_id, bob.user_id, "leave")
        assert (
            await alice.set_state(room_id, "m.room.join_rules", {"join_rule": rule, "allow": allow})
        ).status == 200
        assert (await join(bob, room_id, federated_town)).status >= 400


async def test_a_server_that_cannot_let_in_asks_one_that_can(federated_town: Town, other: Town) -> None:
    charlie = await other.person("charlie")
    alice, bob = await federated_town.people("alice", "bob")
    allowed, room_id = await restricted(charlie, "8", "restricted", other)
    await charlie.invite(room_id, alice.user_id)
    assert (await join(alice, room_id, other)).status == 200
    invited = await alice.post("rooms", room_id, "invite", body={"user_id": bob.user_id})
    assert invited.status == 403
    assert (await join(bob, room_id, federated_town)).status >= 400
    assert (await join(bob, allowed, other)).status == 200
    assert (await join(bob, room_id, federated_town)).status == 200
    there, here = Eyes(charlie), Eyes(alice)
    await there.sees_member(room_id, bob.user_id, "join")
    levels = {"invite": 0, "users": {charlie.user_id: 100}}
    assert (await charlie.set_state(room_id, "m.room.power_levels", levels)).status == 200
    await charlie.post("rooms", room_id, "leave")
    await here.sees_member(room_id, charlie.user_id, "leave")
    await bob.post("rooms", room_id, "leave")
    assert (await join(bob, room_id, federated_town)).status == 200


@pytest.mark.parametrize(
    ("version", "rule"), [("11", "restricted"), ("12", "restricted"), ("12", "knock_restricted")]
)
async def test_one_of_us_with_the_level_lets_in(
    federated_town: Town, other: Town, version: str, rule: str
) -> None:
    alice = await federated_town.person("alice")
    bob, charlie = await other.people("bob", "charlie")
    allowed, room_id = await restricted(alice, version, rule, federated_town)
    assert (await join(bob, allowed, federated_town)).status == 200
    assert (await join(bob, room_id, federated_town)).status == 200
    eyes = Eyes(bob)
    await eyes.sees_member(room_id, bob.user_id, "join")
    via = "join_authorised_via_users_server"
    assert eyes.state(room_id, "m.room.member", bob.user_id)[via] == alice.user_id
    users = {bob.user_id: 50} | ({} if version == "12" else {alice.user_id: 100})
    levels = {"invite": 50, "users": users}
    assert (await alice.set_state(room_id, "m.room.power_levels", levels)).status == 200
    await eyes.until(lambda: (eyes.state(room_id, "m.room.power_levels") or {}).get("users") == users)
    assert (await join(charlie, allowed, federated_town)).status == 200
    assert (await join(charlie, room_id, other)).status == 200
    await eyes.sees_member(room_id, charlie.user_id, "join")
    assert eyes.state(room_id, "m.room.member", charlie.user_id)[via] == bob.user_id


async def test_presence_and_typing(federated_town: Town, other: Town) -> None:
    alice, bob = await federated_town.person("alice"), await other.person("bob")
    room_id = await alice.create_room(preset="public_chat")
    assert (await join(bob, room_id, federated_town)).status == 200
    eyes = Eyes(bob)
    await eyes.membership(room_id, "join")
    await Eyes(alice).sees_member(room_id, bob.user_id, "join")
    await alice.put("rooms", room_id, "typing", alice.user_id, body={"typing": True, "timeout": 10_000})
    await eyes.sees_typing(room_id, alice.user_id)
    body = {"presence": "online", "status_msg": "for room members"}
    assert (await alice.put("presence", alice.user_id, "status", body=body)).status == 200
    await eyes.sees_status(alice.user_id, "for room members")
    await alice.put("presence", alice.user_id, "status", body={"presence": "unavailable"})
    await eyes.until(lambda: eyes.presence.get(alice.user_id, {}).get("presence") == "unavailable")


async def test_dates_before_the_join(federated_town: Town, other: Town) -> None:
    alice, charlie = await federated_town.person("alice"), await other.person("charlie")
    room_id = await alice.create_room(preset="public_chat")
    a, b = await alice.say(room_id, "Message A"), await alice.say(room_id, "Message B")
    times = [
        (await alice.get("rooms", room_id, "event", event_id)).body["origin_server_ts"] for event_id in (a, b)
    ]
    assert (await join(charlie, room_id, federated_town)).status == 200

    async def at(ts: int, direction: str) -> Any:
        url = f"/_matrix/client/v1/rooms/{room_id}/timestamp_to_event?ts={ts}&dir={direction}"
        return (await charlie.raw("GET", url)).body.get("event_id")

    assert await at(times[0], "f") == a
    assert await at(times[1], "b") in (b, a if times[0] == times[1] else b)
    context = await charlie.get("rooms", room_id, "context", b, limit="0")
    page = await charlie.get(
        "rooms", room_id, "messages", dir="b", limit="100", **{"from": context.body["end"]}
    )
    assert {a, b} <= {event["event_id"] for event in page.body["chunk"]}


async def test_dates_are_for_members(federated_town: Town) -> None:
    alice, bob = await federated_town.people("alice", "bob")
    for preset in ("private_chat", "public_chat"):
        room_id = await alice.create_room(preset=preset)
        url = f"/_matrix/client/v1/rooms/{room_id}/timestamp_to_event?ts=1&dir=f"
        assert (await bob.raw("GET", url)).error == (403, "M_FORBIDDEN")


async def test_who_joins_after_a_denial_knows_of_it(
    federated_town: Town, other: Town, make_remote: Any
) -> None:
    """The denied server was in the room before; who came later does not hear it either."""
    remote = await make_remote(host="localhost")
    alice, charlie = await federated_town.person("alice"), await other.person("charlie")
    room_id = await alice.create_room(preset="public_chat")
    room = await remote.join(federated_town.server_name, room_id, remote.user("bob"))
    content = {"allow": ["*"], "allow_ip_literals": True, "deny": ["localhost"]}
    assert (await alice.set_state(room_id, "m.room.server_acl", content)).status == 200
    assert (await join(charlie, room_id, federated_town)).status == 200
    said = room.say(remote.user("bob"), "I should be blocked")
    for town in (federated_town, other):
        answer = await remote.send(town.server_name, said)
        assert answer.body["pdus"][said.event_id]["errcode"] == "M_FORBIDDEN"
    for person in (alice, charlie):
        assert await person.state(room_id, "m.room.server_acl") == content
        found = await person.get("rooms", room_id, "event", said.event_id)
        assert found.error == (404, "M_NOT_FOUND")


async def test_spaces_across_servers(federated_town: Town, other: Town) -> None:
    alice, bob = await federated_town.person("alice"), await other.person("bob")
    visible = {
        "type": "m.room.history_visibility",
        "state_key": "",
        "content": {"history_visibility": "world_readable"},
    }

    async def make(person: Person, is_space: bool) -> str:
        content = {"type": "m.space"} if is_space else {}
        return await person.create_room(
            preset="public_chat", creation_content=content, initial_state=[visible]
        )

    root, sub = await make(alice, True), await make(alice, True)
    near = [await make(alice, False) for _ in range(2)]
    far_sub, far = await make(bob, True), [await make(bob, False) for _ in range(2)]
    links = [
        (alice, root, near[0], federated_town),
        (alice, root, sub, federated_town),
        (alice, root, far[0], other),
    ]
    links += [
        (alice, sub, far_sub, other),
        (alice, sub, far[1], other),
        (bob, far_sub, near[1], federated_town),
    ]
    for person, parent, child, town in links:
        answer = await person.set_state(parent, "m.space.child", {"via": [town.server_name]}, child)
        assert answer.status == 200, answer
    answer = await alice.raw("GET", f"/_matrix/client/v1/rooms/{root}/hierarchy?limit=50")
    assert {room["room_id"] for room in answer.body["rooms"]} == {root, sub, far_sub, *near, *far}
