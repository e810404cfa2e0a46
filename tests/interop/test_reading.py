"""What the other homeserver's users can read: history from before they came, people, rooms, receipts."""

import pytest

from tests.eyes import Eyes
from tests.interop.pairs import Pair, history, join_by, state_ids, texts

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]


# --- history


async def test_history_is_hidden_from_who_came_later(pair: Pair) -> None:
    alice, bob = await pair.people()
    visibility = {"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}
    room_id = await alice.create_room(preset="public_chat", initial_state=[visibility])
    for number in range(30):
        await alice.say(room_id, f"number {number}")
    await join_by(bob, room_id, pair.here.server_name)
    bob_sees = Eyes(bob)
    said = await alice.say(room_id, "for all")
    await bob_sees.event(room_id, said)
    assert texts(await history(bob, room_id)) == ["for all"]


# --- what passes


# --- questions


# --- rooms that move


async def test_a_room_moves_on(pair: Pair) -> None:
    room = await pair.shared_room(room_version="11")
    answer = await room.alice.post("rooms", room.room_id, "upgrade", body={"new_version": "12"})
    assert answer.status == 200, answer
    new_room_id = answer.body["replacement_room"]
    tombstone = await room.bob_sees.until(lambda: room.bob_sees.state(room.room_id, "m.room.tombstone"))
    assert tombstone["replacement_room"] == new_room_id
    await join_by(room.bob, new_room_id, pair.here.server_name)
    assert ("m.room.create", "") in await state_ids(room.bob, new_room_id)
