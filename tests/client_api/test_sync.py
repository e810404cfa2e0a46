"""GET /sync: what is in it, when it answers, and what it leaves out."""

import asyncio
import json
from collections.abc import Callable

import aiohttp
import pytest

from tests.client_api.sync_client import (
    ask_sync,
    joined,
    room_ids,
    state_keys,
    sync,
    timeline_ids,
)
from tests.people import Person, Town
from tests.server_fixtures import make_server  # noqa: F401
from tests.server_process import ServerProcess


async def test_the_first_sync_shows_a_room_with_the_state_before_its_timeline(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room(name="Garden", topic="Roses")
    sent = [await alice.say(room_id, f"message {n}") for n in range(3)]
    section = joined(await sync(alice, filter={"room": {"timeline": {"limit": 4}}}), room_id)
    events = section["timeline"]["events"]
    assert timeline_ids(section)[-3:] == sent
    assert len(events) == 4
    assert section["timeline"]["limited"] is True
    assert section["timeline"]["prev_batch"]
    # Every state event is in one place: before the timeline or in it.
    before = state_keys(section["state"]["events"])
    within = {(event["type"], event["state_key"]) for event in events if "state_key" in event}
    assert {
        ("m.room.create", ""),
        ("m.room.name", ""),
        ("m.room.topic", ""),
        ("m.room.power_levels", ""),
        ("m.room.member", alice.user_id),
    } <= before | within
    ids = [event["event_id"] for event in section["state"]["events"]]
    assert not set(ids) & set(timeline_ids(section))
    assert all("room_id" not in event for event in [*events, *section["state"]["events"]])


async def test_a_short_room_is_shown_whole_and_is_not_limited(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    section = joined(await sync(alice, filter={"room": {"timeline": {"limit": 100}}}), room_id)
    assert section["timeline"]["events"][0]["type"] == "m.room.create"
    assert section["timeline"]["limited"] is False
    assert section["state"]["events"] == []


async def test_every_section_that_clients_read_is_there(town: Town) -> None:
    alice = await town.person("alice")
    body = await sync(alice)
    assert set(body["rooms"]) == {"join", "invite", "knock", "leave"}
    for section in ("account_data", "presence", "to_device"):
        assert isinstance(body[section]["events"], list)
    assert body["device_lists"] == {"changed": [], "left": []}
    assert isinstance(body["device_one_time_keys_count"], dict)
    assert isinstance(body["device_unused_fallback_key_types"], list)
    room_id = await alice.create_room()
    section = joined(await sync(alice), room_id)
    assert section["ephemeral"] == {"events": []}
    assert section["account_data"] == {"events": []}
    assert section["unread_notifications"] == {"highlight_count": 0, "notification_count": 0}


async def test_the_first_sync_brings_the_push_rules(town: Town) -> None:
    alice = await town.person("alice")
    types = {event["type"]: event for event in (await sync(alice))["account_data"]["events"]}
    assert "override" in types["m.push_rules"]["content"]["global"]


async def test_an_incremental_sync_brings_only_what_is_new(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room(preset="public_chat")
    quiet = await alice.create_room()
    await bob.join(room_id)
    since = (await sync(alice))["next_batch"]
    event_id = await bob.say(room_id, "news")
    body = await sync(alice, since)
    assert room_ids(body, "join") == {room_id}
    assert quiet not in body["rooms"]["join"]
    section = joined(body, room_id)
    assert timeline_ids(section) == [event_id]
    assert section["timeline"]["limited"] is False
    assert section["state"]["events"] == []
    [event] = section["timeline"]["events"]
    assert event["sender"] == bob.user_id
    assert event["content"] == {"msgtype": "m.text", "body": "news"}
    assert event["unsigned"]["age"] >= 0
    assert event["unsigned"]["membership"] == "join"
    assert "transaction_id" not in event["unsigned"]


async def test_nothing_new_is_an_empty_answer(town: Town) -> None:
    alice = await town.person("alice")
    await alice.create_room()
    since = (await sync(alice))["next_batch"]
    body = await sync(alice, since)
    assert all(rooms == {} for rooms in body["rooms"].values())
    assert body["account_data"] == {"events": []}
    again = await sync(alice, body["next_batch"], timeout=30)
    assert all(rooms == {} for rooms in again["rooms"].values())


async def test_a_long_poll_answers_when_something_happens(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    since = (await sync(alice))["next_batch"]
    poll = asyncio.create_task(sync(alice, since, timeout=60_000))
    # Whatever the order in which the server sees the two, the poll must answer.
    event_id = await bob.say(room_id, "wake up")
    async with asyncio.timeout(20):
        body = await poll
    assert timeline_ids(joined(body, room_id)) == [event_id]


async def test_a_long_poll_ignores_rooms_of_others(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    await alice.create_room()
    elsewhere = await bob.create_room()
    since = (await sync(alice))["next_batch"]
    poll = asyncio.create_task(sync(alice, since, timeout=200))
    await bob.say(elsewhere, "not for alice")
    body = await poll
    assert all(rooms == {} for rooms in body["rooms"].values())


async def test_all_polls_of_all_devices_hear_the_news(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    # That somebody comes online is news, too, a second later.
    sinces = [(await sync(who, set_presence="offline"))["next_batch"] for who in (alice, bob)]
    polls = [
        asyncio.create_task(sync(who, since, timeout=60_000, set_presence="offline"))
        for who, since in zip((alice, bob), sinces, strict=True)
        for _ in range(5)
    ]
    event_id = await alice.say(room_id, "everybody")
    async with asyncio.timeout(30):
        answers = await asyncio.gather(*polls)
    assert all(timeline_ids(joined(body, room_id)) == [event_id] for body in answers)


async def test_the_transaction_id_is_for_the_sending_device_only(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    laptop = await second_device(town, alice)
    sinces = {who: (await sync(who))["next_batch"] for who in (alice, laptop, bob)}
    await alice.say(room_id, "from my phone", txn="txn-1")
    unsigned = {}
    for who, since in sinces.items():
        [event] = joined(await sync(who, since), room_id)["timeline"]["events"]
        unsigned[who] = event["unsigned"]
    assert unsigned[alice]["transaction_id"] == "txn-1"
    assert "transaction_id" not in unsigned[laptop]
    assert "transaction_id" not in unsigned[bob]


async def second_device(town: Town, person: Person) -> Person:
    username = person.user_id[1:].partition(":")[0]
    body = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": username},
        "password": f"{username} has a secret",
    }
    answer = await town.visitor.post("login", body=body)
    assert answer.status == 200, answer
    return Person(town.session, town.base_url, answer.body)


async def test_a_state_event_says_what_it_replaced(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room(topic="before")
    old = next(
        event
        for event in (await alice.get("rooms", room_id, "state")).body
        if event["type"] == "m.room.topic"
    )
    since = (await sync(alice))["next_batch"]
    await alice.set_state(room_id, "m.room.topic", {"topic": "after"})
    [event] = joined(await sync(alice, since), room_id)["timeline"]["events"]
    assert event["unsigned"]["prev_content"]["topic"] == "before"
    assert event["unsigned"]["replaces_state"] == old["event_id"]


async def test_a_redacted_event_is_empty_and_says_why(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    event_id = await alice.say(room_id, "a slip")
    since = (await sync(alice))["next_batch"]
    redaction = await alice.put("rooms", room_id, "redact", event_id, "txn-r", body={"reason": "slip"})
    for body in (await sync(alice), await sync(alice, filter={"room": {"timeline": {"limit": 50}}})):
        events = {event["event_id"]: event for event in joined(body, room_id)["timeline"]["events"]}
        slip = events[event_id]
        assert slip["content"] == {}
        because = slip["unsigned"]["redacted_because"]
        assert because["event_id"] == redaction.body["event_id"]
        assert because["content"]["reason"] == "slip"
    [event] = joined(await sync(alice, since), room_id)["timeline"]["events"]
    assert event["type"] == "m.room.redaction"
    assert event["redacts"] == event["content"]["redacts"] == event_id


async def test_redacted_content_does_not_live_on_as_prev_content(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    secret = await alice.set_state(room_id, "m.room.topic", {"topic": "secret"})
    await alice.set_state(room_id, "m.room.topic", {"topic": "public"})
    assert "secret" in str(joined(await sync(alice), room_id)["timeline"])
    await alice.put("rooms", room_id, "redact", secret.body["event_id"], "txn-s")
    assert "secret" not in str(joined(await sync(alice), room_id))


@pytest.mark.parametrize("since", ["", "x", "s", "s-1", "s1_2_3_x", "t1-2", "s99999999999999999999", "s1 "])
async def test_what_is_no_token_is_refused(town: Town, since: str) -> None:
    alice = await town.person("alice")
    assert (await ask_sync(alice, since)).error == (400, "M_INVALID_PARAM")


async def test_a_token_from_the_future_is_no_reason_to_fail(town: Town) -> None:
    alice = await town.person("alice")
    await alice.create_room()
    answer = await ask_sync(alice, "s999999999999_0_0_0_0_0_0")
    assert answer.status in (200, 400)


@pytest.mark.parametrize(
    ("name", "value"), [("timeout", "soon"), ("full_state", "maybe"), ("set_presence", "sleeping")]
)
async def test_parameters_of_a_wrong_kind_are_refused(town: Town, name: str, value: str) -> None:
    alice = await town.person("alice")
    assert (await ask_sync(alice, **{name: value})).error == (400, "M_INVALID_PARAM")


async def test_old_tokens_work_after_a_restart(
    make_server: Callable[..., ServerProcess],  # noqa: F811
) -> None:
    process = make_server()
    process.start()
    async with aiohttp.ClientSession() as session:
        town = Town(session, process.base_url, process.server_name)
        alice, bob = await town.people("alice", "bob")
        room_id = await alice.create_room(preset="public_chat")
        left = await alice.create_room(preset="public_chat")
        for room in (room_id, left):
            await bob.join(room)
        since = (await sync(bob))["next_batch"]
        sent = [await alice.say(room_id, "before")]
        await bob.post("rooms", left, "leave")
        process.stop()
        process.start()
        sent.append(await alice.say(room_id, "after"))
        body = await sync(bob, since)
        assert timeline_ids(joined(body, room_id)) == sent
        assert room_ids(body, "leave") == {left}
        assert room_ids(await sync(bob, body["next_batch"]), "join") == set()


async def test_filters_choose_the_rooms_whose_account_data_is_told(town: Town) -> None:
    alice = await town.person("alice")
    rooms = [await alice.create_room(), await alice.create_room()]
    for room_id in rooms:
        await alice.put("user", alice.user_id, "rooms", room_id, "account_data", "a.b", body={"in": room_id})
    wanted = json.dumps({"room": {"account_data": {"not_rooms": [rooms[1]]}}})
    joined = (await alice.get("sync", filter=wanted)).body["rooms"]["join"]
    told = {
        room_id: [event["type"] for event in joined[room_id]["account_data"]["events"]] for room_id in rooms
    }
    assert told == {rooms[0]: ["a.b"], rooms[1]: []}


async def test_who_is_banned_from_outside_learns_it_from_the_state_after(town: Town) -> None:
    """Clients that ask for the state after the timeline take state from nowhere else."""
    alice, bob = await town.person("alice"), await town.person("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    await alice.post("rooms", room_id, "kick", body={"user_id": bob.user_id})
    since = (await bob.get("sync")).body["next_batch"]
    await alice.post("rooms", room_id, "ban", body={"user_id": bob.user_id})
    body = (await bob.get("sync", since=since, use_state_after="true")).body
    events = body["rooms"]["leave"][room_id]["state_after"]["events"]
    assert [(e["type"], e["state_key"], e["content"]["membership"]) for e in events] == [
        ("m.room.member", bob.user_id, "ban")
    ]
