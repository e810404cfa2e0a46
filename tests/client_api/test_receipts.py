"""Receipts and read markers over HTTP."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.client_api.sync_client import joined, sync
from tests.people import CLIENT, Answer, Person, Town

# Presence is news as well, and not what is waited for here.
ONLY_ROOMS: dict[str, Any] = {"presence": {"not_types": ["*"]}}
UNKNOWN_EVENT = "$" + "A" * 43


async def send_receipt(
    person: Person, room_id: str, event_id: str, type: str = "m.read", **body: Any
) -> Answer:
    return await person.post("rooms", room_id, "receipt", type, event_id, body=body)


async def read(person: Person, room_id: str, event_id: str, type: str = "m.read", **body: Any) -> None:
    """Send a receipt that is accepted."""
    answer = await send_receipt(person, room_id, event_id, type, **body)
    assert (answer.status, answer.body) == (200, {})


def receipts_in(body: Any, room_id: str) -> set[tuple[str, str, str, str | None]]:
    """(event id, type, user id, thread id) of all receipts that this sync tells."""
    if room_id not in body["rooms"]["join"]:
        return set()
    events = [e for e in joined(body, room_id)["ephemeral"]["events"] if e["type"] == "m.receipt"]
    assert len(events) <= 1
    assert all(event.keys() == {"type", "content"} for event in events)
    found = set()
    for event in events:
        assert event["content"]
        for event_id, types in event["content"].items():
            for type, users in types.items():
                for user_id, entry in users.items():
                    assert isinstance(entry["ts"], int)
                    assert entry.keys() <= {"ts", "thread_id"}
                    found.add((event_id, type, user_id, entry.get("thread_id")))
    return found


async def shared_room(alice: Person, *others: Person) -> str:
    room_id = await alice.create_room(preset="public_chat")
    for person in others:
        await person.join(room_id)
    return room_id


async def reply(person: Person, room_id: str, root_id: str, txn: str, rel_type: str = "m.thread") -> str:
    """A message that relates to another one."""
    body = {"msgtype": "m.text", "body": "re", "m.relates_to": {"rel_type": rel_type, "event_id": root_id}}
    answer = await person.put("rooms", room_id, "send", "m.room.message", txn, body=body)
    event_id: str = answer.body["event_id"]
    return event_id


async def test_a_receipt_is_told_to_everybody_in_the_room(town: Town) -> None:
    alice, bob, carol = await town.people("alice", "bob", "carol")
    room_id = await shared_room(alice, bob)
    event_id = await alice.say(room_id, "hello")
    tokens = {person: (await sync(person))["next_batch"] for person in (alice, bob, carol)}
    await read(bob, room_id, event_id)
    expected = {(event_id, "m.read", bob.user_id, None)}
    for person in (alice, bob):
        body = await sync(person, tokens[person])
        assert receipts_in(body, room_id) == expected
        # Once only; but a first sync has it too.
        assert receipts_in(await sync(person, body["next_batch"]), room_id) == set()
        assert receipts_in(await sync(person), room_id) == expected
    for since in (None, tokens[carol]):
        assert receipts_in(await sync(carol, since), room_id) == set()


async def test_a_receipt_wakes_whoever_waits(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await shared_room(alice, bob)
    event_id = await alice.say(room_id, "hello")
    since = (await sync(alice, filter=ONLY_ROOMS))["next_batch"]
    waiting = asyncio.create_task(sync(alice, since, timeout=30_000, filter=ONLY_ROOMS))
    await read(bob, room_id, event_id)
    async with asyncio.timeout(10):
        assert receipts_in(await waiting, room_id) == {(event_id, "m.read", bob.user_id, None)}


async def test_a_private_receipt_is_told_to_its_user_only(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await shared_room(alice, bob)
    first, second = await alice.say(room_id, "one"), await alice.say(room_id, "two")
    alices, bobs = (await sync(alice))["next_batch"], (await sync(bob))["next_batch"]
    waiting = asyncio.create_task(sync(bob, bobs, timeout=30_000, filter=ONLY_ROOMS))
    await read(bob, room_id, second, "m.read.private")
    async with asyncio.timeout(10):
        assert receipts_in(await waiting, room_id) == {(second, "m.read.private", bob.user_id, None)}
    assert receipts_in(await sync(alice, alices), room_id) == set()
    assert receipts_in(await sync(alice), room_id) == set()
    # A public one may lag behind it, and others see that one alone.
    await read(bob, room_id, first)
    both = {(second, "m.read.private", bob.user_id, None), (first, "m.read", bob.user_id, None)}
    for since in (None, alices):
        assert receipts_in(await sync(alice, since), room_id) == {(first, "m.read", bob.user_id, None)}
    for since in (None, bobs):
        assert receipts_in(await sync(bob, since), room_id) == both


async def test_receipts_do_not_move_backwards(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await shared_room(alice, bob)
    first, second = await alice.say(room_id, "one"), await alice.say(room_id, "two")
    await read(bob, room_id, second)
    since = (await sync(alice))["next_batch"]
    await read(bob, room_id, first)
    await read(bob, room_id, second)
    assert receipts_in(await sync(alice, since), room_id) == set()
    assert receipts_in(await sync(alice), room_id) == {(second, "m.read", bob.user_id, None)}


async def test_a_sync_tells_only_where_a_user_is_now(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await shared_room(alice, bob)
    first, second = await alice.say(room_id, "one"), await alice.say(room_id, "two")
    since = (await sync(alice))["next_batch"]
    for event_id in (first, second):
        await read(bob, room_id, event_id)
    assert receipts_in(await sync(alice, since), room_id) == {(second, "m.read", bob.user_id, None)}


async def test_threads_are_read_on_their_own(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await shared_room(alice, bob)
    root = await alice.say(room_id, "root")
    answer = await reply(alice, room_id, root, "t1")
    later = await alice.say(room_id, "later")
    since = (await sync(alice))["next_batch"]
    await read(bob, room_id, answer, thread_id=root)
    await read(bob, room_id, later, thread_id="main")
    await read(bob, room_id, root)
    expected = {
        (answer, "m.read", bob.user_id, root),
        (later, "m.read", bob.user_id, "main"),
        (root, "m.read", bob.user_id, None),
    }
    for token in (None, since):
        assert receipts_in(await sync(alice, token), room_id) == expected
    # An entry has one place in the answer: of two at the same event the unthreaded one says more.
    await read(bob, room_id, later)
    expected -= {(root, "m.read", bob.user_id, None), (later, "m.read", bob.user_id, "main")}
    for token in (None, since):
        assert receipts_in(await sync(alice, token), room_id) == {
            *expected,
            (later, "m.read", bob.user_id, None),
        }
    last = await alice.say(room_id, "last")
    await read(bob, room_id, last)
    await read(bob, room_id, last, thread_id="main")
    for token in (None, since):
        told = receipts_in(await sync(alice, token), room_id)
        assert told == {(answer, "m.read", bob.user_id, root), (last, "m.read", bob.user_id, None)}


async def test_a_thread_id_must_fit_the_event(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    root, other = await alice.say(room_id, "root"), await alice.say(room_id, "other")
    answer = await reply(alice, room_id, root, "t1")
    beside = await reply(alice, room_id, root, "t2", "m.reference")
    invalid = (400, "M_INVALID_PARAM")
    for event_id, thread_id in (
        (answer, "main"), (answer, other), (answer, UNKNOWN_EVENT), (answer, "x" * 5000), (root, other),
        (other, root), (other, other), (answer, ""), (answer, None), (answer, 5), (answer, [root]),
        (answer, {}), (answer, True), (answer, "\x00"), (answer, "\N{SNOWMAN}"),
    ):  # fmt: skip
        assert (await send_receipt(alice, room_id, event_id, thread_id=thread_id)).error == invalid, thread_id
        assert (
            await send_receipt(alice, room_id, event_id, "m.read.private", thread_id=thread_id)
        ).error == invalid
    # The root is in the main timeline, and related to its thread; so is what refers to it otherwise.
    for event_id in (root, beside):
        for thread_id in ("main", root):
            await read(alice, room_id, event_id, thread_id=thread_id)
    await read(alice, room_id, answer, thread_id=root)


async def test_fully_read_is_account_data(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await shared_room(alice, bob)
    first, second = await alice.say(room_id, "one"), await alice.say(room_id, "two")
    bobs = (await sync(bob))["next_batch"]

    for mark in (
        lambda event_id: read(alice, room_id, event_id, "m.fully_read"),
        lambda event_id: mark_read(alice, room_id, fully_read=event_id),
    ):
        for event_id in (first, second):
            since = (await sync(alice))["next_batch"]
            await mark(event_id)
            body = await sync(alice, since)
            assert joined(body, room_id)["account_data"]["events"] == [
                {"type": "m.fully_read", "content": {"event_id": event_id}}
            ]
            assert receipts_in(body, room_id) == set()
    assert room_id not in (await sync(bob, bobs))["rooms"]["join"]
    answer = await alice.get("user", alice.user_id, "rooms", room_id, "account_data", "m.fully_read")
    assert answer.body == {"event_id": second}
    # It cannot be written as such.
    answer = await alice.put("user", alice.user_id, "rooms", room_id, "account_data", "m.fully_read")
    assert answer.status == 405
    # It is of a whole room.
    answer = await send_receipt(alice, room_id, second, "m.fully_read", thread_id="main")
    assert answer.error == (400, "M_INVALID_PARAM")


async def mark_read(
    person: Person, room_id: str, fully_read: Any = None, read: Any = None, private: Any = None
) -> None:
    """POST /read_markers, which is accepted."""
    body = {"m.fully_read": fully_read, "m.read": read, "m.read.private": private}
    answer = await person.post(
        "rooms", room_id, "read_markers", body={k: v for k, v in body.items() if v is not None}
    )
    assert (answer.status, answer.body) == (200, {})


async def test_read_markers_set_several_at_once(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await shared_room(alice, bob)
    one, two, three = [await alice.say(room_id, text) for text in ("one", "two", "three")]
    since = (await sync(bob))["next_batch"]
    await mark_read(bob, room_id, fully_read=one, read=two, private=three)
    body = await sync(bob, since)
    assert receipts_in(body, room_id) == {
        (two, "m.read", bob.user_id, None),
        (three, "m.read.private", bob.user_id, None),
    }
    assert joined(body, room_id)["account_data"]["events"][0]["content"] == {"event_id": one}
    assert receipts_in(await sync(alice), room_id) == {(two, "m.read", bob.user_id, None)}
    # Nothing at all, and nulls, change nothing.
    await mark_read(bob, room_id)
    nulls = {"m.fully_read": None, "m.read": None, "m.read.private": None}
    assert (await bob.post("rooms", room_id, "read_markers", body=nulls)).status == 200
    assert room_id not in (await sync(bob, body["next_batch"]))["rooms"]["join"]


async def test_read_markers_with_a_wrong_event_change_nothing(town: Town) -> None:
    alice = await town.person("alice")
    room_id, other = await alice.create_room(), await alice.create_room()
    here, elsewhere = await alice.say(room_id, "here"), await alice.say(other, "there")
    since = (await sync(alice))["next_batch"]
    types = ("m.fully_read", "m.read", "m.read.private")
    for wrong in types:
        body = dict.fromkeys(types, here) | {wrong: elsewhere}
        answer = await alice.post("rooms", room_id, "read_markers", body=body)
        assert answer.error == (404, "M_NOT_FOUND"), wrong
        for odd in ("here", "", "!x:y", "$a:b\x00", "$" + "x" * 300):
            answer = await alice.post("rooms", room_id, "read_markers", body=body | {wrong: odd})
            assert answer.error == (400, "M_INVALID_PARAM"), odd
        for odd in (5, [here], {}):
            answer = await alice.post("rooms", room_id, "read_markers", body=body | {wrong: odd})
            assert answer.error == (400, "M_BAD_JSON"), odd
    assert (await sync(alice, since))["rooms"]["join"] == {}


@pytest.mark.parametrize("type", ["m.read", "m.read.private", "m.fully_read"])
async def test_only_members_and_only_events_of_the_room(town: Town, type: str) -> None:
    alice, bob, carol = await town.people("alice", "bob", "carol")
    room_id, other = await shared_room(alice, bob), await alice.create_room()
    event_id, elsewhere = await alice.say(room_id, "here"), await alice.say(other, "there")
    await bob.post("rooms", room_id, "leave")
    forbidden, missing, odd = (403, "M_FORBIDDEN"), (404, "M_NOT_FOUND"), (400, "M_INVALID_PARAM")
    for person in (bob, carol):
        assert (await send_receipt(person, room_id, event_id, type)).error == forbidden
        answer = await person.post("rooms", room_id, "read_markers", body={type: event_id})
        assert answer.error == forbidden
    for room, error in (("!no:such.room", forbidden), ("no room", odd)):
        assert (await send_receipt(alice, room, event_id, type)).error == error
        assert (await alice.post("rooms", room, "read_markers", body={type: event_id})).error == error
    for event, error in ((elsewhere, missing), (UNKNOWN_EVENT, missing), ("event", odd), ("$é:\x7f", odd)):
        assert (await send_receipt(alice, room_id, event, type)).error == error
    assert (await send_receipt(alice, room_id, event_id, type)).status == 200


async def test_other_types_are_refused(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    event_id = await alice.say(room_id, "hello")
    for type in ("m.delivered", "m.read ", "M.READ", "x" * 3000):
        assert (await send_receipt(alice, room_id, event_id, type)).error == (400, "M_INVALID_PARAM")


async def test_bodies(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    event_id = await alice.say(room_id, "hello")
    for url in (
        f"{CLIENT}/rooms/{room_id}/receipt/m.read/{event_id}",
        f"{CLIENT}/rooms/{room_id}/read_markers",
        f"/_matrix/client/r0/rooms/{room_id}/receipt/m.read/{event_id}",
    ):
        # Clients leave the body out; what is unknown is left alone.
        for data in (None, b"", b"{}", b'{"org.example": [1]}'):
            assert (await alice.raw("POST", url, data)).status == 200
        assert (await alice.raw("POST", url, b"{")).error == (400, "M_NOT_JSON")
        assert (await alice.raw("POST", url, b"[]")).error == (400, "M_BAD_JSON")


async def test_receipts_of_who_has_left_stay(town: Town) -> None:
    alice, bob, carol = await town.people("alice", "bob", "carol")
    room_id = await shared_room(alice, bob)
    event_id = await alice.say(room_id, "hello")
    await read(bob, room_id, event_id)
    await bob.post("rooms", room_id, "leave")
    since = (await sync(carol))["next_batch"]
    await carol.join(room_id)
    expected = {(event_id, "m.read", bob.user_id, None)}
    # Who joins is told all there is.
    assert receipts_in(await sync(carol, since), room_id) == expected
    assert receipts_in(await sync(alice), room_id) == expected


async def test_a_filter_can_leave_receipts_out(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await shared_room(alice, bob)
    event_id = await alice.say(room_id, "hello")
    since = (await sync(alice))["next_batch"]
    await read(bob, room_id, event_id)
    without: dict[str, Any] = {"room": {"ephemeral": {"not_types": ["m.receipt"]}}}
    assert receipts_in(await sync(alice, since, filter=without), room_id) == set()
    assert receipts_in(await sync(alice, filter=without), room_id) == set()
    assert receipts_in(await sync(alice, since), room_id)


async def test_reading_clears_the_counts(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await shared_room(alice, bob)
    events = [await alice.say(room_id, str(number)) for number in range(4)]
    body = await sync(bob)

    def unread(body: Any) -> int:
        count: int = joined(body, room_id)["unread_notifications"]["notification_count"]
        return count

    assert unread(body) == 4
    ways: list[tuple[Callable[[], Awaitable[None]], int]] = [
        (lambda: read(bob, room_id, events[0]), 3),
        (lambda: read(bob, room_id, events[2], "m.read.private"), 1),
        # Behind the private one: others see it, the count stays.
        (lambda: read(bob, room_id, events[1]), 1),
        (lambda: mark_read(bob, room_id, read=events[3]), 0),
    ]
    for act, left in ways:
        await act()
        body = await sync(bob, body["next_batch"])
        assert unread(body) == left
        assert unread(await sync(bob)) == left


async def test_many_readers_at_once(town: Town) -> None:
    people = await town.people(*["reader"] * 6)
    alice = people[0]
    room_id = await shared_room(*people)
    events = [await alice.say(room_id, str(number)) for number in range(8)]
    since = (await sync(alice))["next_batch"]
    answers = await asyncio.gather(
        *(
            send_receipt(person, room_id, event_id, type)
            for event_id in events
            for person in people
            for type in ("m.read", "m.read.private")
        )
    )
    assert {answer.status for answer in answers} == {200}
    # In whatever order they came: everybody is where they have read to.
    expected = {(events[-1], "m.read", person.user_id, None) for person in people}
    expected.add((events[-1], "m.read.private", alice.user_id, None))
    assert receipts_in(await sync(alice, since), room_id) == expected
    assert receipts_in(await sync(alice), room_id) == expected
