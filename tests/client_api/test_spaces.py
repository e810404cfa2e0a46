"""Rooms from outside: summaries, the rooms of a space, rooms that two people share."""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tests.people import Answer, Person, Town, Visitor

V1 = "/_matrix/client/v1"


async def ask(person: Visitor, *parts: str, **query: Any) -> Answer:
    """The answer to GET /_matrix/client/v1/part/part..."""
    path = V1 + "".join("/" + quote(part, safe="") for part in parts)
    texts = {name.rstrip("_"): str(value) for name, value in query.items() if value is not None}
    return await person.raw("GET", path + (f"?{urlencode(texts)}" if texts else ""))


async def make_space(person: Person, *children: str, name: str = "space", **wishes: Any) -> str:
    """A public space with these rooms in it."""
    space = await person.create_room(
        **{"preset": "public_chat", "name": name, "creation_content": {"type": "m.space"}, **wishes}
    )
    for child in children:
        await add_child(person, space, child)
    return space


async def add_child(person: Person, space: str, child: str, **content: Any) -> None:
    """Put a room into a space."""
    answer = await person.set_state(space, "m.space.child", {"via": ["hs"], **content}, child)
    assert answer.status == 200, answer


async def tree(person: Person, space: str, **query: Any) -> list[str]:
    """Ids of the rooms of a space, itself included, page by page."""
    found: list[str] = []
    start = None
    while True:
        answer = await ask(person, "rooms", space, "hierarchy", from_=start, **query)
        assert answer.status == 200, answer
        assert len(answer.body["rooms"]) <= query.get("limit", 100)
        found += [room["room_id"] for room in answer.body["rooms"]]
        if "next_batch" not in answer.body:
            return found
        start = answer.body["next_batch"]


class TestSummary:
    async def test_a_room_says_what_it_is(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        encryption = {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
        room_id = await alice.create_room(
            preset="public_chat",
            name="Cheese",
            topic="Tasty",
            room_alias_name="cheese",
            initial_state=[encryption],
        )
        summary = (await ask(bob, "room_summary", room_id)).body
        alias = f"#cheese:{town.server_name}"
        assert summary == {
            "room_id": room_id,
            "name": "Cheese",
            "topic": "Tasty",
            "canonical_alias": alias,
            "join_rule": "public",
            "world_readable": False,
            "guest_can_join": False,
            "num_joined_members": 1,
            "room_version": "12",
            "encryption": "m.megolm.v1.aes-sha2",
            "membership": "leave",
        }
        await bob.join(room_id)
        again = (await ask(bob, "room_summary", alias, via="elsewhere.example")).body
        assert again == {**summary, "membership": "join", "num_joined_members": 2}

    async def test_only_who_may_come_in_or_look_in_sees_it(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await alice.create_room(preset="private_chat")
        assert (await ask(bob, "room_summary", room_id)).error == (404, "M_NOT_FOUND")
        await alice.invite(room_id, bob.user_id)
        assert (await ask(bob, "room_summary", room_id)).body["membership"] == "invite"
        await bob.post("rooms", room_id, "leave")
        assert (await ask(bob, "room_summary", room_id)).status == 404
        await alice.set_state(room_id, "m.room.join_rules", {"join_rule": "knock"})
        assert (await ask(bob, "room_summary", room_id)).body["join_rule"] == "knock"
        await alice.post("rooms", room_id, "ban", body={"user_id": bob.user_id})
        assert (await ask(bob, "room_summary", room_id)).status == 404
        await alice.set_state(room_id, "m.room.history_visibility", {"history_visibility": "world_readable"})
        assert (await ask(bob, "room_summary", room_id)).body["membership"] == "ban"

    async def test_restricted_rooms_are_for_members_of_others(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        hall = await alice.create_room(preset="public_chat")
        room_id = await alice.create_room(preset="private_chat")
        allow = [{"type": "m.room_membership", "room_id": hall}, {"type": "x"}, 3]
        await alice.set_state(room_id, "m.room.join_rules", {"join_rule": "restricted", "allow": allow})
        assert (await ask(bob, "room_summary", room_id)).status == 404
        await bob.join(hall)
        assert (await ask(bob, "room_summary", room_id)).body["allowed_room_ids"] == [hall]

    async def test_who_has_no_token_sees_what_is_open_to_everybody(self, town: Town) -> None:
        alice = await town.person("alice")
        alias_name = alice.user_id[1:].partition(":")[0]
        room_id = await alice.create_room(preset="public_chat", room_alias_name=alias_name)
        theirs = dict((await ask(alice, "room_summary", room_id)).body)
        assert theirs.pop("membership") == "join"
        for what in (room_id, f"#{alias_name}:{town.server_name}"):
            assert (await ask(town.visitor, "room_summary", what)).body == theirs
        hall = await alice.create_room(preset="public_chat")
        allow = [{"type": "m.room_membership", "room_id": hall}]
        rules: list[tuple[dict[str, Any], int]] = [
            ({"join_rule": "invite"}, 404),
            ({"join_rule": "knock"}, 200),
            ({"join_rule": "restricted", "allow": allow}, 404),
            ({"join_rule": "knock_restricted", "allow": allow}, 200),
            ({"join_rule": "private"}, 404),
        ]
        for rule, status in rules:
            await alice.set_state(room_id, "m.room.join_rules", rule)
            answer = await ask(town.visitor, "room_summary", room_id)
            assert answer.status == status, rule
            assert "membership" not in answer.body
        await alice.set_state(room_id, "m.room.history_visibility", {"history_visibility": "world_readable"})
        assert (await ask(town.visitor, "room_summary", room_id)).body["world_readable"] is True

    async def test_a_token_that_is_none_is_refused(self, town: Town) -> None:
        alice = await town.person("alice")
        room_id = await alice.create_room(preset="public_chat")
        await alice.post("logout")
        assert (await ask(alice, "room_summary", room_id)).error == (401, "M_UNKNOWN_TOKEN")

    @pytest.mark.parametrize("what", ["!nothing:hs", "#nothing:hs", "nothing", "@user:hs", "!\x00"])
    async def test_what_is_not_there(self, town: Town, what: str) -> None:
        alice: Visitor = await town.person("alice")
        for person in (alice, town.visitor):
            answer = await ask(person, "room_summary", what)
            assert answer.status in (400, 404)
            assert answer.errcode in ("M_NOT_FOUND", "M_INVALID_PARAM")


class TestHierarchy:
    async def test_rooms_come_depth_first_and_once(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        rooms = [await alice.create_room(preset="public_chat", name=f"{n}") for n in range(4)]
        inner = await make_space(alice, rooms[1], rooms[2], name="inner")
        space = await make_space(alice, rooms[0], inner, rooms[3])
        # A ring, and a room that nobody knows.
        await add_child(alice, inner, space)
        await add_child(alice, space, "!unknown:elsewhere.example")
        expected = [space, rooms[0], inner, rooms[1], rooms[2], rooms[3]]
        assert await tree(bob, space) == expected
        for limit in (1, 2, 4, 6):
            assert await tree(bob, space, limit=limit) == expected
        assert await tree(bob, space, max_depth=1) == [space, rooms[0], inner, rooms[3]]
        assert await tree(bob, space, max_depth=0) == [space]
        # A room that is no space has nothing in it, whatever its state says.
        await add_child(alice, rooms[0], rooms[1])
        assert await tree(bob, rooms[0]) == [rooms[0]]

    async def test_children_are_told_in_their_order(self, town: Town) -> None:
        alice = await town.person("alice")
        rooms = [await alice.create_room(preset="public_chat") for _ in range(5)]
        space = await make_space(alice)
        await add_child(alice, space, rooms[0])
        await add_child(alice, space, rooms[1], order="\x7f invalid", suggested=True)
        await add_child(alice, space, rooms[2], order="b")
        await add_child(alice, space, rooms[3], order="a", suggested=True)
        await alice.set_state(space, "m.space.child", {}, rooms[4])
        body = (await ask(alice, "rooms", space, "hierarchy")).body
        expected = [rooms[3], rooms[2], rooms[0], rooms[1]]
        assert [room["room_id"] for room in body["rooms"]] == [space, *expected]
        children = body["rooms"][0]["children_state"]
        assert [child["state_key"] for child in children] == expected
        assert children[0]["content"] == {"via": ["hs"], "order": "a", "suggested": True}
        assert children[0]["origin_server_ts"] > 0
        assert body["rooms"][0]["room_type"] == "m.space"
        assert body["rooms"][1]["children_state"] == []
        assert await tree(alice, space, suggested_only="true") == [space, rooms[3], rooms[1]]

    async def test_rooms_that_one_may_not_join_are_left_out(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        private = await alice.create_room(preset="private_chat")
        hidden = await alice.create_room(preset="public_chat")
        closed = await make_space(alice, hidden, preset="private_chat")
        space = await make_space(alice, private, closed)
        assert await tree(bob, space) == [space]
        assert await tree(alice, space) == [space, private, closed, hidden]
        await alice.invite(private, bob.user_id)
        assert await tree(bob, space) == [space, private]
        assert (await ask(bob, "rooms", closed, "hierarchy")).error == (403, "M_FORBIDDEN")
        assert (await ask(bob, "rooms", "!nothing:hs", "hierarchy")).error == (403, "M_FORBIDDEN")

    async def test_the_question_stays_the_same_from_page_to_page(self, town: Town) -> None:
        alice = await town.person("alice")
        space = await make_space(alice, await alice.create_room(preset="public_chat"))
        token = (await ask(alice, "rooms", space, "hierarchy", limit=1)).body["next_batch"]
        for query in ({"max_depth": 3}, {"suggested_only": "true"}):
            answer = await ask(alice, "rooms", space, "hierarchy", from_=token, **query)
            assert answer.error == (400, "M_INVALID_PARAM")
        for query in ({"from": "x"}, {"limit": 0}, {"max_depth": -1}, {"from": "h9999999.1.1"}):
            assert (await ask(alice, "rooms", space, "hierarchy", **query)).status == 400


class TestMutualRooms:
    async def test_rooms_that_both_are_in(self, town: Town) -> None:
        alice, bob, carol = await town.people("alice", "bob", "carol")
        shared = [await alice.create_room(preset="public_chat") for _ in range(3)]
        await alice.create_room(preset="public_chat")
        for room_id in shared:
            await bob.join(room_id)
        await alice.invite(await alice.create_room(), bob.user_id)
        await bob.post("rooms", shared[1], "leave")
        assert (await ask(alice, "mutual_rooms", user_id=bob.user_id)).body == {
            "joined": [shared[0], shared[2]],
            "count": 2,
        }
        for user_id in (carol.user_id, "@nobody:elsewhere.example"):
            body = (await ask(alice, "mutual_rooms", user_id=user_id)).body
            assert body == {"joined": [], "count": 0}

    async def test_many_come_in_pages(
        self, make_local_town: Callable[..., Awaitable[Town]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("hs.client_api.spaces._SHARED_ROOMS", 2)
        town = await make_local_town()
        alice, bob = await town.people("alice", "bob")
        shared = [await alice.create_room(preset="public_chat") for _ in range(3)]
        for room_id in shared:
            await bob.join(room_id)
        unstable = "/_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms"
        for path, start, end in (
            (f"{V1}/mutual_rooms", "from", "next_batch"),
            (unstable, "batch_token", "next_batch_token"),
        ):
            first = (await alice.raw("GET", f"{path}?{urlencode({'user_id': bob.user_id})}")).body
            assert first.keys() == {"joined", "count", end}
            rest = urlencode({"user_id": bob.user_id, start: first[end]})
            last = (await alice.raw("GET", f"{path}?{rest}")).body
            assert last.keys() == {"joined", "count"}
            assert (first["joined"], last["joined"]) == (shared[:2], shared[2:])

    async def test_nonsense_is_refused(self, town: Town) -> None:
        alice = await town.person("alice")
        assert (await ask(alice, "mutual_rooms")).error == (400, "M_MISSING_PARAM")
        for query in (
            {"user_id": alice.user_id},
            {"user_id": "nobody"},
            {"user_id": "@a:hs", "from": "x"},
            {"user_id": "@a:hs", "from": "9" * 30},
        ):
            assert (await ask(alice, "mutual_rooms", **query)).error == (400, "M_INVALID_PARAM")
