"""Syncs over a real engine: what a client is told, and when."""

import asyncio
from typing import Any

import msgspec

from hs.engine import Engine
from hs.readers import Readers
from hs.rooms.create import CreateRoom
from hs.rooms.drafts import Draft, Transaction
from hs.storage.rooms import RoomInfo
from tests.rooms.conftest import ALICE, BOB
from tests.sync.conftest import Client

LAZY = {"room": {"state": {"lazy_load_members": True}}}


async def make_room(engine: Engine, **wishes: Any) -> RoomInfo:
    return await engine.rooms.get(await engine.creator.create(ALICE, msgspec.convert(wishes, CreateRoom)))


async def say(
    engine: Engine, room: RoomInfo, body: str, sender: str = ALICE, txn_id: str | None = None
) -> str:
    transaction = Transaction("DEVICE", "send/m.room.message", txn_id) if txn_id else None
    draft = Draft("m.room.message", sender, {"body": body, "msgtype": "m.text"}, transaction=transaction)
    return (await engine.writer.send(room, draft)).event_id


async def until_waiting(readers: Readers, count: int) -> None:
    """Let the loop turn until so many long polls are waiting: they have no other way to say so."""
    while len(readers.notifier) < count:  # noqa: ASYNC110
        await asyncio.sleep(0)


def bodies(answer: Any, room: RoomInfo) -> list[str]:
    timeline = answer["rooms"]["join"].get(room.room_id, {}).get("timeline", {"events": []})
    return [event["content"]["body"] for event in timeline["events"] if event["type"] == "m.room.message"]


def types(events: list[Any]) -> list[str]:
    return [event["type"] for event in events]


async def test_an_initial_sync_has_the_room_with_timeline_and_state(engine: Engine, readers: Readers) -> None:
    room = await make_room(engine, name="Name")
    for i in range(15):
        await say(engine, room, str(i))
    answer = await Client(readers.sync, ALICE).sync()
    joined = answer["rooms"]["join"][room.room_id]
    assert bodies(answer, room) == [str(i) for i in range(5, 15)]
    assert joined["timeline"]["limited"] is True
    assert {"m.room.create", "m.room.member", "m.room.power_levels", "m.room.name"} <= set(
        types(joined["state"]["events"])
    )
    # No heroes: the room has a name.
    assert joined["summary"] == {"m.joined_member_count": 1, "m.invited_member_count": 0}


async def test_state_and_timeline_of_a_short_room_do_not_overlap(engine: Engine, readers: Readers) -> None:
    room = await make_room(engine)
    answer = await Client(readers.sync, ALICE).sync({"room": {"timeline": {"limit": 3}}})
    joined = answer["rooms"]["join"][room.room_id]
    shown = [event["event_id"] for event in joined["state"]["events"] + joined["timeline"]["events"]]
    assert len(shown) == len(set(shown)) == 6


async def test_incremental_syncs_tell_only_what_is_new(engine: Engine, readers: Readers) -> None:
    room, alice = await make_room(engine), Client(readers.sync, ALICE)
    await alice.sync()
    await say(engine, room, "one")
    await say(engine, room, "two")
    answer = await alice.sync()
    assert bodies(answer, room) == ["one", "two"]
    assert answer["rooms"]["join"][room.room_id]["timeline"]["limited"] is False
    assert answer["rooms"]["join"][room.room_id]["state"]["events"] == []
    assert (await alice.sync())["rooms"]["join"] == {}


async def test_a_gap_is_limited_and_brings_the_state_that_changed_in_it(
    engine: Engine, readers: Readers
) -> None:
    room, alice = await make_room(engine, topic="old"), Client(readers.sync, ALICE)
    await alice.sync()
    await engine.writer.send(room, Draft("m.room.topic", ALICE, {"topic": "new"}, state_key=""))
    for i in range(12):
        await say(engine, room, str(i))
    joined = (await alice.sync())["rooms"]["join"][room.room_id]
    assert joined["timeline"]["limited"] is True
    [topic] = joined["state"]["events"]
    assert topic["content"]["topic"] == "new"
    assert topic["unsigned"]["prev_content"]["topic"] == "old"


async def test_a_waiting_sync_is_woken_by_a_message(engine: Engine, readers: Readers) -> None:
    room, alice = await make_room(engine), Client(readers.sync, ALICE)
    await alice.sync()
    waiting = asyncio.create_task(alice.sync(timeout_ms=30_000))
    await until_waiting(readers, 1)
    await say(engine, room, "wake up")
    assert bodies(await waiting, room) == ["wake up"]
    assert len(readers.notifier) == 0


async def test_polls_that_are_cut_leave_nothing_behind(engine: Engine, readers: Readers) -> None:
    await make_room(engine)
    alice = Client(readers.sync, ALICE)
    await alice.sync()
    polls = [asyncio.create_task(alice.sync(timeout_ms=30_000)) for _ in range(1000)]
    await until_waiting(readers, 1000)
    for poll in polls:
        poll.cancel()
    await asyncio.gather(*polls, return_exceptions=True)
    assert len(readers.notifier) == 0


async def test_an_invite_then_a_join_then_a_kick(engine: Engine, readers: Readers) -> None:
    room, bob = await make_room(engine, name="Club"), Client(readers.sync, BOB)
    await bob.sync()
    await engine.memberships.invite(room, ALICE, BOB)
    invited = (await bob.sync())["rooms"]["invite"][room.room_id]["invite_state"]["events"]
    assert {"m.room.create", "m.room.name", "m.room.member", "m.room.join_rules"} == set(types(invited))
    await engine.memberships.join(room, BOB)
    answer = await bob.sync()
    joined = answer["rooms"]["join"][room.room_id]
    assert answer["rooms"]["invite"] == {}
    assert "m.room.create" in types(joined["state"]["events"] + joined["timeline"]["events"])
    await engine.memberships.kick(room, ALICE, BOB, "bye")
    await say(engine, room, "about bob")
    answer = await bob.sync()
    [kick] = answer["rooms"]["leave"][room.room_id]["timeline"]["events"]
    assert kick["content"] == {"membership": "leave", "reason": "bye"}
    assert answer["rooms"]["join"] == {}
    assert (await bob.sync())["rooms"]["leave"] == {}


async def test_a_rejected_invite_leaves(engine: Engine, readers: Readers) -> None:
    room, bob = await make_room(engine), Client(readers.sync, BOB)
    await engine.memberships.invite(room, ALICE, BOB)
    await bob.sync()
    await engine.memberships.leave(room, BOB)
    answer = await bob.sync()
    assert [
        e["content"]["membership"] for e in answer["rooms"]["leave"][room.room_id]["timeline"]["events"]
    ] == ["leave"]


async def test_a_profile_change_is_no_new_join(engine: Engine, readers: Readers) -> None:
    room, alice = await make_room(engine), Client(readers.sync, ALICE)
    await alice.sync()
    await engine.writer.send(
        room,
        Draft("m.room.member", ALICE, {"membership": "join", "displayname": "Other"}, state_key=ALICE),
    )
    joined = (await alice.sync())["rooms"]["join"][room.room_id]
    assert types(joined["timeline"]["events"]) == ["m.room.member"]
    assert joined["state"]["events"] == []


async def test_leaving_and_rejoining_between_two_syncs_gives_the_whole_state(
    engine: Engine, readers: Readers
) -> None:
    room, bob = await make_room(engine, preset="public_chat"), Client(readers.sync, BOB)
    await engine.memberships.join(room, BOB)
    await bob.sync()
    await engine.memberships.leave(room, BOB)
    await engine.memberships.join(room, BOB)
    joined = (await bob.sync({"room": {"timeline": {"limit": 1}}}))["rooms"]["join"][room.room_id]
    assert "m.room.create" in types(joined["state"]["events"])
    assert joined["timeline"]["limited"] is True


async def test_lazy_loading_brings_only_the_members_who_speak(engine: Engine, readers: Readers) -> None:
    room = await make_room(engine, preset="public_chat")
    crowd = [f"@user{i}:hs.test" for i in range(20)]
    for user_id in [BOB, *crowd]:
        await engine.memberships.join(room, user_id)
    alice = Client(readers.sync, ALICE)
    for i in range(10):
        await say(engine, room, str(i), crowd[0])
    joined = (await alice.sync(LAZY))["rooms"]["join"][room.room_id]
    members = {e["state_key"] for e in joined["state"]["events"] if e["type"] == "m.room.member"}
    assert joined["summary"]["m.joined_member_count"] == 22
    heroes = joined["summary"]["m.heroes"]
    assert heroes == [BOB, *crowd[:4]]
    assert members == {ALICE, *heroes}
    await say(engine, room, "again", crowd[0])
    await say(engine, room, "new", crowd[9])
    joined = (await alice.sync(LAZY))["rooms"]["join"][room.room_id]
    assert [e["state_key"] for e in joined["state"]["events"]] == [crowd[9]]


async def test_only_the_sending_device_gets_the_transaction_id(engine: Engine, readers: Readers) -> None:
    room = await make_room(engine)
    phone, laptop = Client(readers.sync, ALICE), Client(readers.sync, ALICE, "LAPTOP")
    await phone.sync()
    await laptop.sync()
    await say(engine, room, "mine", txn_id="t1")
    [on_phone] = (await phone.sync())["rooms"]["join"][room.room_id]["timeline"]["events"]
    [on_laptop] = (await laptop.sync())["rooms"]["join"][room.room_id]["timeline"]["events"]
    assert on_phone["unsigned"]["transaction_id"] == "t1"
    assert "transaction_id" not in on_laptop["unsigned"]
    assert on_laptop["unsigned"]["membership"] == "join"


async def test_a_redacted_event_says_so(engine: Engine, readers: Readers) -> None:
    room = await make_room(engine)
    event_id = await say(engine, room, "secret")
    await engine.writer.send(room, Draft("m.room.redaction", ALICE, {"reason": "oops"}, redacts=event_id))
    events = (await Client(readers.sync, ALICE).sync())["rooms"]["join"][room.room_id]["timeline"]["events"]
    [redacted] = [event for event in events if event["event_id"] == event_id]
    assert redacted["content"] == {}
    assert redacted["unsigned"]["redacted_because"]["content"]["reason"] == "oops"


async def test_full_state_comes_even_without_news(engine: Engine, readers: Readers) -> None:
    room, alice = await make_room(engine), Client(readers.sync, ALICE)
    await alice.sync()
    joined = (await alice.sync(full_state=True))["rooms"]["join"][room.room_id]
    assert "m.room.create" in types(joined["state"]["events"])
    assert joined["timeline"]["events"] == []


async def test_state_after_replaces_state(engine: Engine, readers: Readers) -> None:
    room, alice = await make_room(engine), Client(readers.sync, ALICE)
    await alice.sync()
    await engine.writer.send(room, Draft("m.room.topic", ALICE, {"topic": "t"}, state_key=""))
    joined = (await alice.sync(state_after=True))["rooms"]["join"][room.room_id]
    assert "state" not in joined
    assert types(joined["state_after"]["events"]) == ["m.room.topic"]


async def test_a_filter_keeps_rooms_and_types_out(engine: Engine, readers: Readers) -> None:
    room, other = await make_room(engine), await make_room(engine)
    alice = Client(readers.sync, ALICE)
    await say(engine, room, "hidden")
    answer = await alice.sync(
        {"room": {"rooms": [room.room_id], "timeline": {"not_types": ["m.room.message"]}}}
    )
    assert other.room_id not in answer["rooms"]["join"]
    assert bodies(answer, room) == []


async def test_what_was_said_before_the_join_is_seen_as_history_visibility_says(
    engine: Engine, readers: Readers
) -> None:
    joined_only = [{"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}]
    private = await make_room(engine, preset="public_chat", initial_state=joined_only)
    shared = await make_room(engine, preset="public_chat")
    for room in (private, shared):
        await say(engine, room, "before")
        await engine.memberships.join(room, BOB)
        await say(engine, room, "after")
    answer = await Client(readers.sync, BOB).sync()
    assert bodies(answer, private) == ["after"]
    assert bodies(answer, shared) == ["before", "after"]
