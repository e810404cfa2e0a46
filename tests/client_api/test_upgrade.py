"""POST /rooms/{roomId}/upgrade."""

import asyncio
from typing import Any

import pytest

from tests.people import Answer, Person, Town

OLD = "9"


async def ask_upgrade(person: Person, room_id: str, version: str = "12", **more: Any) -> Answer:
    """The answer to an upgrade."""
    return await person.post("rooms", room_id, "upgrade", body={"new_version": version, **more})


async def upgrade(person: Person, room_id: str, version: str = "12", **more: Any) -> str:
    """The id of the new room."""
    answer = await ask_upgrade(person, room_id, version, **more)
    assert answer.status == 200, answer
    new_id: str = answer.body["replacement_room"]
    assert new_id != room_id
    return new_id


def state(type: str, content: dict[str, Any], state_key: str = "") -> dict[str, Any]:
    """An entry of initial_state."""
    return {"type": type, "state_key": state_key, "content": content}


async def membership(person: Person, room_id: str, user_id: str) -> str | None:
    """A user's membership as another sees it."""
    event = await person.state(room_id, "m.room.member", user_id)
    return None if event is None else str(event["membership"])


class TestNewRoom:
    @pytest.mark.parametrize("old", ["1", "2", "5", "9", "11", "12"])
    @pytest.mark.parametrize("new", ["1", "6", "10", "11", "12"])
    async def test_from_every_kind_of_version_to_every_other(self, town: Town, old: str, new: str) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await alice.create_room(room_version=old, preset="public_chat", name="Den", topic="quiet")
        await bob.join(room_id)
        last = await bob.say(room_id, "last words")
        new_id = await upgrade(alice, room_id, new)
        create = await alice.state(new_id, "m.room.create")
        assert create["room_version"] == new
        assert create["predecessor"] == {"room_id": room_id} | ({} if new == "12" else {"event_id": last})
        assert (await alice.state(new_id, "m.room.name"))["name"] == "Den"
        assert (await alice.state(new_id, "m.room.topic"))["topic"] == "quiet"
        tombstone = await bob.state(room_id, "m.room.tombstone")
        assert tombstone["replacement_room"] == new_id
        # People follow, may talk there, and no longer here.
        await bob.join(new_id)
        await bob.say(new_id, "here I am")
        refused = await bob.put("rooms", room_id, "send", "m.room.message", "t", body={"body": "x"})
        assert refused.error == (403, "M_FORBIDDEN")
        assert (await alice.set_state(new_id, "m.room.name", {"name": "New den"})).status == 200
        assert (await bob.set_state(new_id, "m.room.name", {"name": "Mine"})).error == (403, "M_FORBIDDEN")

    async def test_what_describes_the_room_is_copied(self, town: Town) -> None:
        alice = await town.person("alice")
        space = await alice.create_room(creation_content={"type": "m.space"})
        copied = [
            state("m.room.avatar", {"url": "mxc://test.example/avatar"}),
            state(
                "m.room.join_rules",
                {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": space}]},
            ),
            state("m.room.history_visibility", {"history_visibility": "joined"}),
            state("m.room.guest_access", {"guest_access": "forbidden"}),
            state("m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"}),
            state("m.room.server_acl", {"allow": ["*"], "deny": ["evil.example"]}),
        ]
        left = [
            state("org.example.widget", {"by": "alice"}, "one"),
            state("m.room.pinned_events", {"pinned": []}),
        ]
        room_id = await alice.create_room(room_version=OLD, initial_state=copied + left)
        new_id = await upgrade(alice, room_id)
        for entry in copied:
            assert await alice.state(new_id, entry["type"]) == entry["content"], entry["type"]
        for entry in left:
            assert await alice.state(new_id, entry["type"], entry["state_key"]) is None

    async def test_a_room_without_some_of_it_upgrades_too(self, town: Town) -> None:
        alice = await town.person("alice")
        room_id = await alice.create_room(room_version=OLD)
        new_id = await upgrade(alice, room_id, "11")
        for type in ("m.room.name", "m.room.canonical_alias", "m.room.encryption"):
            assert await alice.state(new_id, type) is None

    async def test_the_type_and_federation_of_the_room_stay(self, town: Town) -> None:
        alice = await town.person("alice")
        room_id = await alice.create_room(
            room_version=OLD, creation_content={"type": "m.space", "m.federate": False, "org.example": 1}
        )
        kept, gone = await alice.create_room(), await alice.create_room()
        child = {"via": [town.server_name], "order": "a"}
        await alice.set_state(room_id, "m.space.child", child, kept)
        await alice.set_state(room_id, "m.space.child", child, gone)
        await alice.set_state(room_id, "m.space.child", {}, gone)
        new_id = await upgrade(alice, room_id)
        create = await alice.state(new_id, "m.room.create")
        assert (create["type"], create["m.federate"]) == ("m.space", False)
        assert "org.example" not in create
        assert await alice.state(new_id, "m.space.child", kept) == child
        assert await alice.state(new_id, "m.space.child", gone) is None

    async def test_only_spaces_have_children_to_copy(self, town: Town) -> None:
        alice = await town.person("alice")
        room_id = await alice.create_room(room_version=OLD)
        await alice.set_state(room_id, "m.space.child", {"via": [town.server_name]}, "!a:b")
        assert await alice.state(await upgrade(alice, room_id), "m.space.child", "!a:b") is None

    async def test_the_banned_stay_banned_and_others_must_come_by_themselves(self, town: Town) -> None:
        alice, bob, carol, mallory = await town.people("alice", "bob", "carol", "mallory")
        room_id = await alice.create_room(room_version=OLD, preset="public_chat", invite=[carol.user_id])
        await bob.join(room_id)
        ban = {"user_id": mallory.user_id, "reason": "noise"}
        assert (await alice.post("rooms", room_id, "ban", body=ban)).status == 200
        for new in ("11", "12"):
            new_id = await upgrade(alice, room_id, new)
            event = await alice.state(new_id, "m.room.member", mallory.user_id)
            assert (event["membership"], event["reason"]) == ("ban", "noise")
            assert (await mallory.post("join", new_id)).error == (403, "M_FORBIDDEN")
            assert await membership(alice, new_id, alice.user_id) == "join"
            for other in (bob, carol):
                assert await membership(alice, new_id, other.user_id) is None

    @pytest.mark.parametrize(
        ("rule", "new", "becomes"),
        [
            ("knock", "6", "invite"),
            ("knock", "7", "knock"),
            ("restricted", "7", "invite"),
            ("restricted", "8", "restricted"),
            ("knock_restricted", "9", "restricted"),
            ("knock_restricted", "7", "invite"),
            ("knock_restricted", "12", "knock_restricted"),
        ],
    )
    async def test_join_rules_are_those_that_the_version_knows(
        self, town: Town, rule: str, new: str, becomes: str
    ) -> None:
        alice = await town.person("alice")
        rules = state("m.room.join_rules", {"join_rule": rule, "allow": []})
        room_id = await alice.create_room(room_version="11", initial_state=[rules])
        new_id = await upgrade(alice, room_id, new)
        assert (await alice.state(new_id, "m.room.join_rules"))["join_rule"] == becomes

    async def test_what_strict_versions_refuse_is_left_behind(self, town: Town) -> None:
        alice = await town.person("alice")
        room_id = await alice.create_room(room_version="5", name="Den")
        assert (await alice.set_state(room_id, "m.room.topic", {"topic": "x", "n": 1.5})).status == 200
        new_id = await upgrade(alice, room_id, "10")
        assert await alice.state(new_id, "m.room.topic") is None
        assert (await alice.state(new_id, "m.room.name"))["name"] == "Den"


class TestPowerLevels:
    async def test_levels_stay_as_they_were(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        override = {
            "users": {alice.user_id: 100, bob.user_id: 50},
            "events": {"m.room.name": 75, "org.example": 5},
            "invite": 10,
        }
        room_id = await alice.create_room(room_version=OLD, power_level_content_override=override)
        before = await alice.state(room_id, "m.room.power_levels")
        assert await alice.state(await upgrade(alice, room_id, "11"), "m.room.power_levels") == before

    async def test_creators_of_version_12_are_in_no_list(self, town: Town) -> None:
        alice, bob, carol = await town.people("alice", "bob", "carol")
        users = {alice.user_id: 100, bob.user_id: 100, carol.user_id: 50}
        room_id = await alice.create_room(
            room_version="11", power_level_content_override={"users": users, "events": {}}
        )
        new_id = await upgrade(alice, room_id, "12", additional_creators=[carol.user_id])
        levels = await alice.state(new_id, "m.room.power_levels")
        assert levels["users"] == {bob.user_id: 100}
        assert levels["events"]["m.room.tombstone"] == 150
        create = await alice.state(new_id, "m.room.create")
        assert create["additional_creators"] == [carol.user_id]

    async def test_creators_are_not_inherited(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await alice.create_room(creation_content={"additional_creators": [bob.user_id]})
        create = await alice.state(await upgrade(alice, room_id), "m.room.create")
        assert "additional_creators" not in create

    async def test_older_versions_list_those_who_were_creators(self, town: Town) -> None:
        alice, bob, carol = await town.people("alice", "bob", "carol")
        room_id = await alice.create_room(
            creation_content={"additional_creators": [bob.user_id]},
            power_level_content_override={"users": {carol.user_id: 120}},
        )
        new_id = await upgrade(alice, room_id, "11", additional_creators=["ignored"])
        assert "additional_creators" not in await alice.state(new_id, "m.room.create")
        users = (await alice.state(new_id, "m.room.power_levels"))["users"]
        assert users == {alice.user_id: 150, bob.user_id: 150, carol.user_id: 120}

    async def test_levels_that_are_strings_become_numbers(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await alice.create_room(room_version="9")
        levels = {
            "users": {alice.user_id: "100", bob.user_id: " +50 "},
            "events": {"m.room.tombstone": "60"},
            "state_default": "55",
            "notifications": {"room": "20"},
        }
        assert (await alice.set_state(room_id, "m.room.power_levels", levels)).status == 200
        new_id = await upgrade(alice, room_id, "11")
        assert await alice.state(new_id, "m.room.power_levels") == {
            "users": {alice.user_id: 100, bob.user_id: 50},
            "events": {"m.room.tombstone": 60},
            "state_default": 55,
            "notifications": {"room": 20},
        }

    async def test_levels_that_are_fractions_become_numbers(self, town: Town) -> None:
        alice = await town.person("alice")
        levels = {"users": {alice.user_id: 100.5}, "invite": 1.5, "org.example": 1.5, "org.example.2": "x"}
        for version in ("6", "11"):
            room_id = await alice.create_room(room_version="5")
            assert (await alice.set_state(room_id, "m.room.power_levels", levels)).status == 200
            assert await alice.state(await upgrade(alice, room_id, version), "m.room.power_levels") == {
                "users": {alice.user_id: 100},
                "events": {},
                "invite": 1,
                "org.example.2": "x",
            }

    async def test_a_moderator_may_upgrade_where_the_room_lets_them(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        levels = {"users": {alice.user_id: 100, bob.user_id: 50}, "events": {"m.room.tombstone": 50}}
        acl = state("m.room.server_acl", {"allow": ["*"]})
        room_id = await alice.create_room(
            room_version=OLD,
            preset="public_chat",
            power_level_content_override=levels,
            initial_state=[acl, state("m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"})],
        )
        await bob.join(room_id)
        new_id = await upgrade(bob, room_id, "11")
        users = (await bob.state(new_id, "m.room.power_levels"))["users"]
        # Power is not what one gets out of it.
        assert users == {alice.user_id: 100, bob.user_id: 50}
        assert await bob.state(new_id, "m.room.server_acl") == acl["content"]


class TestOldRoom:
    async def test_nobody_but_moderators_talks_or_invites_there(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        events = {"m.room.message": 0, "m.room.redaction": 0, "m.room.power_levels": 100}
        room_id = await alice.create_room(
            room_version=OLD, preset="private_chat", power_level_content_override={"events": events}
        )
        await alice.invite(room_id, bob.user_id)
        await bob.join(room_id)
        await upgrade(alice, room_id)
        levels = await bob.state(room_id, "m.room.power_levels")
        assert (levels["events_default"], levels["invite"]) == (50, 50)
        assert levels["events"] == {"m.room.message": 50, "m.room.redaction": 0, "m.room.power_levels": 100}
        refused = await bob.put("rooms", room_id, "send", "m.room.message", "t", body={"body": "x"})
        assert refused.error == (403, "M_FORBIDDEN")
        await alice.say(room_id, "the end")

    async def test_levels_that_are_high_already_stay(self, town: Town) -> None:
        alice = await town.person("alice")
        override = {"events_default": 70, "invite": 80, "users_default": 60}
        room_id = await alice.create_room(room_version=OLD, power_level_content_override=override)
        before = await alice.state(room_id, "m.room.power_levels")
        await upgrade(alice, room_id)
        levels = await alice.state(room_id, "m.room.power_levels")
        assert {k: v for k, v in levels.items() if k != "events"} == {
            k: v for k, v in before.items() if k != "events"
        }

    async def test_who_may_not_change_levels_leaves_them(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        levels = {"users": {alice.user_id: 100, bob.user_id: 50}, "events": {"m.room.tombstone": 50}}
        for more in ({}, {"m.room.power_levels": 50, "m.room.message": 60}):
            override = {**levels, "events": {**levels["events"], **more}, "users_default": 55}
            room_id = await alice.create_room(
                room_version=OLD, preset="public_chat", power_level_content_override=override
            )
            await bob.join(room_id)
            before = await alice.state(room_id, "m.room.power_levels")
            new_id = await upgrade(bob, room_id)
            assert (await alice.state(room_id, "m.room.tombstone"))["replacement_room"] == new_id
            assert await alice.state(room_id, "m.room.power_levels") == before


class TestDirectory:
    async def test_aliases_and_the_published_entry_move(self, town: Town) -> None:
        alice = await town.person("alice")
        localpart = alice.user_id[1:].partition(":")[0]
        main, other = [f"#{name}:{town.server_name}" for name in (localpart, localpart + "-2")]
        foreign = "#elsewhere:other.example"
        canonical = state("m.room.canonical_alias", {"alias": main, "alt_aliases": [foreign], "note": "x"})
        room_id = await alice.create_room(
            room_version=OLD, visibility="public", room_alias_name=localpart, initial_state=[canonical]
        )
        await alice.put("directory", "room", other, body={"room_id": room_id})
        new_id = await upgrade(alice, room_id)
        for alias in (main, other):
            assert (await town.visitor.get("directory", "room", alias)).body["room_id"] == new_id
        assert await alice.state(new_id, "m.room.canonical_alias") == {"alias": main, "note": "x"}
        # What other servers point here stays.
        assert await alice.state(room_id, "m.room.canonical_alias") == {"alt_aliases": [foreign], "note": "x"}
        listed = [
            (await town.visitor.get("directory", "list", "room", one)).body["visibility"]
            for one in (room_id, new_id)
        ]
        assert listed == ["private", "public"]

    async def test_a_private_room_stays_private(self, town: Town) -> None:
        alice = await town.person("alice")
        new_id = await upgrade(alice, await alice.create_room(room_version=OLD))
        listed = await town.visitor.get("directory", "list", "room", new_id)
        assert listed.body == {"visibility": "private"}


class TestRepetition:
    async def test_the_same_upgrade_twice_is_one(self, town: Town) -> None:
        alice = await town.person("alice")
        room_id = await alice.create_room(room_version=OLD)
        new_id = await upgrade(alice, room_id)
        assert await upgrade(alice, room_id) == new_id
        assert len((await alice.get("joined_rooms")).body["joined_rooms"]) == 2

    async def test_requests_at_the_same_time_make_one_room(self, town: Town) -> None:
        alice = await town.person("alice")
        room_id = await alice.create_room(room_version=OLD)
        found = await asyncio.gather(*(upgrade(alice, room_id) for _ in range(5)))
        assert len(set(found)) == 1
        assert len((await alice.get("joined_rooms")).body["joined_rooms"]) == 2

    async def test_another_version_is_another_upgrade(self, town: Town) -> None:
        alice = await town.person("alice")
        room_id = await alice.create_room(room_version=OLD)
        levels = await alice.state(room_id, "m.room.power_levels")
        first, second = await upgrade(alice, room_id, "10"), await upgrade(alice, room_id, "11")
        assert first != second
        assert (await alice.state(room_id, "m.room.tombstone"))["replacement_room"] == second
        # The new room is as the old one was when it was in use.
        assert (await alice.state(room_id, "m.room.power_levels"))["events_default"] == 50
        for one in (first, second):
            assert await alice.state(one, "m.room.power_levels") == levels

    @pytest.mark.parametrize("replacement", [None, 5, "", "!nowhere:test.example", "no room", "\x00"])
    async def test_a_tombstone_that_leads_nowhere_is_replaced(self, town: Town, replacement: Any) -> None:
        alice = await town.person("alice")
        room_id = await alice.create_room(room_version=OLD)
        content = {"body": "gone", "replacement_room": replacement}
        assert (await alice.set_state(room_id, "m.room.tombstone", content)).status == 200
        new_id = await upgrade(alice, room_id)
        assert (await alice.state(room_id, "m.room.tombstone"))["replacement_room"] == new_id

    async def test_a_room_that_names_no_predecessor_is_no_successor(self, town: Town) -> None:
        alice = await town.person("alice")
        room_id, other = await alice.create_room(room_version=OLD), await alice.create_room()
        await alice.set_state(room_id, "m.room.tombstone", {"body": "gone", "replacement_room": other})
        assert await upgrade(alice, room_id) != other


class TestRefusals:
    async def test_it_takes_the_level_of_the_tombstone(self, town: Town) -> None:
        alice, bob, carol = await town.people("alice", "bob", "carol")
        override = {"users": {alice.user_id: 100, bob.user_id: 99}}
        room_id = await alice.create_room(
            room_version=OLD, preset="public_chat", power_level_content_override=override
        )
        await bob.join(room_id)
        for person in (bob, carol):
            assert (await ask_upgrade(person, room_id)).error == (403, "M_FORBIDDEN")
            rooms = (await person.get("joined_rooms")).body["joined_rooms"]
            assert rooms == ([room_id] if person is bob else [])
        assert await alice.state(room_id, "m.room.tombstone") is None
        await alice.post("rooms", room_id, "leave")
        assert (await ask_upgrade(alice, room_id)).error == (403, "M_FORBIDDEN")

    async def test_unknown_rooms_are_not_ones_own(self, town: Town) -> None:
        alice = await town.person("alice")
        assert (await ask_upgrade(alice, "!unknown:test.example")).error == (403, "M_FORBIDDEN")
        assert (await ask_upgrade(alice, "no room")).error == (400, "M_INVALID_PARAM")

    @pytest.mark.parametrize("version", ["13.from.the.future", "", "\x00", "x" * 10_000])
    async def test_unknown_versions(self, town: Town, version: str) -> None:
        alice = await town.person("alice")
        room_id = await alice.create_room(room_version=OLD)
        assert (await ask_upgrade(alice, room_id, version)).error == (400, "M_UNSUPPORTED_ROOM_VERSION")
        assert await alice.state(room_id, "m.room.tombstone") is None

    @pytest.mark.parametrize(
        ("body", "errcode"),
        [
            ({}, "M_BAD_JSON"),
            ({"new_version": 12}, "M_BAD_JSON"),
            ({"new_version": "12", "additional_creators": "@a:b"}, "M_BAD_JSON"),
            ({"new_version": "12", "additional_creators": [5]}, "M_BAD_JSON"),
            ({"new_version": "12", "additional_creators": ["nobody"]}, "M_INVALID_PARAM"),
            ({"new_version": "12", "additional_creators": ["@a:b\x00"]}, "M_INVALID_PARAM"),
            (
                {"new_version": "12", "additional_creators": [f"@{n}:b.example" for n in range(101)]},
                "M_INVALID_PARAM",
            ),
        ],
    )
    async def test_wrong_bodies_change_nothing(self, town: Town, body: dict[str, Any], errcode: str) -> None:
        alice = await town.person("alice")
        room_id = await alice.create_room(room_version=OLD)
        answer = await alice.post("rooms", room_id, "upgrade", body=body)
        assert answer.error == (400, errcode)
        assert (await alice.get("joined_rooms")).body["joined_rooms"] == [room_id]

    async def test_it_takes_a_token(self, town: Town) -> None:
        answer = await town.visitor.post("rooms", "!a:b", "upgrade", body={"new_version": "12"})
        assert answer.error == (401, "M_MISSING_TOKEN")

    async def test_null_for_no_creators_is_fine(self, town: Town) -> None:
        alice = await town.person("alice")
        await upgrade(alice, await alice.create_room(room_version=OLD), additional_creators=None)
