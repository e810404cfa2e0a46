"""matrix-nio sees who is typing and who is there."""

import nio
import pytest

from tests.conversation.conftest import MakeNio
from tests.nio_client import NioClient

pytestmark = pytest.mark.interop


async def meet(alice: NioClient, bob: NioClient) -> str:
    """A room with both."""
    created = await alice.client.room_create(preset=nio.RoomPreset.public_chat)
    assert isinstance(created, nio.RoomCreateResponse), created
    assert isinstance(await bob.client.join(created.room_id), nio.JoinResponse)
    room_id: str = created.room_id
    for person in (alice, bob):
        await person.wait_until(
            lambda client=person.client: len(getattr(client.rooms.get(room_id), "users", ())) == 2,
            "both in the room",
        )
    return room_id


async def test_typing_is_seen_until_it_ends(nio_user: MakeNio) -> None:
    alice, bob = await nio_user("nio-typist"), await nio_user("nio-watcher")
    room_id = await meet(alice, bob)
    assert isinstance(await alice.client.room_typing(room_id, True, 20_000), nio.RoomTypingResponse)
    room = bob.client.rooms[room_id]
    await bob.wait_until(lambda: room.typing_users == [alice.user_id], "Alice typing")
    await alice.say(room_id, "done")
    await bob.wait_until(lambda: room.typing_users == [], "Alice having finished")
    await alice.client.room_typing(room_id, True, 20_000)
    await bob.wait_until(lambda: room.typing_users == [alice.user_id], "Alice typing again")
    await alice.client.room_typing(room_id, True, 300)
    await bob.wait_until(lambda: room.typing_users == [], "Alice having given up")


async def test_presence_is_seen(nio_user: MakeNio) -> None:
    alice, bob = await nio_user("nio-present"), await nio_user("nio-friend")
    room_id = await meet(alice, bob)
    user = bob.client.rooms[room_id].users[alice.user_id]
    await bob.wait_until(lambda: user.presence == "online" and user.currently_active, "Alice online")
    answer = await alice.client.set_presence("unavailable", "at the dentist's")
    assert isinstance(answer, nio.PresenceSetResponse), answer
    await bob.wait_until(lambda: user.status_msg == "at the dentist's", "Alice's status")
    asked = await bob.client.get_presence(alice.user_id)
    assert isinstance(asked, nio.PresenceGetResponse), asked
    assert asked.status_msg == "at the dentist's"
    await alice.close()
