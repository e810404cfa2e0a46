"""Reactions: each of a user once."""

import asyncio
from typing import Any

import pytest

from tests.people import Answer, Person, Town


async def react(
    person: Person, room_id: str, target: str, key: Any, txn: str, type: str = "m.reaction", **more: Any
) -> Answer:
    """The answer to an annotation."""
    relation = {"rel_type": "m.annotation", "event_id": target, "key": key, **more}
    return await person.put("rooms", room_id, "send", type, txn, body={"m.relates_to": relation})


async def test_a_second_one_is_refused(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    first, second = await alice.say(room_id, "one"), await alice.say(room_id, "two")
    assert (await react(alice, room_id, first, "👍", "1")).status == 200
    assert (await react(alice, room_id, first, "👍", "2")).error == (400, "M_DUPLICATE_ANNOTATION")
    # Another fallback text does not make it another one.
    again = await react(alice, room_id, first, "👍", "3", **{"org.example": 1})
    assert again.error == (400, "M_DUPLICATE_ANNOTATION")
    # Another key, event, type or person does.
    assert (await react(alice, room_id, first, "👎", "4")).status == 200
    assert (await react(alice, room_id, second, "👍", "5")).status == 200
    assert (await react(alice, room_id, first, "👍", "6", type="org.example.mark")).status == 200
    assert (await react(bob, room_id, first, "👍", "1")).status == 200


async def test_a_repeated_request_is_no_second_one(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    target = await alice.say(room_id, "hello")
    first = await react(alice, room_id, target, "x", "same")
    assert first.status == 200
    assert (await react(alice, room_id, target, "x", "same")).body == first.body


async def test_after_a_redaction_it_may_be_sent_again(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    target = await alice.say(room_id, "hello")
    for number in range(2):
        event_id = (await react(alice, room_id, target, "x", f"r{number}")).body["event_id"]
        assert (await react(alice, room_id, target, "x", f"s{number}")).errcode == "M_DUPLICATE_ANNOTATION"
        assert (await alice.put("rooms", room_id, "redact", event_id, f"u{number}")).status == 200


async def test_of_many_at_the_same_time_one_gets_through(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    target = await alice.say(room_id, "hello")
    answers = await asyncio.gather(*(react(alice, room_id, target, "x", f"t{n}") for n in range(10)))
    assert sorted(answer.status for answer in answers) == [200] + [400] * 9
    same = await asyncio.gather(*(react(alice, room_id, target, "y", "same") for _ in range(10)))
    assert {answer.status for answer in same} == {200}
    assert len({answer.body["event_id"] for answer in same}) == 1


async def test_who_may_not_send_it_is_told_so_each_time(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room()
    target = await alice.say(room_id, "hello")
    for txn in ("1", "2"):
        assert (await react(bob, room_id, target, "x", txn)).error == (403, "M_FORBIDDEN")


@pytest.mark.parametrize("key", [None, 5, {}, ["x"]])
async def test_what_has_no_key_is_no_annotation_to_count(town: Town, key: Any) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    target = await alice.say(room_id, "hello")
    for txn in ("1", "2"):
        assert (await react(alice, room_id, target, key, txn)).status == 200


async def test_other_relations_may_be_repeated(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    target = await alice.say(room_id, "hello")
    for txn in ("1", "2"):
        answer = await react(alice, room_id, target, "x", txn, rel_type="m.reference")
        assert answer.status == 200
