"""What clients asked for before there was /sync."""

import asyncio
from typing import Any

import pytest

from tests.client_api.sync_client import bodies, state_keys
from tests.people import Answer, Person, Town


async def initial_sync(person: Person, **query: str) -> Any:
    """The body of GET /initialSync."""
    answer = await person.get("initialSync", **query)
    assert answer.status == 200, answer
    return answer.body


async def listen(person: Person, **query: str) -> Any:
    """The body of GET /events; `from_` is the token."""
    answer = await ask_events(person, **query)
    assert answer.status == 200, answer
    return answer.body


async def ask_events(person: Person, **query: str) -> Answer:
    """The answer to GET /events."""
    if "from_" in query:
        query["from"] = query.pop("from_")
    return await person.get("events", **query)


def rooms_of(body: Any) -> dict[str, Any]:
    """The rooms of an initialSync by id."""
    return {room["room_id"]: room for room in body["rooms"]}


async def opened(person: Person) -> str:
    """A room that anybody may read and join."""
    visibility = {"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}}
    return await person.create_room(preset="public_chat", initial_state=[visibility])


class TestInitialSync:
    async def test_it_has_messages_state_and_account_data_of_joined_rooms(self, town: Town) -> None:
        alice = await town.person("alice")
        assert (await initial_sync(alice))["rooms"] == []
        room_id = await alice.create_room(name="Den", visibility="public")
        for number in range(12):
            await alice.say(room_id, str(number))
        data = ("user", alice.user_id, "rooms", room_id, "account_data", "org.example")
        await alice.put(*data, body={"own": True})
        await alice.put("user", alice.user_id, "account_data", "org.example", body={"all": True})

        body = await initial_sync(alice, limit="2")
        assert {"type": "org.example", "content": {"all": True}} in body["account_data"]
        [room] = body["rooms"]
        assert (room["room_id"], room["membership"], room["visibility"]) == (room_id, "join", "public")
        assert bodies(room["messages"]["chunk"]) == ["10", "11"]
        assert all(event["room_id"] == room_id for event in room["messages"]["chunk"] + room["state"])
        assert {("m.room.create", ""), ("m.room.member", alice.user_id)} <= state_keys(room["state"])
        assert room["account_data"] == [{"type": "org.example", "content": {"own": True}}]
        # From the start of what is shown one reads on into the past.
        before = await alice.get("rooms", room_id, "messages", dir="b", limit="2", **_from(room))
        assert bodies(before.body["chunk"]) == ["9", "8"]
        after = await alice.get(
            "rooms", room_id, "messages", dir="f", limit="2", **{"from": room["messages"]["end"]}
        )
        assert after.body["chunk"] == []

        assert len((await initial_sync(alice))["rooms"][0]["messages"]["chunk"]) == 10
        assert (await initial_sync(alice, limit="0"))["rooms"][0]["messages"]["chunk"] == []

    async def test_invites_show_the_invite_only(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await alice.create_room(name="Den", invite=[bob.user_id])
        room = rooms_of(await initial_sync(bob))[room_id]
        assert room["membership"] == "invite"
        assert (room["invite"]["sender"], room["invite"]["state_key"]) == (alice.user_id, bob.user_id)
        assert not room.keys() & {"messages", "state"}

    async def test_it_says_who_is_there(self, town: Town) -> None:
        alice, bob, carol = await town.people("alice", "bob", "carol")
        room_id = await alice.create_room(preset="public_chat")
        await bob.join(room_id)
        for person in (bob, carol):
            status = {"presence": "unavailable", "status_msg": f"of {person.user_id}"}
            assert (await person.put("presence", person.user_id, "status", body=status)).status == 200
        shown = {event["sender"]: event for event in (await initial_sync(alice))["presence"]}
        assert shown[bob.user_id]["type"] == "m.presence"
        assert shown[bob.user_id]["content"]["status_msg"] == f"of {bob.user_id}"
        assert carol.user_id not in shown
        # Asking for it is being there.
        assert (await bob.get("presence", alice.user_id, "status")).body["presence"] == "online"

    async def test_rooms_that_one_has_left_come_when_they_are_asked_for(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await alice.create_room(preset="public_chat", topic="with bob")
        refused, forgotten = [await alice.create_room(invite=[bob.user_id]) for _ in range(2)]
        await bob.post("rooms", refused, "leave")
        await bob.join(forgotten)
        await bob.post("rooms", forgotten, "leave")
        await bob.post("rooms", forgotten, "forget")
        await bob.join(room_id)
        await alice.say(room_id, "before")
        await bob.post("rooms", room_id, "leave")
        await alice.say(room_id, "after")
        await alice.set_state(room_id, "m.room.topic", {"topic": "without bob"})

        assert rooms_of(await initial_sync(bob)) == {}
        rooms = rooms_of(await initial_sync(bob, archived="true"))
        assert rooms.keys() == {room_id, refused}
        room = rooms[room_id]
        assert room["membership"] == "leave"
        assert bodies(room["messages"]["chunk"]) == ["before"]
        assert room["messages"]["chunk"][-1]["state_key"] == bob.user_id
        [topic] = [event for event in room["state"] if event["type"] == "m.room.topic"]
        assert topic["content"]["topic"] == "with bob"
        assert not rooms[refused].keys() & {"messages", "state", "invite"}

        await alice.post("rooms", room_id, "ban", body={"user_id": bob.user_id})
        assert rooms_of(await initial_sync(bob, archived="true"))[room_id]["membership"] == "ban"

    @pytest.mark.parametrize("query", [{"limit": "-1"}, {"limit": "x"}, {"archived": "perhaps"}])
    async def test_wrong_wishes_are_refused(self, town: Town, query: dict[str, str]) -> None:
        alice = await town.person("alice")
        assert (await alice.get("initialSync", **query)).error == (400, "M_INVALID_PARAM")

    async def test_it_takes_a_token(self, town: Town) -> None:
        for parts in (("initialSync",), ("rooms", "!a:b", "initialSync"), ("events",), ("events", "$a:b")):
            assert (await town.visitor.get(*parts)).error == (401, "M_MISSING_TOKEN")


class TestRoomInitialSync:
    async def test_members_see_the_room(self, town: Town) -> None:
        alice = await town.person("alice")
        room_id = await alice.create_room()
        await alice.say(room_id, "hello")
        answer = await alice.get("rooms", room_id, "initialSync")
        assert answer.status == 200, answer
        body = answer.body
        assert (body["room_id"], body["membership"], body["visibility"]) == (room_id, "join", "private")
        assert bodies(body["messages"]["chunk"]) == ["hello"]
        assert ("m.room.create", "") in state_keys(body["state"])
        assert body["account_data"] == []

    async def test_who_left_sees_the_room_as_it_was(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await alice.create_room(preset="public_chat")
        await bob.join(room_id)
        await alice.say(room_id, "before")
        await alice.post("rooms", room_id, "kick", body={"user_id": bob.user_id})
        await alice.say(room_id, "after")
        body = (await bob.get("rooms", room_id, "initialSync")).body
        assert body["membership"] == "leave"
        assert bodies(body["messages"]["chunk"]) == ["before"]

    async def test_anybody_may_look_into_a_world_readable_room(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await opened(alice)
        await alice.say(room_id, "hello")
        body = (await bob.get("rooms", room_id, "initialSync")).body
        assert "membership" not in body
        assert bodies(body["messages"]["chunk"]) == ["hello"]

    async def test_strangers_are_kept_out(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await alice.create_room(preset="public_chat")
        for one in (room_id, "!unknown:test.example"):
            assert (await bob.get("rooms", one, "initialSync")).error == (403, "M_FORBIDDEN")
        assert (await bob.get("rooms", "no room", "initialSync")).error == (400, "M_INVALID_PARAM")
        await alice.invite(room_id, bob.user_id)
        assert (await bob.get("rooms", room_id, "initialSync")).error == (403, "M_FORBIDDEN")


class TestEvents:
    async def test_events_of_all_rooms_come_in_the_order_they_were_sent(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        first, second, foreign = [await alice.create_room(preset="public_chat") for _ in range(3)]
        await bob.join(first)
        await bob.join(second)
        token = (await initial_sync(bob))["end"]
        for number, room_id in enumerate((first, second, foreign, first)):
            await alice.say(room_id, str(number))
        body = await listen(bob, from_=token)
        assert bodies(body["chunk"]) == ["0", "1", "3"]
        assert [event["room_id"] for event in body["chunk"]] == [first, second, first]
        assert body["start"] == token
        again = await listen(bob, from_=body["end"])
        assert (again["chunk"], again["start"]) == ([], body["end"])

    async def test_it_goes_on_from_a_sync_and_a_sync_from_it(self, town: Town) -> None:
        alice = await town.person("alice")
        room_id = await alice.create_room()
        token = (await alice.sync())["next_batch"]
        await alice.say(room_id, "one")
        body = await listen(alice, from_=token)
        assert bodies(body["chunk"]) == ["one"]
        await alice.say(room_id, "two")
        room = (await alice.sync(body["end"]))["rooms"]["join"][room_id]
        assert bodies(room["timeline"]["events"]) == ["two"]

    async def test_without_a_token_it_begins_now(self, town: Town) -> None:
        alice = await town.person("alice")
        room_id = await alice.create_room()
        body = await listen(alice)
        assert body["chunk"] == []
        await alice.say(room_id, "later")
        assert bodies((await listen(alice, from_=body["end"]))["chunk"]) == ["later"]

    async def test_it_waits_for_what_happens(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await alice.create_room(preset="public_chat")
        await bob.join(room_id)
        token = (await listen(bob))["end"]
        waiting = asyncio.create_task(listen(bob, from_=token, timeout="30000"))
        # Of no room of bob's.
        await alice.say(await alice.create_room(), "elsewhere")
        event_id = await alice.say(room_id, "here")
        body = await waiting
        assert [event["event_id"] for event in body["chunk"]] == [event_id]

    async def test_a_wait_without_news_ends(self, town: Town) -> None:
        alice = await town.person("alice")
        assert (await listen(alice, timeout="50"))["chunk"] == []

    async def test_invites_and_departures_are_told(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        token = (await listen(bob))["end"]
        room_id = await alice.create_room(preset="public_chat")
        await alice.say(room_id, "before bob")
        await alice.invite(room_id, bob.user_id)
        body = await listen(bob, from_=token)
        assert [event["content"]["membership"] for event in body["chunk"]] == ["invite"]
        token = body["end"]
        await alice.say(room_id, "while bob is invited")
        await bob.join(room_id)
        await alice.say(room_id, "to bob")
        await alice.post("rooms", room_id, "kick", body={"user_id": bob.user_id})
        await alice.say(room_id, "after bob")
        body = await listen(bob, from_=token)
        assert [
            event["content"].get("membership") or event["content"]["body"] for event in body["chunk"]
        ] == [
            "join",
            "to bob",
            "leave",
        ]
        assert (await listen(bob, from_=body["end"]))["chunk"] == []

    async def test_much_news_comes_in_parts(self, town: Town) -> None:
        alice = await town.person("alice")
        rooms = [await alice.create_room() for _ in range(2)]
        token = (await listen(alice))["end"]
        sent = [
            await alice.set_state(rooms[number % 2], "org.example", {"number": number})
            for number in range(130)
        ]
        seen: list[str] = []
        answers = 0
        while chunk := (body := await listen(alice, from_=token))["chunk"]:
            assert len(chunk) <= 100
            seen += [event["event_id"] for event in chunk]
            token, answers = body["end"], answers + 1
        assert seen == [answer.body["event_id"] for answer in sent]
        assert answers == 2

    async def test_one_may_look_into_a_world_readable_room(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await opened(alice)
        token = (await listen(bob, room_id=room_id))["end"]
        waiting = asyncio.create_task(listen(bob, from_=token, room_id=room_id, timeout="30000"))
        await alice.say(await alice.create_room(), "elsewhere")
        await alice.say(room_id, "here")
        body = await waiting
        assert bodies(body["chunk"]) == ["here"]
        # Who joins meanwhile misses nothing.
        await alice.say(room_id, "still outside")
        await bob.join(room_id)
        body = await listen(bob, from_=body["end"], room_id=room_id)
        assert bodies(body["chunk"]) == ["still outside"]
        assert body["chunk"][-1]["state_key"] == bob.user_id

    async def test_a_room_that_closes_is_seen_no_more(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await opened(alice)
        token = (await listen(bob, room_id=room_id))["end"]
        waiting = asyncio.create_task(ask_events(bob, from_=token, room_id=room_id, timeout="30000"))
        await alice.set_state(room_id, "m.room.history_visibility", {"history_visibility": "joined"})
        assert (await waiting).status in (200, 403)
        await alice.say(room_id, "secret")
        assert (await ask_events(bob, from_=token, room_id=room_id)).error == (403, "M_FORBIDDEN")

    async def test_other_rooms_stay_closed(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await alice.create_room(preset="public_chat")
        for one in (room_id, "!unknown:test.example"):
            assert (await ask_events(bob, room_id=one)).error == (403, "M_FORBIDDEN")
        assert (await ask_events(bob, room_id="no room")).error == (400, "M_INVALID_PARAM")
        await bob.join(room_id)
        token = (await listen(bob, room_id=room_id))["end"]
        await alice.say(room_id, "to bob")
        await bob.post("rooms", room_id, "leave")
        await alice.say(room_id, "after bob")
        body = await listen(bob, from_=token, room_id=room_id)
        assert bodies(body["chunk"]) == ["to bob"]
        assert (await ask_events(bob, from_=body["end"], room_id=room_id)).error == (403, "M_FORBIDDEN")

    @pytest.mark.parametrize("query", [{"from_": "nonsense"}, {"from_": ""}, {"timeout": "soon"}])
    async def test_wrong_wishes_are_refused(self, town: Town, query: dict[str, str]) -> None:
        alice = await town.person("alice")
        assert (await ask_events(alice, **query)).error == (400, "M_INVALID_PARAM")

    async def test_a_negative_timeout_does_not_wait(self, town: Town) -> None:
        alice = await town.person("alice")
        assert (await listen(alice, timeout="-1"))["chunk"] == []


class TestEventById:
    async def test_an_event_is_found_without_its_room(self, town: Town) -> None:
        alice = await town.person("alice")
        room_id = await alice.create_room()
        event_id = await alice.say(room_id, "hello")
        event = (await alice.get("events", event_id)).body
        assert (event["event_id"], event["room_id"], event["content"]["body"]) == (event_id, room_id, "hello")

    async def test_what_one_may_not_see_is_not_found(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await alice.create_room(preset="public_chat")
        event_id = await alice.say(room_id, "inside")
        assert (await bob.get("events", event_id)).error == (404, "M_NOT_FOUND")
        assert (await bob.get("events", "$unknown:test.example")).error == (404, "M_NOT_FOUND")
        assert (await bob.get("events", "nonsense")).error == (400, "M_INVALID_PARAM")
        await bob.join(room_id)
        assert (await bob.get("events", event_id)).status == 200
        await bob.post("rooms", room_id, "leave")
        later = await alice.say(room_id, "later")
        assert (await bob.get("events", later)).error == (404, "M_NOT_FOUND")


def _from(room: Any) -> dict[str, str]:
    return {"from": room["messages"]["start"]}
