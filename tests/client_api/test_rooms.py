"""POST /createRoom."""

from typing import Any

import pytest

from tests.people import Person, Town


async def test_a_private_room_has_the_preset_of_the_spec(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room(name="Den", topic="quiet")
    assert (await alice.state(room_id, "m.room.join_rules"))["join_rule"] == "invite"
    assert (await alice.state(room_id, "m.room.history_visibility"))["history_visibility"] == "shared"
    assert (await alice.state(room_id, "m.room.guest_access"))["guest_access"] == "can_join"
    assert (await alice.state(room_id, "m.room.name"))["name"] == "Den"
    assert (await alice.state(room_id, "m.room.topic"))["topic"] == "quiet"
    assert (await alice.state(room_id, "m.room.member", alice.user_id))["membership"] == "join"


async def test_public_visibility_means_the_public_preset(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room(visibility="public")
    assert (await alice.state(room_id, "m.room.join_rules"))["join_rule"] == "public"
    # None is "forbidden".
    assert await alice.state(room_id, "m.room.guest_access") is None
    listed = await town.visitor.get("directory", "list", "room", room_id)
    assert listed.body == {"visibility": "public"}


async def test_new_rooms_are_version_12_and_their_id_is_a_hash(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    assert (await alice.state(room_id, "m.room.create"))["room_version"] == "12"
    assert ":" not in room_id
    powers = await alice.state(room_id, "m.room.power_levels")
    assert alice.user_id not in powers["users"]
    assert powers["events"]["m.room.tombstone"] > powers["state_default"]


@pytest.mark.parametrize("version", [str(number) for number in range(1, 13)])
async def test_every_room_version_carries_a_conversation(town: Town, version: str) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room(room_version=version, invite=[bob.user_id])
    assert (await alice.state(room_id, "m.room.create"))["room_version"] == version
    await bob.join(room_id)
    event_id = await bob.say(room_id, f"hello from version {version}")
    assert (await alice.get("rooms", room_id, "event", event_id)).body["content"]["body"].endswith(version)
    answer = await bob.put("rooms", room_id, "redact", event_id, "txn", body={"reason": "test"})
    assert answer.status == 200, answer
    redacted = (await alice.get("rooms", room_id, "event", event_id)).body
    assert redacted["content"] == {}
    assert redacted["unsigned"]["redacted_because"]["event_id"] == answer.body["event_id"]


@pytest.mark.parametrize("version", ["13.from.the.future", ""])
async def test_an_unknown_room_version_is_refused(town: Town, version: str) -> None:
    alice = await town.person("alice")
    answer = await alice.post("createRoom", body={"room_version": version})
    assert answer.error == (400, "M_UNSUPPORTED_ROOM_VERSION")


async def test_later_parts_of_the_request_win_over_earlier_ones(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room(
        preset="private_chat",
        name="from the name",
        initial_state=[
            {"type": "m.room.name", "content": {"name": "from the initial state"}},
            {"type": "m.room.join_rules", "content": {"join_rule": "knock"}},
            {"type": "org.example.box", "state_key": "left", "content": {"size": 3}},
        ],
        power_level_content_override={"events_default": 5},
        creation_content={"m.federate": False, "room_version": "1", "creator": "@mallory:elsewhere"},
    )
    assert (await alice.state(room_id, "m.room.name"))["name"] == "from the name"
    assert (await alice.state(room_id, "m.room.join_rules"))["join_rule"] == "knock"
    assert await alice.state(room_id, "org.example.box", "left") == {"size": 3}
    assert (await alice.state(room_id, "m.room.power_levels"))["events_default"] == 5
    create = await alice.state(room_id, "m.room.create")
    assert create == {"m.federate": False, "room_version": "12"}


async def test_invited_people_of_a_trusted_room_are_creators_too(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room(preset="trusted_private_chat", invite=[bob.user_id], is_direct=True)
    assert (await alice.state(room_id, "m.room.create"))["additional_creators"] == [bob.user_id]
    invite = await alice.state(room_id, "m.room.member", bob.user_id)
    assert (invite["membership"], invite["is_direct"]) == ("invite", True)
    await bob.join(room_id)
    assert (await bob.set_state(room_id, "m.room.name", {"name": "bob was here"})).status == 200


async def test_an_alias_comes_with_the_room_and_only_once(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    localpart = alice.user_id[1:].partition(":")[0] + "-pub"
    room_id = await alice.create_room(room_alias_name=localpart)
    alias = f"#{localpart}:{town.server_name}"
    assert (await alice.state(room_id, "m.room.canonical_alias"))["alias"] == alias
    assert (await town.visitor.get("directory", "room", alias)).body["room_id"] == room_id

    before = (await bob.get("joined_rooms")).body
    taken = await bob.post("createRoom", body={"room_alias_name": localpart})
    assert taken.error == (400, "M_ROOM_IN_USE")
    assert (await bob.get("joined_rooms")).body == before


@pytest.mark.parametrize(
    ("request_body", "errcode"),
    [
        ({"room_alias_name": "with:colon"}, "M_INVALID_PARAM"),
        ({"room_alias_name": "x" * 300}, "M_INVALID_PARAM"),
        ({"room_alias_name": "nul\x00"}, "M_INVALID_PARAM"),
        ({"invite": ["no user id"]}, "M_INVALID_PARAM"),
        ({"invite": "@a:b"}, "M_BAD_JSON"),
        ({"preset": "unheard_of"}, "M_BAD_JSON"),
        ({"visibility": "secret"}, "M_BAD_JSON"),
        ({"initial_state": [{"type": "m.room.name"}]}, "M_BAD_JSON"),
        ({"initial_state": [{"type": "m.room.create", "content": {}}]}, "M_BAD_JSON"),
        ({"creation_content": []}, "M_BAD_JSON"),
        ({"name": 5}, "M_BAD_JSON"),
        ({"initial_state": [{"type": "a", "content": {"pi": 3.14}}]}, "M_BAD_JSON"),
        ({"power_level_content_override": {"users": {"@nobody": 1}}}, "M_INVALID_ROOM_STATE"),
        ({"power_level_content_override": {"events_default": "high"}}, "M_INVALID_ROOM_STATE"),
    ],
)
async def test_wrong_requests_are_told_what_is_wrong(
    town: Town, request_body: dict[str, Any], errcode: str
) -> None:
    alice = await town.person("alice")
    answer = await alice.post("createRoom", body=request_body)
    assert answer.error == (400, errcode), answer
    assert (await alice.get("joined_rooms")).body == {"joined_rooms": []}


async def test_null_is_the_same_as_nothing(town: Town) -> None:
    alice = await town.person("alice")
    fields = ("visibility", "room_alias_name", "name", "topic", "invite", "invite_3pid", "room_version")
    more = ("creation_content", "preset", "is_direct", "power_level_content_override")
    entry = {"type": "org.example", "state_key": None, "content": {"kept": None}}
    body: dict[str, Any] = dict.fromkeys((*fields, *more)) | {"initial_state": [entry]}
    room_id = await alice.create_room(**body)
    assert (await alice.state(room_id, "m.room.join_rules"))["join_rule"] == "invite"
    assert await alice.state(room_id, "m.room.name") is None
    assert await alice.state(room_id, "org.example") == {"kept": None}
    await alice.create_room(initial_state=None)
    entry = {"type": None, "content": {}}
    assert (await alice.post("createRoom", body={"initial_state": [entry]})).error == (400, "M_BAD_JSON")


async def test_members_in_the_initial_state(town: Town) -> None:
    alice, bob, mallory = await town.people("alice", "bob", "mallory")

    def member(person: Person, **content: Any) -> dict[str, Any]:
        return {"type": "m.room.member", "state_key": person.user_id, "content": content}

    room_id = await alice.create_room(
        initial_state=[
            member(alice, membership="join", displayname="Alice of the den"),
            member(bob, membership="invite"),
            member(mallory, membership="ban", reason="noise"),
        ]
    )
    assert (await alice.state(room_id, "m.room.member", alice.user_id))["displayname"] == "Alice of the den"
    await bob.join(room_id)
    assert (await mallory.post("join", room_id)).error == (403, "M_FORBIDDEN")
    for entry in (
        member(alice, membership="leave"),
        member(alice, membership="ban"),
        member(alice, membership="invite"),
        member(alice),
        member(bob, membership="join"),
        member(bob, membership="leave"),
        member(bob, membership="knock"),
        member(bob, membership=["invite"]),
        member(bob),
    ):
        answer = await alice.post("createRoom", body={"initial_state": [entry]})
        assert answer.error == (400, "M_INVALID_ROOM_STATE"), entry
    for state_key in ("", "bob", "@bob"):
        entry = {"type": "m.room.member", "state_key": state_key, "content": {"membership": "ban"}}
        answer = await alice.post("createRoom", body={"initial_state": [entry]})
        assert answer.error == (400, "M_INVALID_PARAM"), entry
    assert (await alice.get("joined_rooms")).body == {"joined_rooms": [room_id]}


async def test_a_room_that_denies_its_own_server_is_not_made(town: Town) -> None:
    alice = await town.person("alice")
    for content in ({}, {"allow": ["*"], "deny": [town.server_name]}):
        acl = {"type": "m.room.server_acl", "content": content}
        answer = await alice.post("createRoom", body={"initial_state": [acl]})
        assert answer.error == (400, "M_INVALID_PARAM")
    acl = {"type": "m.room.server_acl", "content": {"allow": [town.server_name]}}
    await alice.create_room(initial_state=[acl])


async def test_invites_by_email_are_denied(town: Town) -> None:
    alice = await town.person("alice")
    invite = {"id_server": "id.example", "id_access_token": "t", "medium": "email", "address": "a@b.example"}
    answer = await alice.post("createRoom", body={"invite_3pid": [invite]})
    assert answer.error == (403, "M_THREEPID_DENIED")


async def test_a_power_level_that_locks_the_creator_out_fails_in_old_versions(town: Town) -> None:
    alice = await town.person("alice")
    override = {"users": {alice.user_id: 0}}
    answer = await alice.post(
        "createRoom", body={"room_version": "11", "name": "x", "power_level_content_override": override}
    )
    assert answer.error == (400, "M_INVALID_ROOM_STATE")
