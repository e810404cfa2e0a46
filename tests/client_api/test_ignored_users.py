"""Who is ignored is not heard, but what they do to a room is seen."""

from typing import Any

import pytest

from tests.people import Person, Town


async def ignore(person: Person, *user_ids: str) -> None:
    """Have the person ignore these users, and nobody else."""
    content: dict[str, Any] = {"ignored_users": {user_id: {} for user_id in user_ids}}
    answer = await person.put("user", person.user_id, "account_data", "m.ignored_user_list", body=content)
    assert answer.status == 200, answer


def bodies(events: list[Any]) -> list[Any]:
    """The texts of the messages among events."""
    return [event["content"]["body"] for event in events if event["type"] == "m.room.message"]


async def room_of_three(town: Town) -> tuple[str, Person, Person, Person]:
    """A room with Alice, Bob and Carol."""
    alice, bob, carol = [await town.person(name) for name in ("alice", "bob", "carol")]
    room_id = await alice.create_room(preset="public_chat", power_level_content_override={"state_default": 0})
    for person in (bob, carol):
        await person.join(room_id)
    return room_id, alice, bob, carol


async def synced(person: Person, **query: str) -> Any:
    """The body of a sync."""
    answer = await person.get("sync", **query)
    assert answer.status == 200, answer
    return answer.body


@pytest.mark.parametrize("is_first", [True, False])
async def test_syncs_leave_out_what_they_say(town: Town, is_first: bool) -> None:
    room_id, alice, bob, carol = await room_of_three(town)
    since = (await synced(bob))["next_batch"]
    await ignore(bob, carol.user_id)
    await carol.say(room_id, "spam")
    await carol.set_state(room_id, "m.room.topic", {"topic": "by Carol"})
    await alice.say(room_id, "hello")
    timeline = (await synced(bob, **({} if is_first else {"since": since})))["rooms"]["join"][room_id][
        "timeline"
    ]
    assert bodies(timeline["events"]) == ["hello"]
    topics = [event["content"] for event in timeline["events"] if event["type"] == "m.room.topic"]
    assert {"topic": "by Carol"} in [{"topic": content["topic"]} for content in topics]
    others = (await synced(alice))["rooms"]["join"][room_id]["timeline"]
    assert bodies(others["events"]) == ["spam", "hello"]


async def test_it_counts_at_once_in_both_directions(town: Town) -> None:
    room_id, _, bob, carol = await room_of_three(town)
    since = (await synced(bob))["next_batch"]
    await carol.say(room_id, "heard")
    body = await synced(bob, since=since)
    assert bodies(body["rooms"]["join"][room_id]["timeline"]["events"]) == ["heard"]
    await ignore(bob, carol.user_id)
    since = (await synced(bob, since=body["next_batch"]))["next_batch"]
    await carol.say(room_id, "not heard")
    body = await synced(bob, since=since, timeout="0")
    assert room_id not in body["rooms"].get("join", {})
    await ignore(bob)
    since = (await synced(bob, since=body["next_batch"]))["next_batch"]
    await carol.say(room_id, "heard again")
    body = await synced(bob, since=since)
    assert bodies(body["rooms"]["join"][room_id]["timeline"]["events"]) == ["heard again"]


async def test_pages_and_contexts_leave_them_out_until_they_are_heard_again(town: Town) -> None:
    room_id, alice, bob, carol = await room_of_three(town)
    for number in range(5):
        await carol.say(room_id, f"spam {number}")
    middle = await alice.say(room_id, "hello")
    await carol.say(room_id, "more spam")
    await ignore(bob, carol.user_id)
    page = await bob.get("rooms", room_id, "messages", dir="b", limit="3")
    assert bodies(page.body["chunk"]) == ["hello"]
    assert len(page.body["chunk"]) == 3
    context = await bob.get("rooms", room_id, "context", middle, limit="10")
    assert bodies(context.body["events_before"] + context.body["events_after"]) == []
    await ignore(bob)
    page = await bob.get("rooms", room_id, "messages", dir="b", limit="3")
    assert bodies(page.body["chunk"]) == ["more spam", "hello", "spam 4"]


async def test_their_invites_are_not_sent(town: Town) -> None:
    _, alice, bob, carol = await room_of_three(town)
    start = (await bob.get("initialSync", limit="1")).body["end"]
    await ignore(bob, carol.user_id)
    theirs, hers = (
        await carol.create_room(invite=[bob.user_id]),
        await alice.create_room(invite=[bob.user_id]),
    )
    assert set((await synced(bob))["rooms"]["invite"]) == {hers}
    rooms = (await bob.get("initialSync")).body["rooms"]
    assert {room["room_id"] for room in rooms if room["membership"] == "invite"} == {hers}
    stream = (await bob.get("events", **{"from": start, "timeout": "0"})).body["chunk"]
    assert {event["room_id"] for event in stream if event["type"] == "m.room.member"} == {hers}
    await ignore(bob)
    assert set((await synced(bob))["rooms"]["invite"]) == {hers, theirs}


async def test_the_old_stream_leaves_them_out(town: Town) -> None:
    room_id, alice, bob, carol = await room_of_three(town)
    start = (await bob.get("initialSync", limit="1")).body["end"]
    await ignore(bob, carol.user_id)
    await carol.say(room_id, "spam")
    await alice.say(room_id, "hello")
    answer = await bob.get("events", **{"from": start, "timeout": "0"})
    assert bodies(answer.body["chunk"]) == ["hello"]


async def test_initial_snapshots_leave_them_out(town: Town) -> None:
    room_id, alice, bob, carol = await room_of_three(town)
    await alice.say(room_id, "hello")
    for number in range(4):
        await carol.say(room_id, f"spam {number}")
    await ignore(bob, carol.user_id)
    [room] = [
        room for room in (await bob.get("initialSync", limit="3")).body["rooms"] if room["room_id"] == room_id
    ]
    alone = (await bob.get("rooms", room_id, "initialSync", limit="3")).body
    for snapshot in room, alone:
        assert bodies(snapshot["messages"]["chunk"]) == ["hello"]
    assert len(room["messages"]["chunk"]) == 3


async def test_a_gap_is_filled_with_what_is_heard(town: Town) -> None:
    room_id, alice, bob, carol = await room_of_three(town)
    since = (await synced(bob))["next_batch"]
    await ignore(bob, carol.user_id)
    for number in range(4):
        await alice.say(room_id, f"{number}")
        await carol.say(room_id, f"spam {number}")
    wanted = '{"room":{"timeline":{"limit":2}}}'
    timeline = (await synced(bob, since=since, filter=wanted))["rooms"]["join"][room_id]["timeline"]
    assert (bodies(timeline["events"]), timeline["limited"]) == (["2", "3"], True)
    page = await bob.get("rooms", room_id, "messages", dir="b", limit="2", **{"from": timeline["prev_batch"]})
    assert bodies(page.body["chunk"]) == ["1", "0"]
