"""GET /messages and /context: paging without loss or repeats, and only through what one may see."""

import json
import random
from typing import Any

import pytest

from tests.client_api.sync_client import bodies, joined, members_of, state_keys, sync
from tests.people import Answer, Person, Town


async def ask_page(person: Person, room_id: str, **query: Any) -> Answer:
    """The answer to one /messages; a dict is sent as JSON, None is left out."""
    texts = {
        name.rstrip("_"): json.dumps(value) if isinstance(value, dict) else str(value)
        for name, value in query.items()
        if value is not None
    }
    return await person.ask("GET", "rooms", room_id, "messages", query=texts)


async def page(person: Person, room_id: str, **query: Any) -> Any:
    """The body of one successful /messages."""
    answer = await ask_page(person, room_id, **query)
    assert answer.status == 200, answer
    return answer.body


async def read_all(
    person: Person, room_id: str, direction: str, limit: int = 10, start: str | None = None, **query: Any
) -> list[Any]:
    """All events from a token on (the end of the room by default), page by page."""
    events: list[Any] = []
    while True:
        body = await page(person, room_id, dir=direction, limit=limit, from_=start, **query)
        events += body["chunk"]
        assert len(body["chunk"]) <= limit
        if "end" not in body:
            return events
        assert body["end"] != start
        start = body["end"]


def ids(events: list[Any]) -> list[str]:
    return [event["event_id"] for event in events]


async def lively_room(town: Town, count: int = 12) -> tuple[Person, str]:
    alice = await town.person("alice")
    room_id = await alice.create_room(preset="public_chat", name="Lively")
    for n in range(count):
        await alice.say(room_id, f"{n}")
    return alice, room_id


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
async def test_paging_both_ways_finds_the_same_events_once(town: Town, limit: int) -> None:
    alice, room_id = await lively_room(town)
    back = await read_all(alice, room_id, "b", limit)
    forth = await read_all(alice, room_id, "f", limit)
    assert ids(back) == ids(forth)[::-1]
    assert len(set(ids(back))) == len(back)
    assert forth[0]["type"] == "m.room.create"
    assert bodies(forth) == [f"{n}" for n in range(12)]
    assert all(event["room_id"] == room_id for event in back)


@pytest.mark.parametrize("seed", range(5))
async def test_turning_around_anywhere_loses_and_repeats_nothing(town: Town, seed: int) -> None:
    dice = random.Random(seed)
    alice, room_id = await lively_room(town)
    history = ids(await read_all(alice, room_id, "f", 100))
    first = await page(alice, room_id, dir="f", limit=dice.randint(1, 5))
    # A reader's place is between two events: how many they have behind them.
    place, token = len(first["chunk"]), first["end"]
    for _ in range(12):
        direction, limit = dice.choice("bf"), dice.randint(1, 6)
        body = await page(alice, room_id, dir=direction, limit=limit, from_=token)
        if direction == "f":
            assert ids(body["chunk"]) == history[place : place + limit]
            place += len(body["chunk"])
        else:
            assert ids(body["chunk"]) == history[max(0, place - limit) : place][::-1]
            place -= len(body["chunk"])
        if "end" not in body:
            assert place in (0, len(history))
            break
        token = body["end"]


async def test_sync_tokens_lead_into_the_history(town: Town) -> None:
    alice, room_id = await lively_room(town, 5)
    body = await sync(alice, filter={"room": {"timeline": {"limit": 3}}})
    section = joined(body, room_id)
    older = await read_all(alice, room_id, "b", 4, section["timeline"]["prev_batch"])
    shown = ids(section["timeline"]["events"])
    assert ids(older)[::-1] + shown == ids(await read_all(alice, room_id, "f", 100))
    # next_batch is a place, too: nothing after it yet, then what has come.
    assert (await page(alice, room_id, dir="f", from_=body["next_batch"]))["chunk"] == []
    event_id = await alice.say(room_id, "later")
    assert ids((await page(alice, room_id, dir="f", from_=body["next_batch"]))["chunk"]) == [event_id]
    back = await page(alice, room_id, dir="b", from_=body["next_batch"], limit=3)
    assert ids(back["chunk"]) == shown[::-1]


async def test_the_end_of_history_has_no_further_token(town: Town) -> None:
    alice, room_id = await lively_room(town, 1)
    body = await page(alice, room_id, dir="b", limit=100)
    assert "end" not in body
    assert body["start"]
    some = await page(alice, room_id, dir="b", limit=2)
    assert some["end"]
    again = await page(alice, room_id, dir="b", limit=2, from_=some["end"])
    assert again["start"] == some["end"]


async def test_to_is_where_reading_stops(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    start = (await sync(alice))["next_batch"]
    sent = [await alice.say(room_id, f"{n}") for n in range(4)]
    stop = (await sync(alice))["next_batch"]
    await alice.say(room_id, "beyond")
    assert ids(await read_all(alice, room_id, "f", 3, start, to=stop)) == sent
    assert ids(await read_all(alice, room_id, "b", 3, stop, to=start)) == sent[::-1]


async def test_a_filter_chooses_events_and_pages_go_on_past_the_others(town: Town) -> None:
    alice, room_id = await lively_room(town, 3)
    for n in range(15):
        await alice.set_state(room_id, "m.room.topic", {"topic": f"{n}"})
    wanted = {"types": ["m.room.message"]}
    assert bodies(await read_all(alice, room_id, "b", 2, filter=wanted)) == ["2", "1", "0"]
    assert bodies(await read_all(alice, room_id, "f", 2, filter=wanted)) == ["0", "1", "2"]
    # The filter's own limit counts where the query has none.
    assert len((await page(alice, room_id, dir="b", filter={"limit": 4}))["chunk"]) == 4


async def test_lazy_members_come_with_the_page(town: Town) -> None:
    alice, room_id = await lively_room(town, 2)
    bob = await town.person("bob")
    await bob.join(room_id)
    await bob.say(room_id, "hello")
    lazy = {"lazy_load_members": True}
    body = await page(alice, room_id, dir="b", limit=1, filter=lazy)
    assert members_of(body["state"]) == {bob.user_id}
    body = await page(alice, room_id, dir="b", limit=3, filter=lazy)
    assert members_of(body["state"]) == {alice.user_id, bob.user_id}
    body = await page(alice, room_id, dir="b", limit=3)
    assert body.get("state", []) == []


async def test_ones_own_transaction_ids_and_memberships_are_told(town: Town) -> None:
    alice, room_id = await lively_room(town, 0)
    await alice.say(room_id, "mine", txn="txn-m")
    [event] = (await page(alice, room_id, dir="b", limit=1))["chunk"]
    assert event["unsigned"]["transaction_id"] == "txn-m"
    assert event["unsigned"]["membership"] == "join"
    assert event["unsigned"]["age"] >= 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("dir", "x"), ("dir", None), ("limit", "many"), ("limit", "-1"), ("from_", "nowhere"), ("to", "s1_")],
)
async def test_what_cannot_be_read_is_refused(town: Town, name: str, value: str | None) -> None:
    alice, room_id = await lively_room(town, 0)
    answer = await ask_page(alice, room_id, **({"dir": "b"} | {name: value}))
    assert answer.status == 400
    assert answer.errcode in ("M_INVALID_PARAM", "M_MISSING_PARAM")


async def test_a_broken_filter_is_refused(town: Town) -> None:
    alice, room_id = await lively_room(town, 0)
    for text in ("{", "[]", '{"types": 1}'):
        assert (await ask_page(alice, room_id, dir="b", filter=text)).status == 400


async def test_strangers_and_the_invited_read_nothing(town: Town) -> None:
    alice, room_id = await lively_room(town, 1)
    bob = await town.person("bob")
    assert (await ask_page(bob, room_id, dir="b")).error == (403, "M_FORBIDDEN")
    await alice.invite(room_id, bob.user_id)
    assert (await ask_page(bob, room_id, dir="b")).error == (403, "M_FORBIDDEN")
    assert (await ask_page(bob, "!nowhere:test.example", dir="b")).error == (403, "M_FORBIDDEN")
    assert (await ask_page(bob, "nowhere", dir="b")).status == 400


class TestHistoryVisibility:
    async def room(self, alice: Person, visibility: str) -> str:
        event = {
            "type": "m.room.history_visibility",
            "state_key": "",
            "content": {"history_visibility": visibility},
        }
        return await alice.create_room(preset="public_chat", initial_state=[event])

    @pytest.mark.parametrize("visibility", ["shared", "world_readable", "never heard of"])
    async def test_shared_history_is_for_all_who_come(self, town: Town, visibility: str) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await self.room(alice, visibility)
        await alice.say(room_id, "before")
        await bob.join(room_id)
        await alice.say(room_id, "after")
        assert bodies(await read_all(bob, room_id, "f")) == ["before", "after"]

    async def test_joined_history_begins_with_the_join(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await self.room(alice, "joined")
        await alice.say(room_id, "before")
        await alice.invite(room_id, bob.user_id)
        await alice.say(room_id, "invited")
        await bob.join(room_id)
        await alice.say(room_id, "after")
        assert bodies(await read_all(bob, room_id, "b")) == ["after"]
        assert bodies(await read_all(bob, room_id, "f", 1)) == ["after"]
        section = joined(await sync(bob, filter={"room": {"timeline": {"limit": 20}}}), room_id)
        assert bodies(section["timeline"]["events"]) == ["after"]

    async def test_invited_history_begins_with_the_invite(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await self.room(alice, "invited")
        await alice.say(room_id, "before")
        await alice.invite(room_id, bob.user_id)
        await alice.say(room_id, "invited")
        await bob.join(room_id)
        await alice.say(room_id, "after")
        assert bodies(await read_all(bob, room_id, "f")) == ["invited", "after"]

    async def test_a_change_of_visibility_counts_from_there_on(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await self.room(alice, "joined")
        await alice.say(room_id, "hidden")
        change = {"history_visibility": "shared"}
        await alice.set_state(room_id, "m.room.history_visibility", change)
        await alice.say(room_id, "open")
        await bob.join(room_id)
        events = await read_all(bob, room_id, "f")
        assert bodies(events) == ["open"]
        # The change itself is seen by whoever may see either side of it.
        changes = [e["content"] for e in events if e["type"] == "m.room.history_visibility"]
        assert changes[-1] == change

    async def test_many_hidden_events_do_not_hide_the_visible_ones_behind(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await self.room(alice, "joined")
        await bob.join(room_id)
        await alice.say(room_id, "early")
        await bob.post("rooms", room_id, "leave")
        for n in range(25):
            await alice.say(room_id, f"hidden {n}")
        await bob.join(room_id)
        assert bodies(await read_all(bob, room_id, "b", 2)) == ["early"]
        assert bodies(await read_all(bob, room_id, "f", 2)) == ["early"]

    async def test_who_left_reads_up_to_their_leave(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await self.room(alice, "shared")
        await alice.say(room_id, "before")
        await bob.join(room_id)
        await alice.say(room_id, "during")
        await bob.post("rooms", room_id, "leave")
        await alice.say(room_id, "after")
        assert bodies(await read_all(bob, room_id, "b")) == ["during", "before"]
        assert bodies(await read_all(bob, room_id, "f")) == ["before", "during"]

    async def test_who_was_only_invited_never_reads_shared_history(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await self.room(alice, "shared")
        await alice.say(room_id, "before")
        await alice.invite(room_id, bob.user_id)
        await bob.post("rooms", room_id, "leave")
        assert (await ask_page(bob, room_id, dir="b")).error == (403, "M_FORBIDDEN")

    async def test_anybody_reads_what_is_world_readable(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await self.room(alice, "joined")
        await alice.say(room_id, "hidden")
        assert (await ask_page(bob, room_id, dir="b")).error == (403, "M_FORBIDDEN")
        await alice.set_state(room_id, "m.room.history_visibility", {"history_visibility": "world_readable"})
        await alice.say(room_id, "open to the world")
        assert bodies(await read_all(bob, room_id, "b")) == ["open to the world"]

    async def test_who_forgot_the_room_reads_nothing_more(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await self.room(alice, "shared")
        await bob.join(room_id)
        await bob.post("rooms", room_id, "leave")
        await bob.post("rooms", room_id, "forget")
        assert (await ask_page(bob, room_id, dir="b")).error == (403, "M_FORBIDDEN")


class TestContext:
    async def test_the_neighbours_of_an_event(self, town: Town) -> None:
        alice, room_id = await lively_room(town, 9)
        history = ids(await read_all(alice, room_id, "f", 100))
        middle = history[-5]
        answer = await alice.get("rooms", room_id, "context", middle, limit="4")
        assert answer.status == 200, answer
        body = answer.body
        assert body["event"]["event_id"] == middle
        assert ids(body["events_before"]) == history[-7:-5][::-1]
        assert ids(body["events_after"]) == history[-4:-2]
        assert ("m.room.create", "") in state_keys(body["state"])
        older = await page(alice, room_id, dir="b", from_=body["start"], limit=2)
        assert ids(older["chunk"]) == history[-9:-7][::-1]
        newer = await page(alice, room_id, dir="f", from_=body["end"], limit=5)
        assert ids(newer["chunk"]) == history[-2:]

    async def test_an_event_alone(self, town: Town) -> None:
        alice, room_id = await lively_room(town, 2)
        event_id = await alice.say(room_id, "alone")
        body = (await alice.get("rooms", room_id, "context", event_id, limit="0")).body
        assert body["event"]["event_id"] == event_id
        assert body["events_before"] == body["events_after"] == []

    async def test_hidden_and_unknown_events_have_no_context(self, town: Town) -> None:
        alice, room_id = await lively_room(town, 1)
        bob = await town.person("bob")
        event_id = await alice.say(room_id, "inside")
        assert (await bob.get("rooms", room_id, "context", event_id)).status in (403, 404)
        assert (await alice.get("rooms", room_id, "context", "$nothing")).error == (404, "M_NOT_FOUND")
