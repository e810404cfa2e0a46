"""Joining, inviting, leaving, kicking, banning, knocking and forgetting."""

import asyncio
from typing import Any

import pytest

from tests.people import Person, Town


async def membership(viewer: Person, room_id: str, user_id: str) -> str | None:
    member = await viewer.state(room_id, "m.room.member", user_id)
    return None if member is None else str(member["membership"])


@pytest.mark.parametrize("path", ["rooms", "join"])
async def test_anybody_joins_a_public_room(town: Town, path: str) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room(preset="public_chat")
    parts = ("rooms", room_id, "join") if path == "rooms" else ("join", room_id)
    answer = await bob.post(*parts, body={"reason": "curious"})
    assert (answer.status, answer.body) == (200, {"room_id": room_id})
    member = await alice.state(room_id, "m.room.member", bob.user_id)
    assert (member["membership"], member["reason"]) == ("join", "curious")


async def test_joining_twice_makes_one_event(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room(preset="public_chat")
    bob = await town.person("bob")
    await bob.join(room_id)
    before = (await alice.get("rooms", room_id, "messages", dir="b", limit="3")).body["chunk"]
    await bob.join(room_id)
    after = (await alice.get("rooms", room_id, "messages", dir="b", limit="3")).body["chunk"]
    assert [event["event_id"] for event in before] == [event["event_id"] for event in after]


async def test_many_join_at_once_and_all_are_in(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room(preset="public_chat")
    crowd = await town.people(*["fan"] * 12)
    await asyncio.gather(*(fan.join(room_id) for fan in crowd))
    joined = (await alice.get("rooms", room_id, "joined_members")).body["joined"]
    assert set(joined) == {alice.user_id, *(fan.user_id for fan in crowd)}


async def test_a_join_by_alias_leads_to_the_room(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    localpart = alice.user_id[1:].partition(":")[0] + "-door"
    room_id = await alice.create_room(preset="public_chat", room_alias_name=localpart)
    answer = await bob.post("join", f"#{localpart}:{town.server_name}")
    assert (answer.status, answer.body) == (200, {"room_id": room_id})


async def test_nobody_joins_a_private_room_uninvited(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room(preset="private_chat")
    assert (await bob.post("join", room_id)).error == (403, "M_FORBIDDEN")
    await alice.invite(room_id, bob.user_id)
    await bob.join(room_id)
    assert await membership(alice, room_id, bob.user_id) == "join"


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("!unheardof:test.example", (404, "M_NOT_FOUND")),
        ("#unheardof:test.example", (404, "M_NOT_FOUND")),
        ("#elsewhere:other.example", (404, "M_NOT_FOUND")),
        ("room", (400, "M_INVALID_PARAM")),
        ("!nul\x00:test.example", (400, "M_INVALID_PARAM")),
        ("#nul\x00:test.example", (400, "M_INVALID_PARAM")),
        ("@user:test.example", (400, "M_INVALID_PARAM")),
    ],
)
async def test_joining_or_knocking_on_what_is_no_room(town: Town, target: str, error: Any) -> None:
    alice = await town.person("alice")
    assert (await alice.post("join", target)).error == error
    assert (await alice.post("knock", target)).error == error


@pytest.mark.parametrize("name", ["via", "server_name"])
async def test_servers_to_go_through_may_be_named(town: Town, name: str) -> None:
    alice, bob = await town.people("alice", "bob")
    rules = {"type": "m.room.join_rules", "content": {"join_rule": "knock"}}
    opened = await alice.create_room(preset="public_chat")
    knockable = await alice.create_room(initial_state=[rules])
    for action, room_id in (("join", opened), ("knock", knockable)):
        url = f"/_matrix/client/v3/{action}/{room_id}?{name}=a.example&{name}=nonsense%20&{name}="
        assert (await bob.raw("POST", url, b"{}")).status == 200
        assert await membership(alice, room_id, bob.user_id) == action


async def test_nobody_leaves_twice(town: Town) -> None:
    alice, bob, carol = await town.people("alice", "bob", "carol")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    assert (await bob.post("rooms", room_id, "leave")).status == 200
    # The auth rules let those leave who are in, invited or knocking.
    for person in (bob, carol):
        assert (await person.post("rooms", room_id, "leave")).error == (403, "M_FORBIDDEN")
    leave = {"membership": "leave"}
    answer = await bob.set_state(room_id, "m.room.member", leave, bob.user_id)
    assert answer.error == (403, "M_FORBIDDEN")


async def test_a_join_has_the_fields_of_its_request(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room(preset="public_chat", room_alias_name="fields-of-a-join")
    ways = [("join", room_id), ("join", "#fields-of-a-join:test.example"), ("rooms", room_id, "join")]
    for number, way in enumerate(ways):
        forged = {"membership": "ban", "join_authorised_via_users_server": alice.user_id}
        body = {"mood": number, "third_party_signed": None, **forged}
        assert (await bob.post(*way, body=body)).status == 200
        member = await alice.state(room_id, "m.room.member", bob.user_id)
        assert (member["membership"], member["mood"]) == ("join", number)
        assert not {"third_party_signed", "join_authorised_via_users_server"} & set(member)
        assert (await bob.post(*way, body={"reason": 5})).error == (400, "M_BAD_JSON")
        assert (await bob.post("rooms", room_id, "leave")).status == 200


async def test_null_for_no_reason(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room(preset="public_chat")
    assert (await bob.post("join", room_id, body={"reason": None})).status == 200
    body = {"user_id": bob.user_id, "reason": None}
    assert (await alice.post("rooms", room_id, "kick", body=body)).status == 200
    assert await alice.state(room_id, "m.room.member", bob.user_id) == {"membership": "leave"}
    body = {"user_id": None}
    assert (await alice.post("rooms", room_id, "kick", body=body)).error == (400, "M_BAD_JSON")


async def test_an_invite_is_refused_by_leaving(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room()
    await alice.invite(room_id, bob.user_id)
    assert (await bob.post("rooms", room_id, "leave", body={"reason": "no time"})).status == 200
    member = await alice.state(room_id, "m.room.member", bob.user_id)
    assert member == {"membership": "leave", "reason": "no time"}
    assert (await bob.post("join", room_id)).error == (403, "M_FORBIDDEN")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({}, (400, "M_MISSING_PARAM")),
        ({"user_id": "bob"}, (400, "M_INVALID_PARAM")),
        ({"user_id": "@nul\x00:test.example"}, (400, "M_INVALID_PARAM")),
        ({"user_id": 5}, (400, "M_BAD_JSON")),
        ({"user_id": "@bob:test.example", "reason": 5}, (400, "M_BAD_JSON")),
        (
            {"id_server": "id.example", "id_access_token": "t", "medium": "email", "address": "a@b.example"},
            (403, "M_THREEPID_DENIED"),
        ),
    ],
)
async def test_a_wrong_invite_is_told_what_is_wrong(town: Town, body: dict[str, Any], error: Any) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    assert (await alice.post("rooms", room_id, "invite", body=body)).error == error


async def test_only_who_is_inside_and_has_the_level_may_invite(town: Town) -> None:
    alice, bob, carol = await town.people("alice", "bob", "carol")
    room_id = await alice.create_room(preset="public_chat", power_level_content_override={"invite": 50})
    body = {"user_id": carol.user_id}
    assert (await bob.post("rooms", room_id, "invite", body=body)).error == (403, "M_FORBIDDEN")
    await bob.join(room_id)
    assert (await bob.post("rooms", room_id, "invite", body=body)).error == (403, "M_FORBIDDEN")
    await alice.invite(room_id, carol.user_id)
    await carol.join(room_id)
    again = await alice.post("rooms", room_id, "invite", body=body)
    assert again.error == (403, "M_FORBIDDEN")  # a member cannot be invited


async def test_kick_ban_and_unban(town: Town) -> None:
    alice, bob, carol = await town.people("alice", "bob", "carol")
    room_id = await alice.create_room(preset="public_chat")
    for person in (bob, carol):
        await person.join(room_id)
    target = {"user_id": carol.user_id, "reason": "because"}
    for action in ("kick", "ban"):
        assert (await bob.post("rooms", room_id, action, body=target)).error == (403, "M_FORBIDDEN")

    assert (await alice.post("rooms", room_id, "kick", body=target)).status == 200
    member = await alice.state(room_id, "m.room.member", carol.user_id)
    assert (member["membership"], member["reason"]) == ("leave", "because")
    assert (await alice.post("rooms", room_id, "kick", body=target)).error == (403, "M_FORBIDDEN")
    await carol.join(room_id)

    assert (await alice.post("rooms", room_id, "ban", body=target)).status == 200
    assert await membership(alice, room_id, carol.user_id) == "ban"
    assert (await carol.post("join", room_id)).error == (403, "M_FORBIDDEN")
    assert (await alice.post("rooms", room_id, "invite", body=target)).error == (403, "M_FORBIDDEN")
    assert (await alice.post("rooms", room_id, "unban", body=target)).status == 200
    assert (await alice.post("rooms", room_id, "unban", body=target)).status == 403
    await carol.join(room_id)


@pytest.mark.parametrize("action", ["invite", "kick", "ban", "unban"])
async def test_rooms_one_is_not_in_are_forbidden_ground(town: Town, action: str) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room()
    body = {"user_id": alice.user_id}
    assert (await bob.post("rooms", room_id, action, body=body)).error == (403, "M_FORBIDDEN")
    unknown = await bob.post("rooms", "!unheardof:test.example", action, body=body)
    assert unknown.error == (403, "M_FORBIDDEN")
    assert (await bob.post("rooms", "no room", action, body=body)).error == (400, "M_INVALID_PARAM")


@pytest.mark.parametrize("action", ["kick", "ban", "unban"])
async def test_a_target_is_a_user_id(town: Town, action: str) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    missing = await alice.post("rooms", room_id, action, body={})
    assert missing.status == 400
    assert missing.errcode in ("M_MISSING_PARAM", "M_BAD_JSON")
    wrong = await alice.post("rooms", room_id, action, body={"user_id": "nobody"})
    assert wrong.error == (400, "M_INVALID_PARAM")


async def test_forgetting_needs_leaving_first(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room(invite=[bob.user_id])
    await bob.join(room_id)
    assert (await bob.post("rooms", room_id, "forget")).error == (400, "M_UNKNOWN")
    assert (await bob.post("rooms", room_id, "leave")).status == 200
    assert (await bob.post("rooms", room_id, "forget")).status == 200
    assert (await bob.get("rooms", room_id, "messages", dir="b")).error == (403, "M_FORBIDDEN")
    await alice.invite(room_id, bob.user_id)
    await bob.join(room_id)
    assert (await bob.get("rooms", room_id, "messages", dir="b")).status == 200


async def test_a_knock_is_answered_by_an_invite(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    rules = {"type": "m.room.join_rules", "content": {"join_rule": "knock"}}
    room_id = await alice.create_room(initial_state=[rules])
    answer = await bob.post("knock", room_id, body={"reason": "let me in"})
    assert (answer.status, answer.body) == (200, {"room_id": room_id})
    member = await alice.state(room_id, "m.room.member", bob.user_id)
    assert (member["membership"], member["reason"]) == ("knock", "let me in")
    assert (await bob.post("join", room_id)).error == (403, "M_FORBIDDEN")
    await alice.invite(room_id, bob.user_id)
    await bob.join(room_id)
    assert (await bob.post("knock", room_id)).error == (403, "M_FORBIDDEN")


async def test_rooms_that_do_not_take_knocks(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room()
    assert (await bob.post("knock", room_id)).error == (403, "M_FORBIDDEN")


async def test_a_restricted_room_lets_members_of_another_room_in(town: Town) -> None:
    alice, bob, carol = await town.people("alice", "bob", "carol")
    club = await alice.create_room(preset="public_chat")
    allow = [{"type": "m.room_membership", "room_id": club}]
    rules = {"type": "m.room.join_rules", "content": {"join_rule": "restricted", "allow": allow}}
    bar = await alice.create_room(initial_state=[rules])
    await bob.join(club)
    await bob.join(bar)
    member = await alice.state(bar, "m.room.member", bob.user_id)
    assert member["join_authorised_via_users_server"] == alice.user_id
    assert (await carol.post("join", bar)).error == (403, "M_FORBIDDEN")


# m.room.member through PUT /state


async def test_membership_by_state_takes_the_same_path(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room()
    invited = await alice.set_state(room_id, "m.room.member", {"membership": "invite"}, bob.user_id)
    assert invited.status == 200, invited
    joined = await bob.set_state(room_id, "m.room.member", {"membership": "join"}, bob.user_id)
    assert joined.status == 200, joined
    kicked = await alice.set_state(room_id, "m.room.member", {"membership": "leave"}, bob.user_id)
    assert kicked.status == 200, kicked
    banned = await alice.set_state(room_id, "m.room.member", {"membership": "ban"}, bob.user_id)
    assert banned.status == 200, banned
    assert await membership(alice, room_id, bob.user_id) == "ban"
    unbanned = await alice.set_state(room_id, "m.room.member", {"membership": "leave"}, bob.user_id)
    assert unbanned.status == 200, unbanned
    assert await membership(alice, room_id, bob.user_id) == "leave"


async def test_a_name_for_one_room_wins_over_the_profile(town: Town) -> None:
    alice = await town.person("alice")
    await alice.put("profile", alice.user_id, "displayname", body={"displayname": "Alice"})
    room_id = await alice.create_room()
    assert (await alice.state(room_id, "m.room.member", alice.user_id))["displayname"] == "Alice"
    content = {"membership": "join", "displayname": "Queen of Hearts"}
    assert (await alice.set_state(room_id, "m.room.member", content, alice.user_id)).status == 200
    member = await alice.state(room_id, "m.room.member", alice.user_id)
    assert member["displayname"] == "Queen of Hearts"


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ({}, (400, "M_BAD_JSON")),
        ({"membership": "hovering"}, (400, "M_BAD_JSON")),
        ({"membership": 1}, (400, "M_BAD_JSON")),
        ({"membership": "join"}, (403, "M_FORBIDDEN")),
        ({"membership": "knock"}, (403, "M_FORBIDDEN")),
        ({"membership": "leave", "reason": 1}, (400, "M_BAD_JSON")),
    ],
)
async def test_what_cannot_be_done_to_another_member(town: Town, content: dict[str, Any], error: Any) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    answer = await alice.set_state(room_id, "m.room.member", content, bob.user_id)
    assert answer.error == error


async def test_the_state_key_of_a_member_is_a_user_id(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    for state_key in ("", "alice", "@alice"):
        answer = await alice.set_state(room_id, "m.room.member", {"membership": "invite"}, state_key)
        assert answer.error == (400, "M_INVALID_PARAM"), state_key


async def test_joins_cannot_name_who_vouches_for_them(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room(preset="public_chat")
    content = {"membership": "join", "join_authorised_via_users_server": alice.user_id}
    assert (await bob.set_state(room_id, "m.room.member", content, bob.user_id)).status == 200
    member = await alice.state(room_id, "m.room.member", bob.user_id)
    assert "join_authorised_via_users_server" not in member
