"""Single events, state and members: of now, of a moment, and of when one left."""

from typing import Any

import pytest

from tests.client_api.sync_client import members_of, state_keys, sync
from tests.people import Person, Town


async def members(person: Person, room_id: str, **query: str) -> dict[str, str]:
    """{user: membership} by GET /members."""
    answer = await person.ask("GET", "rooms", room_id, "members", query=query)
    assert answer.status == 200, answer
    chunk: list[Any] = answer.body["chunk"]
    assert all(event["type"] == "m.room.member" and event["room_id"] == room_id for event in chunk)
    return {event["state_key"]: event["content"]["membership"] for event in chunk}


async def test_an_event_is_read_by_its_id(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    event_id = await alice.say(room_id, "hello", txn="txn-e")
    answer = await alice.get("rooms", room_id, "event", event_id)
    assert answer.status == 200, answer
    event = answer.body
    assert (event["event_id"], event["room_id"], event["sender"]) == (event_id, room_id, alice.user_id)
    assert event["content"] == {"msgtype": "m.text", "body": "hello"}
    assert event["unsigned"]["transaction_id"] == "txn-e"


async def test_events_that_one_may_not_see_are_not_found(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room(preset="public_chat")
    other = await alice.create_room()
    event_id = await alice.say(room_id, "inside")
    assert (await bob.get("rooms", room_id, "event", event_id)).status in (403, 404)
    assert (await alice.get("rooms", room_id, "event", "$nothing")).error == (404, "M_NOT_FOUND")
    assert (await alice.get("rooms", other, "event", event_id)).error == (404, "M_NOT_FOUND")
    await bob.join(room_id)
    assert (await bob.get("rooms", room_id, "event", event_id)).status == 200
    await bob.post("rooms", room_id, "leave")
    later = await alice.say(room_id, "without bob")
    assert (await bob.get("rooms", room_id, "event", event_id)).status == 200
    assert (await bob.get("rooms", room_id, "event", later)).error == (404, "M_NOT_FOUND")


class TestState:
    async def test_state_is_read_by_type_and_key(self, town: Town) -> None:
        alice = await town.person("alice")
        room_id = await alice.create_room(topic="Roses")
        plain = await alice.raw("GET", f"/_matrix/client/v3/rooms/{room_id}/state/m.room.join_rules")
        slash = await alice.raw("GET", f"/_matrix/client/v3/rooms/{room_id}/state/m.room.join_rules/")
        assert plain.body == slash.body == {"join_rule": "invite"}
        await alice.set_state(room_id, "com.example.note", {"text": "x"}, "a/b c")
        assert await alice.state(room_id, "com.example.note", "a/b c") == {"text": "x"}
        assert (await alice.get("rooms", room_id, "state", "com.example.note", "")).error == (
            404,
            "M_NOT_FOUND",
        )

    async def test_state_can_be_read_as_a_whole_event(self, town: Town) -> None:
        alice = await town.person("alice")
        room_id = await alice.create_room(topic="Roses")
        event = (await alice.get("rooms", room_id, "state", "m.room.topic", format="event")).body
        assert event["type"] == "m.room.topic"
        assert event["content"]["topic"] == "Roses"
        assert event["room_id"] == room_id
        answer = await alice.get("rooms", room_id, "state", "m.room.topic", format="poem")
        assert answer.error == (400, "M_INVALID_PARAM")

    async def test_all_state_is_listed(self, town: Town) -> None:
        alice = await town.person("alice")
        room_id = await alice.create_room(name="Garden")
        events = (await alice.get("rooms", room_id, "state")).body
        assert {("m.room.create", ""), ("m.room.name", ""), ("m.room.member", alice.user_id)} <= state_keys(
            events
        )
        assert all(event["room_id"] == room_id and "event_id" in event for event in events)

    async def test_who_left_reads_the_state_of_that_moment(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await alice.create_room(preset="public_chat", topic="with bob")
        await bob.join(room_id)
        await bob.post("rooms", room_id, "leave")
        await alice.set_state(room_id, "m.room.topic", {"topic": "without bob"})
        assert (await bob.state(room_id, "m.room.topic"))["topic"] == "with bob"
        topics = [e for e in (await bob.get("rooms", room_id, "state")).body if e["type"] == "m.room.topic"]
        assert [event["content"]["topic"] for event in topics] == ["with bob"]
        assert (await alice.state(room_id, "m.room.topic"))["topic"] == "without bob"

    async def test_who_was_never_in_reads_none(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await alice.create_room()
        for parts in (("state",), ("state", "m.room.create", ""), ("members",), ("joined_members",)):
            assert (await bob.get("rooms", room_id, *parts)).error == (403, "M_FORBIDDEN"), parts
        await alice.invite(room_id, bob.user_id)
        assert (await bob.get("rooms", room_id, "state")).error == (403, "M_FORBIDDEN")

    async def test_anybody_reads_the_state_of_a_world_readable_room(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        open_to_all = {
            "type": "m.room.history_visibility",
            "state_key": "",
            "content": {"history_visibility": "world_readable"},
        }
        room_id = await alice.create_room(initial_state=[open_to_all], name="Stage")
        assert (await bob.state(room_id, "m.room.name"))["name"] == "Stage"


class TestMembers:
    async def test_members_by_membership(self, town: Town) -> None:
        alice, bob, carol, dave = await town.people("alice", "bob", "carol", "dave")
        room_id = await alice.create_room(preset="public_chat")
        await bob.join(room_id)
        await alice.invite(room_id, carol.user_id)
        await alice.post("rooms", room_id, "ban", body={"user_id": dave.user_id})
        everybody = {
            alice.user_id: "join",
            bob.user_id: "join",
            carol.user_id: "invite",
            dave.user_id: "ban",
        }
        assert await members(alice, room_id) == everybody
        assert set(await members(alice, room_id, membership="join")) == {alice.user_id, bob.user_id}
        assert set(await members(alice, room_id, not_membership="join")) == {carol.user_id, dave.user_id}
        # Both together mean "or".
        both = await members(alice, room_id, membership="ban", not_membership="join")
        assert set(both) == {carol.user_id, dave.user_id}
        answer = await alice.get("rooms", room_id, "members", membership="maybe")
        assert answer.error == (400, "M_INVALID_PARAM")

    async def test_members_of_an_earlier_moment(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await alice.create_room(preset="public_chat")
        early = (await sync(alice))["next_batch"]
        await bob.join(room_id)
        await alice.say(room_id, "hello")
        assert await members(alice, room_id, at=early) == {alice.user_id: "join"}
        late = await sync(alice, filter={"room": {"timeline": {"limit": 1}}})
        prev_batch = late["rooms"]["join"][room_id]["timeline"]["prev_batch"]
        assert set(await members(alice, room_id, at=prev_batch)) == {alice.user_id, bob.user_id}
        answer = await alice.get("rooms", room_id, "members", at="yesterday")
        assert answer.error == (400, "M_INVALID_PARAM")

    async def test_who_left_reads_the_members_of_that_moment(self, town: Town) -> None:
        alice, bob, carol = await town.people("alice", "bob", "carol")
        room_id = await alice.create_room(preset="public_chat")
        await bob.join(room_id)
        await bob.post("rooms", room_id, "leave")
        await carol.join(room_id)
        assert await members(bob, room_id) == {alice.user_id: "join", bob.user_id: "leave"}
        now = (await sync(alice))["next_batch"]
        assert carol.user_id not in await members(bob, room_id, at=now)

    async def test_joined_members_have_profiles(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await alice.create_room(preset="public_chat")
        await bob.join(room_id)
        content = {"membership": "join", "displayname": "Alice A.", "avatar_url": "mxc://test.example/a"}
        await alice.set_state(room_id, "m.room.member", content, alice.user_id)
        found = (await bob.get("rooms", room_id, "joined_members")).body["joined"]
        assert set(found) == {alice.user_id, bob.user_id}
        assert all(
            isinstance(text, str)
            for profile in found.values()
            for key, text in profile.items()
            if key in ("display_name", "avatar_url")
        )
        await bob.post("rooms", room_id, "leave")
        assert (await bob.get("rooms", room_id, "joined_members")).error == (403, "M_FORBIDDEN")
        assert set((await alice.get("rooms", room_id, "joined_members")).body["joined"]) == {alice.user_id}

    async def test_ones_own_rooms(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        one, two = await alice.create_room(preset="public_chat"), await alice.create_room()
        await bob.join(one)
        assert set((await alice.get("joined_rooms")).body["joined_rooms"]) == {one, two}
        assert (await bob.get("joined_rooms")).body == {"joined_rooms": [one]}
        await bob.post("rooms", one, "leave")
        assert (await bob.get("joined_rooms")).body == {"joined_rooms": []}

    async def test_a_lazy_client_gets_the_others_here(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await alice.create_room(preset="public_chat", name="Named")
        await bob.join(room_id)
        for n in range(3):
            await alice.say(room_id, f"{n}")
        wanted = {"room": {"state": {"lazy_load_members": True}, "timeline": {"limit": 1}}}
        body = await sync(alice, filter=wanted)
        prev_batch = body["rooms"]["join"][room_id]["timeline"]["prev_batch"]
        assert bob.user_id not in members_of(body["rooms"]["join"][room_id]["state"]["events"])
        assert bob.user_id in await members(alice, room_id, at=prev_batch, not_membership="leave")


@pytest.mark.parametrize("room_id", ["nowhere", "!", "#alias:test.example", "!no\x00:x"])
@pytest.mark.parametrize("parts", [("state",), ("members",), ("joined_members",), ("event", "$x")])
async def test_what_is_no_room_id_is_refused(town: Town, room_id: str, parts: tuple[str, ...]) -> None:
    alice = await town.person("alice")
    answer = await alice.get("rooms", room_id, *parts)
    assert 400 <= answer.status < 500
    assert answer.errcode is not None
