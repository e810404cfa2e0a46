"""Pages of history over a real engine: nothing lost, nothing twice, nothing that is not one's to see."""

import random
from typing import Any

import pytest

from hs.matrix.errors import Forbidden, NotFound
from hs.storage.database import Database
from hs.storage.rooms import RoomInfo
from tests.rooms.conftest import ALICE, BOB, CAROL
from tests.sync.reading import SCAN_LIMIT, Library, bodies, ids, library

__all__ = ["library"]


async def busy_room(library: Library, seed: int = 1, count: int = 40) -> RoomInfo:
    """A room with messages, state, redactions, and people who come and go."""
    dice = random.Random(seed)
    room = await library.make_room(preset="public_chat")
    memberships = library.engine.memberships
    inside, said = set[str](), list[str]()
    for n in range(count):
        act = dice.choice(["say", "say", "say", "topic", "redact", "move"])
        if act == "topic":
            await library.set_state(room, "m.room.topic", {"topic": f"{n}"})
        elif act == "redact" and said:
            await library.redact(room, said.pop(dice.randrange(len(said))))
        elif act == "move":
            who = dice.choice([BOB, CAROL])
            await (memberships.leave if who in inside else memberships.join)(room, who)
            inside ^= {who}
        else:
            said.append(await library.say(room, f"{n}", dice.choice([ALICE, *sorted(inside)])))
    return room


async def whole(library: Library, room: RoomInfo) -> list[str]:
    events = await library.read_all(room, dir="f", limit=1000)
    return ids(events)


@pytest.mark.parametrize("seed", [1, 2])
async def test_both_directions_and_all_page_sizes_find_the_same_events_once(
    library: Library, seed: int
) -> None:
    room = await busy_room(library, seed)
    history = await whole(library, room)
    assert len(history) == len(set(history)) > 40
    for limit in range(1, 8):
        assert ids(await library.read_all(room, dir="f", limit=limit)) == history
        assert ids(await library.read_all(room, dir="b", limit=limit)) == history[::-1]


@pytest.mark.parametrize("seed", range(6))
async def test_a_wanderer_always_stands_between_two_events(library: Library, seed: int) -> None:
    dice = random.Random(seed)
    room = await busy_room(library, seed)
    history = await whole(library, room)
    first = await library.page(room, dir="f", limit=dice.randint(1, 7))
    # How many events are behind the reader.
    place, token = len(first["chunk"]), first["end"]
    for _ in range(40):
        direction, limit = dice.choice("bf"), dice.randint(1, 7)
        page = await library.page(room, dir=direction, limit=limit, **{"from": token})
        assert page["start"] == token
        behind, ahead = history[:place][::-1], history[place:]
        assert ids(page["chunk"]) == (ahead if direction == "f" else behind)[:limit]
        if "end" in page:
            place += len(page["chunk"]) * (1 if direction == "f" else -1)
            token = page["end"]


@pytest.mark.parametrize("user_id", [BOB, CAROL])
@pytest.mark.parametrize("visibility", ["shared", "joined", "invited", "world_readable"])
async def test_pages_of_a_guest_do_not_depend_on_their_size(
    library: Library, user_id: str, visibility: str
) -> None:
    room = await busy_room(library, 3)
    await library.set_state(room, "m.room.history_visibility", {"history_visibility": visibility})
    await library.say(room, "before the guest comes back")
    await library.engine.memberships.join(room, user_id)
    await library.say(room, "after")
    forth = ids(await library.read_all(room, user_id, dir="f", limit=1000))
    for limit in (1, 3, 7):
        assert ids(await library.read_all(room, user_id, dir="f", limit=limit)) == forth
        assert ids(await library.read_all(room, user_id, dir="b", limit=limit)) == forth[::-1]
    everything = await whole(library, room)
    assert [event_id for event_id in everything if event_id in forth] == forth


async def test_two_tokens_fence_in_what_is_between_them(library: Library) -> None:
    room = await busy_room(library, 4)
    history = await whole(library, room)
    early = (await library.page(room, dir="f", limit=5))["end"]
    late = (await library.page(room, dir="f", limit=20))["end"]
    forth = await library.read_all(room, dir="f", limit=4, to=late, **{"from": early})
    back = await library.read_all(room, dir="b", limit=4, to=early, **{"from": late})
    assert ids(forth) == history[5:20]
    assert ids(back) == history[5:20][::-1]


async def test_events_sent_while_somebody_reads_do_not_disturb(library: Library) -> None:
    room = await busy_room(library, 5, 20)
    history = await whole(library, room)
    page = await library.page(room, dir="b", limit=3)
    seen = ids(page["chunk"])
    while "end" in page:
        await library.say(room, "meanwhile")
        page = await library.page(room, dir="b", limit=3, **{"from": page["end"]})
        seen += ids(page["chunk"])
    assert seen == history[::-1]


@pytest.mark.parametrize("seed", range(3))
async def test_order_holds_where_depth_and_arrival_disagree(
    library: Library, database: Database, seed: int
) -> None:
    dice = random.Random(seed)
    room = await busy_room(library, seed)
    nids = [row["event_nid"] for row in await database.fetch("SELECT event_nid FROM events")]
    depths = [dice.randint(1, 12) for _ in nids]
    # As after federation: equal depths, late arrivals deep in the past, and backfilled events below zero.
    async with database.write() as writer:
        await writer.execute(
            "UPDATE events e SET depth = n.depth, stream_ordering = CASE WHEN n.depth < 4 "
            "THEN -e.stream_ordering ELSE e.stream_ordering END "
            "FROM unnest($1::bigint[], $2::bigint[]) AS n (event_nid, depth) WHERE e.event_nid = n.event_nid",
            nids,
            depths,
        )
    library.engine.event_cache.invalidate(nids)
    history = await whole(library, room)
    assert len(history) == len(set(history)) == len(nids)
    for limit in (1, 2, 5, 7):
        assert ids(await library.read_all(room, dir="f", limit=limit)) == history
        assert ids(await library.read_all(room, dir="b", limit=limit)) == history[::-1]


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_what_arrives_late_and_belongs_further_back_is_not_paged_to(
    library: Library, database: Database, limit: int
) -> None:
    room = await busy_room(library, 1)
    history = await whole(library, room)
    first = await library.page(room, dir="b", limit=limit)
    seen, token = ids(first["chunk"]), first["end"]
    late = [await library.say(room, f"late {n}") for n in range(3)]
    # As after federation: a branch that the reader's next sync tells of.
    async with database.write() as writer:
        await writer.execute("UPDATE events SET depth = 4 WHERE event_id = ANY($1::text[])", late)
    library.engine.event_cache.invalidate(
        list((await library.engine.events.find_nids(room.room_nid, late)).values())
    )
    rest = ids(await library.read_all(room, dir="b", limit=limit, **{"from": token}))
    assert seen + rest == history[::-1]
    # Whoever begins now has them in view.
    assert set(late) < set(ids(await library.read_all(room, dir="b", limit=limit)))
    # Turning around, the reader gets what has come, too.
    assert set(ids(await library.read_all(room, dir="f", limit=limit, **{"from": token}))) >= set(seen)


async def test_a_page_that_found_little_ends_with_a_place_to_go_on(library: Library) -> None:
    room = await library.make_room()
    await library.say(room, "far back")
    for n in range(3 * SCAN_LIMIT):
        await library.set_state(room, "m.room.topic", {"topic": f"{n}"})
    wanted = {"types": ["m.room.message"]}
    page = await library.page(room, dir="b", limit=5, filter=wanted)
    assert page["chunk"] == []
    assert page["end"]
    assert bodies(await library.read_all(room, dir="b", limit=5, filter=wanted)) == ["far back"]


async def test_rare_events_are_found_behind_many_others(library: Library) -> None:
    room = await library.make_room()
    await library.say(room, "first")
    for n in range(120):
        await library.set_state(room, "m.room.topic", {"topic": f"{n}"})
    await library.say(room, "last")
    wanted = {"types": ["m.room.message"]}
    assert bodies(await library.read_all(room, dir="b", limit=1, filter=wanted)) == ["last", "first"]
    assert bodies(await library.read_all(room, dir="f", limit=1, filter=wanted)) == ["first", "last"]
    nothing = await library.page(room, dir="b", filter={"types": []})
    assert nothing["chunk"] == []
    assert "end" not in nothing


@pytest.mark.parametrize("direction", ["b", "f"])
async def test_lazy_members_are_those_of_the_page_s_last_moment(library: Library, direction: str) -> None:
    room = await library.make_room(preset="public_chat")
    start = str(library.engine.room_token())
    await library.say(room, "alone")
    await library.engine.memberships.join(room, BOB)
    await library.say(room, "hello", BOB)
    if direction == "b":
        start = str(library.engine.room_token())
    query: dict[str, Any] = {"from": start, "filter": {"lazy_load_members": True}}
    page = await library.page(room, dir=direction, limit=3, **query)
    members = {event["state_key"]: event["content"]["membership"] for event in page["state"]}
    assert members == {ALICE: "join", BOB: "join"}


async def test_who_left_reads_what_was_before(library: Library) -> None:
    room = await library.make_room(preset="public_chat")
    await library.engine.memberships.join(room, BOB)
    during = await library.say(room, "during")
    await library.engine.memberships.leave(room, BOB)
    after = await library.say(room, "after")
    for direction in "bf":
        assert bodies(await library.read_all(room, BOB, dir=direction, limit=2)) == ["during"]
    newest = (await library.page(room, BOB, dir="b", limit=1))["chunk"][0]
    assert newest["content"]["membership"] == "leave"
    assert (await library.context(room, during, BOB))["event"]["event_id"] == during
    with pytest.raises(NotFound):
        await library.context(room, after, BOB)


async def test_strangers_the_invited_and_those_who_refused_read_nothing(library: Library) -> None:
    room = await library.make_room()
    with pytest.raises(Forbidden):
        await library.page(room, BOB, dir="b")
    await library.engine.memberships.invite(room, ALICE, BOB)
    with pytest.raises(Forbidden):
        await library.page(room, BOB, dir="b")
    await library.engine.memberships.leave(room, BOB)
    with pytest.raises(Forbidden):
        await library.page(room, BOB, dir="b")


async def test_the_world_reads_only_from_where_the_room_was_opened(library: Library) -> None:
    room = await library.make_room()
    hidden = await library.say(room, "hidden")
    await library.set_state(room, "m.room.history_visibility", {"history_visibility": "world_readable"})
    await library.say(room, "open")
    for direction in "bf":
        assert bodies(await library.read_all(room, BOB, dir=direction)) == ["open"]
    with pytest.raises(NotFound):
        await library.context(room, hidden, BOB)


class TestContext:
    @pytest.mark.parametrize("limit", [0, 1, 2, 5, 100])
    async def test_pages_go_on_where_the_context_ends(self, library: Library, limit: int) -> None:
        room = await busy_room(library, 6, 25)
        history = await whole(library, room)
        at = len(history) // 2
        found = await library.context(room, history[at], limit=limit)
        shown = [*ids(found["events_before"])[::-1], found["event"]["event_id"], *ids(found["events_after"])]
        assert len(shown) <= limit + 1
        older = await library.read_all(room, dir="b", limit=4, **{"from": found["start"]})
        newer = await library.read_all(room, dir="f", limit=4, **{"from": found["end"]})
        assert ids(older)[::-1] + shown + ids(newer) == history

    async def test_the_state_is_that_of_the_last_event(self, library: Library) -> None:
        room = await library.make_room(topic="first")
        event_id = await library.say(room, "here")
        await library.set_state(room, "m.room.topic", {"topic": "second"})
        await library.say(room, "there")
        for limit, topic in ((0, "first"), (4, "second")):
            state = (await library.context(room, event_id, limit=limit))["state"]
            [found] = [event["content"]["topic"] for event in state if event["type"] == "m.room.topic"]
            assert found == topic

    async def test_a_filter_does_not_hide_the_event_itself(self, library: Library) -> None:
        room = await library.make_room()
        event_id = await library.say(room, "here")
        await library.set_state(room, "m.room.topic", {"topic": "x"})
        found = await library.context(room, event_id, filter='{"types":["m.room.topic"]}')
        assert found["event"]["event_id"] == event_id
        assert [e["type"] for e in found["events_before"] + found["events_after"]] == ["m.room.topic"]
        assert {event["type"] for event in found["state"]} == {"m.room.topic"}

    async def test_lazy_members_are_the_senders(self, library: Library) -> None:
        room = await library.make_room(preset="public_chat")
        await library.engine.memberships.join(room, BOB)
        await library.engine.memberships.join(room, CAROL)
        event_id = await library.say(room, "here", BOB)
        lazy = '{"lazy_load_members":true}'
        state = (await library.context(room, event_id, limit=0, filter=lazy))["state"]
        assert [e["state_key"] for e in state if e["type"] == "m.room.member"] == [BOB]
        assert "m.room.create" in {event["type"] for event in state}
