"""matrix-js-sdk talks through the real server process, to its own kind and to matrix-nio."""

import pytest

from tests.conversation.conftest import MakeJs, MakeNio
from tests.js_client import JsError

pytestmark = pytest.mark.interop


async def test_two_people_meet_and_see_each_others_messages(js_user: MakeJs) -> None:
    alice, bob = await js_user("js-alice"), await js_user("js-bob")
    room_id = (await alice.call("createRoom", {"name": "Coffee", "preset": "private_chat"}))["room_id"]
    await alice.call("invite", room_id, bob.user_id)
    await bob.do("waitForMembership", roomId=room_id, membership="invite")
    await bob.call("joinRoom", room_id)
    await bob.do("waitForMembership", roomId=room_id, membership="join")

    from_alice = await alice.say(room_id, "With milk?")
    assert (await bob.wait_for_text(room_id, alice.user_id, "With milk?"))["eventId"] == from_alice
    from_bob = await bob.say(room_id, "Never")
    assert (await alice.wait_for_text(room_id, bob.user_id, "Never"))["eventId"] == from_bob

    members = await bob.do("members", roomId=room_id)
    assert {member["userId"] for member in members} == {alice.user_id, bob.user_id}
    await bob.do("waitForEvent", roomId=room_id, type="m.room.name", content={"name": "Coffee"})


async def test_the_sdk_and_nio_share_a_room(js_user: MakeJs, nio_user: MakeNio) -> None:
    anna, ben = await js_user("mixed-anna"), await nio_user("mixed-ben")
    created = await anna.call("createRoom", {"invite": [ben.user_id], "topic": "Two worlds"})
    room_id = created["room_id"]
    await ben.wait_for_invite(room_id)
    await ben.client.join(room_id)
    await anna.do("waitForEvent", roomId=room_id, type="m.room.member", sender=ben.user_id)

    for number in range(5):
        from_anna = await anna.say(room_id, f"anna {number}")
        assert (await ben.wait_for_text(room_id, anna.user_id, f"anna {number}")).event_id == from_anna
        from_ben = await ben.say(room_id, f"ben {number}")
        assert (await anna.wait_for_text(room_id, ben.user_id, f"ben {number}"))["eventId"] == from_ben

    timeline = await anna.do("timeline", roomId=room_id)
    spoken = [event["content"]["body"] for event in timeline if event["type"] == "m.room.message"]
    assert spoken == [f"{who} {number}" for number in range(5) for who in ("anna", "ben")]


async def test_a_redaction_by_nio_reaches_the_sdk(js_user: MakeJs, nio_user: MakeNio) -> None:
    anna, ben = await js_user("redact-anna"), await nio_user("redact-ben")
    room_id = (await anna.call("createRoom", {"invite": [ben.user_id]}))["room_id"]
    await ben.wait_for_invite(room_id)
    await ben.client.join(room_id)
    event_id = await ben.say(room_id, "a slip")
    await anna.wait_for_text(room_id, ben.user_id, "a slip")
    await ben.client.room_redact(room_id, event_id, reason="slip")
    seen = await anna.do("waitForRedaction", roomId=room_id, eventId=event_id)
    assert seen["content"] == {}


async def test_state_history_and_aliases_work_through_the_sdk(js_user: MakeJs) -> None:
    alice = await js_user("js-curator")
    created = await alice.call("createRoom", {"room_alias_name": "curated", "preset": "public_chat"})
    room_id = created["room_id"]
    alias = "#curated:" + alice.user_id.partition(":")[2]
    assert (await alice.call("getRoomIdForAlias", alias))["room_id"] == room_id
    await alice.call("setRoomTopic", room_id, "What is shown")
    await alice.do("waitForEvent", roomId=room_id, type="m.room.topic")
    topic = await alice.call("getStateEvent", room_id, "m.room.topic", "")
    assert topic["topic"] == "What is shown"

    other = await js_user("js-visitor")
    await other.call("joinRoom", alias)
    await other.do("waitForMembership", roomId=room_id, membership="join")
    with pytest.raises(JsError) as refused:
        await other.call("setRoomTopic", room_id, "Mine now")
    assert (refused.value.status, refused.value.errcode) == (403, "M_FORBIDDEN")
    await other.call("leave", room_id)
    await other.do("waitForMembership", roomId=room_id, membership="leave")
