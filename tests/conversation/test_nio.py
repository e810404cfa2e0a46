"""matrix-nio talks through the real server process."""

import nio
import pytest

from tests.conversation.conftest import MakeNio

pytestmark = pytest.mark.interop


async def test_two_people_meet_and_see_each_others_messages(nio_user: MakeNio) -> None:
    alice, bob = await nio_user("nio-alice"), await nio_user("nio-bob")
    created = await alice.client.room_create(name="Tea", topic="Black or green")
    assert isinstance(created, nio.RoomCreateResponse), created
    room_id = created.room_id

    invited = await alice.client.room_invite(room_id, bob.user_id)
    assert isinstance(invited, nio.RoomInviteResponse), invited
    await bob.wait_for_invite(room_id)
    joined = await bob.client.join(room_id)
    assert isinstance(joined, nio.JoinResponse), joined

    from_alice = await alice.say(room_id, "Black, please")
    assert (await bob.wait_for_text(room_id, alice.user_id, "Black, please")).event_id == from_alice
    from_bob = await bob.say(room_id, "Green for me")
    assert (await alice.wait_for_text(room_id, bob.user_id, "Green for me")).event_id == from_bob

    room = alice.client.rooms[room_id]
    assert (room.name, room.topic) == ("Tea", "Black or green")
    assert set(room.users) == {alice.user_id, bob.user_id}


async def test_history_is_paged_without_loss_or_repeats(nio_user: MakeNio) -> None:
    alice = await nio_user("nio-reader")
    created = await alice.client.room_create()
    texts = [f"line {number}" for number in range(25)]
    for text in texts:
        await alice.say(created.room_id, text)
    await alice.wait_for_text(created.room_id, alice.user_id, texts[-1])

    read: list[str] = []
    start = alice.client.next_batch
    while True:
        page = await alice.client.room_messages(
            created.room_id, start, direction=nio.MessageDirection.back, limit=7
        )
        assert isinstance(page, nio.RoomMessagesResponse), page
        read += [event.body for event in page.chunk if isinstance(event, nio.RoomMessageText)]
        if not page.end:
            break
        start = page.end
    assert read == texts[::-1]


async def test_a_redacted_message_loses_its_body_for_everybody(nio_user: MakeNio) -> None:
    alice, bob = await nio_user("nio-author"), await nio_user("nio-witness")
    created = await alice.client.room_create(invite=[bob.user_id])
    await bob.wait_for_invite(created.room_id)
    await bob.client.join(created.room_id)
    event_id = await alice.say(created.room_id, "I regret this")
    await bob.wait_for_text(created.room_id, alice.user_id, "I regret this")

    redacted = await alice.client.room_redact(created.room_id, event_id, reason="regret")
    assert isinstance(redacted, nio.RoomRedactResponse), redacted

    def find() -> bool:
        return any(
            isinstance(event, nio.RedactionEvent) and event.redacts == event_id for _, event in bob.seen
        )

    await bob.wait_until(find, "the redaction")
    fetched = await bob.client.room_get_event(created.room_id, event_id)
    assert isinstance(fetched, nio.RoomGetEventResponse), fetched
    assert isinstance(fetched.event, nio.RedactedEvent)
    assert fetched.event.reason == "regret"


async def test_leaving_kicking_and_banning_reach_both_sides(nio_user: MakeNio) -> None:
    alice, bob = await nio_user("nio-host"), await nio_user("nio-guest")
    created = await alice.client.room_create(preset=nio.RoomPreset.public_chat)
    room_id = created.room_id
    await bob.client.join(room_id)
    await bob.wait_until(lambda: room_id in bob.client.rooms, "the room")

    assert isinstance(await alice.client.room_kick(room_id, bob.user_id, "too loud"), nio.RoomKickResponse)
    await bob.wait_until(lambda: room_id in bob.left, "the kick")
    assert isinstance(await bob.client.join(room_id), nio.JoinResponse)
    await bob.wait_until(lambda: room_id not in bob.left, "the room again")

    assert isinstance(await alice.client.room_ban(room_id, bob.user_id), nio.RoomBanResponse)
    refused = await bob.client.join(room_id)
    assert isinstance(refused, nio.JoinError)
    assert refused.status_code == "M_FORBIDDEN"
    assert isinstance(await alice.client.room_unban(room_id, bob.user_id), nio.RoomUnbanResponse)
    assert isinstance(await bob.client.join(room_id), nio.JoinResponse)
    assert isinstance(await bob.client.room_leave(room_id), nio.RoomLeaveResponse)
    assert isinstance(await bob.client.room_forget(room_id), nio.RoomForgetResponse)


async def test_a_repeated_transaction_gives_the_same_event(nio_user: MakeNio) -> None:
    alice = await nio_user("nio-stutter")
    created = await alice.client.room_create()
    first = await alice.say(created.room_id, "once", txn_id="the-only-one")
    assert await alice.say(created.room_id, "once", txn_id="the-only-one") == first
    await alice.say(created.room_id, "after")
    await alice.wait_for_text(created.room_id, alice.user_id, "after")
    bodies = [event.body for _, event in alice.seen if isinstance(event, nio.RoomMessageText)]
    assert bodies == ["once", "after"]
