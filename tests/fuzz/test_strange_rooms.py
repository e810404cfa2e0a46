"""Rooms whose state says what no client should: everybody inside can still read, talk, join and leave."""

from typing import Any

import pytest

from tests.fuzz.hostile import VALUES
from tests.people import Answer, Person, Town, path

pytestmark = [pytest.mark.fuzz, pytest.mark.slow]

# Content fields that this server looks into, by type.
FIELDS: dict[str, tuple[str, ...]] = {
    "m.room.create": ("type", "predecessor", "additional_creators", "m.federate", "room_version"),
    "m.room.name": ("name",),
    "m.room.topic": ("topic", "m.topic"),
    "m.room.avatar": ("url", "info"),
    "m.room.canonical_alias": ("alias", "alt_aliases"),
    "m.room.join_rules": ("join_rule", "allow"),
    "m.room.history_visibility": ("history_visibility",),
    "m.room.guest_access": ("guest_access",),
    "m.room.power_levels": ("users", "events", "notifications", "ban", "users_default", "invite"),
    "m.room.encryption": ("algorithm",),
    "m.room.server_acl": ("allow", "deny", "allow_ip_literals"),
    "m.room.tombstone": ("body", "replacement_room"),
    "m.space.child": ("via", "order", "suggested"),
    "m.room.third_party_invite": ("public_key", "public_keys", "display_name"),
}
MEMBER_FIELDS = ("displayname", "avatar_url", "is_direct", "third_party_invite", "reason")


def check(answer: Answer, what: Any) -> None:
    assert answer.status < 500, (what, answer)


async def look_around(person: Person, room_id: str, what: Any) -> None:
    """Every read that gathers state of the room."""
    for parts in (
        ("sync",),
        ("publicRooms",),
        ("rooms", room_id, "state"),
        ("rooms", room_id, "members"),
        ("rooms", room_id, "joined_members"),
        ("rooms", room_id, "aliases"),
        ("rooms", room_id, "messages"),
    ):
        query = {"dir": "b", "limit": "5"} if parts[-1] == "messages" else {}
        check(await person.get(*parts, **query), (parts, what))
    lazy = '{"room":{"state":{"lazy_load_members":true},"timeline":{"limit":1}}}'
    check(await person.get("sync", filter=lazy), ("lazy sync", what))


@pytest.mark.parametrize("version", ["1", "5", "9", "12"])
@pytest.mark.parametrize("type", sorted(FIELDS))
async def test_strange_state_breaks_nothing_for_those_inside(town: Town, type: str, version: str) -> None:
    alice, bob, carol = await town.people("alice", "bob", "carol")
    room_id = await alice.create_room(room_version=version, visibility="public", invite=[bob.user_id])
    await bob.join(room_id)
    since = (await bob.sync())["next_batch"]
    for field in FIELDS[type]:
        for value in VALUES:
            what = (type, field, value)
            check(await alice.set_state(room_id, type, {field: value}), what)
        # Whatever was let in last stays while people go on.
        await look_around(bob, room_id, (type, field))
        check(await carol.post("join", room_id), (type, field))
        message = await bob.put(
            "rooms", room_id, "send", "m.room.message", field, body={"body": "still here"}
        )
        check(message, (type, field))
        check(await carol.post("rooms", room_id, "leave"), (type, field))
        check(await bob.get("sync", since=since), (type, field))


@pytest.mark.parametrize("version", ["1", "12"])
async def test_strange_members_break_nothing_for_those_inside(town: Town, version: str) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room(room_version=version, preset="public_chat")
    await bob.join(room_id)
    for field in MEMBER_FIELDS:
        for value in VALUES:
            content = {"membership": "join", field: value}
            check(await alice.set_state(room_id, "m.room.member", content, alice.user_id), (field, value))
        await look_around(bob, room_id, field)


@pytest.mark.parametrize(
    "type", ["m.room.message", "m.reaction", "m.room.redaction", "m.room.encrypted", "m.poll.start"]
)
async def test_strange_messages_break_nothing_for_those_inside(town: Town, type: str) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    event_id = await alice.say(room_id, "target")
    for number, value in enumerate(VALUES):
        for field, content in (
            ("body", {"body": value, "msgtype": value}),
            ("relation", {"m.relates_to": value}),
            ("annotation", {"m.relates_to": {"rel_type": "m.annotation", "event_id": value, "key": value}}),
            ("thread", {"m.relates_to": {"rel_type": value, "event_id": event_id}}),
            (
                "edit",
                {"m.new_content": value, "m.relates_to": {"rel_type": "m.replace", "event_id": event_id}},
            ),
            ("mentions", {"m.mentions": value, "body": "@room"}),
            ("users", {"m.mentions": {"user_ids": value, "room": value}}),
            ("redacts", {"redacts": value}),
        ):
            answer = await alice.put("rooms", room_id, "send", type, f"{field}{number}", body=content)
            check(answer, (type, field, value))
    await look_around(bob, room_id, type)
    check(await bob.raw("GET", path("rooms", room_id, "context", event_id) + "?limit=100"), type)
