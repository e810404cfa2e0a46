"""GET /timestamp_to_event."""

from typing import Any

import pytest

from tests.people import Answer, Person, Town

FUTURE = 2**41


async def ask(person: Person, room_id: str, ts: Any, dir: str, prefix: str = "v1") -> Answer:
    """The answer to a question for an event."""
    path = f"/_matrix/client/{prefix}/rooms/{room_id}/timestamp_to_event?ts={ts}&dir={dir}"
    return await person.raw("GET", path)


async def find(person: Person, room_id: str, ts: int, dir: str) -> str:
    """The event id of a successful answer."""
    answer = await ask(person, room_id, ts, dir)
    assert answer.status == 200, answer
    event_id: str = answer.body["event_id"]
    return event_id


async def ts_of(person: Person, room_id: str, event_id: str) -> int:
    """When an event was sent."""
    ts: int = (await person.get("rooms", room_id, "event", event_id)).body["origin_server_ts"]
    return ts


async def say_apart(person: Person, room_id: str) -> list[tuple[str, int]]:
    """(event id, timestamp) of two events in a row with time between them and the event before."""
    sent: list[tuple[str, int]] = []
    while len(sent) < 3 or sent[-1][1] - sent[-2][1] < 2 or sent[-2][1] == sent[-3][1]:
        event_id = await person.say(room_id, "tick")
        sent.append((event_id, await ts_of(person, room_id, event_id)))
    return sent[-2:]


async def test_the_closest_event_in_either_direction(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    (first, at), (second, then) = await say_apart(alice, room_id)
    assert await find(alice, room_id, at, "f") == await find(alice, room_id, at, "b") == first
    between = (at + then) // 2
    assert await find(alice, room_id, between, "b") == first
    assert await find(alice, room_id, between, "f") == second
    answer = await ask(alice, room_id, FUTURE, "b")
    assert answer.body == {"event_id": second, "origin_server_ts": then}
    # The very beginning is an event, too.
    [create] = [e for e in (await alice.get("rooms", room_id, "state")).body if e["type"] == "m.room.create"]
    assert await find(alice, room_id, 0, "f") == create["event_id"]
    assert await find(alice, room_id, -(10**30), "f") == create["event_id"]


async def test_of_events_in_one_moment_it_is_the_outermost(town: Town) -> None:
    alice = await town.person("alice")
    # Its first events are made in one go.
    room_id = await alice.create_room(
        initial_state=[{"type": "a", "state_key": str(n), "content": {}} for n in range(200)]
    )
    events = (await alice.get("rooms", room_id, "messages", dir="f", limit="500")).body["chunk"]
    by_ts: dict[int, list[str]] = {}
    for event in events:
        by_ts.setdefault(event["origin_server_ts"], []).append(event["event_id"])
    assert max(map(len, by_ts.values())) > 1
    for ts, ids in by_ts.items():
        assert await find(alice, room_id, ts, "f") == ids[0]
        assert await find(alice, room_id, ts, "b") == ids[-1]


async def test_nothing_there(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    for ts, dir in ((FUTURE, "f"), (10**30, "f"), (0, "b"), (-1, "b"), (-(10**30), "b")):
        assert (await ask(alice, room_id, ts, dir)).error == (404, "M_NOT_FOUND")


async def test_only_what_one_may_see_is_found(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    visibility = {"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}
    room_id = await alice.create_room(preset="public_chat", initial_state=[visibility])
    hidden = await say_apart(alice, room_id)
    for number in range(60):
        await alice.set_state(room_id, "org.example", {"number": number})
    await bob.join(room_id)
    join = (await bob.get("rooms", room_id, "state", "m.room.member", bob.user_id, format="event")).body
    assert await find(bob, room_id, hidden[0][1], "f") == join["event_id"]
    # Before it was hidden, history was shared.
    last = (await bob.get("rooms", room_id, "state", "m.room.history_visibility", format="event")).body
    assert await find(bob, room_id, hidden[0][1], "b") == last["event_id"]
    await bob.post("rooms", room_id, "leave")
    left = (await bob.get("rooms", room_id, "state", "m.room.member", bob.user_id, format="event")).body
    await say_apart(alice, room_id)
    assert await find(bob, room_id, FUTURE, "b") == left["event_id"]


async def test_strangers_ask_only_of_world_readable_rooms(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    closed = await alice.create_room(preset="public_chat")
    visibility = {"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}}
    opened = await alice.create_room(initial_state=[visibility])
    event_id = await alice.say(opened, "hello")
    for room_id in (closed, "!unknown:test.example"):
        assert (await ask(bob, room_id, 0, "f")).error == (403, "M_FORBIDDEN")
    assert await find(bob, opened, FUTURE, "b") == event_id


async def test_it_has_the_path_from_before_it_was_stable(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    event_id = await alice.say(room_id, "hello")
    answer = await ask(alice, room_id, FUTURE, "b", "unstable/org.matrix.msc3030")
    assert answer.body["event_id"] == event_id


@pytest.mark.parametrize(
    ("query", "errcode"),
    [
        ("", "M_MISSING_PARAM"),
        ("?ts=5", "M_MISSING_PARAM"),
        ("?dir=f", "M_MISSING_PARAM"),
        ("?ts=5&dir=up", "M_INVALID_PARAM"),
        ("?ts=soon&dir=f", "M_INVALID_PARAM"),
        ("?ts=1.5&dir=f", "M_INVALID_PARAM"),
        ("?ts=&dir=f", "M_INVALID_PARAM"),
    ],
)
async def test_wrong_questions(town: Town, query: str, errcode: str) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    answer = await alice.raw("GET", f"/_matrix/client/v1/rooms/{room_id}/timestamp_to_event{query}")
    assert answer.error == (400, errcode)
    assert (await ask(alice, "nonsense", 0, "f")).error == (400, "M_INVALID_PARAM")
