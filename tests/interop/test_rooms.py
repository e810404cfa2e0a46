"""Rooms shared by two homeservers: joined, talked in, changed and left from both sides."""

import pytest

from tests.eyes import Eyes
from tests.interop.pairs import Pair, history, join_by, texts

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]

VERSIONS = [str(number) for number in range(1, 13)]


@pytest.mark.parametrize("version_id", VERSIONS)
async def test_a_room_is_joined_from_the_other_server_and_both_talk(pair: Pair, version_id: str) -> None:
    room = await pair.shared_room(room_version=version_id, topic="before the join")
    await room.say(room.alice, "hello from here")
    await room.say(room.bob, "hello from there")
    await room.set_state(room.alice, "m.room.topic", {"topic": "after the join"})
    assert room.bob_sees.state(room.room_id, "m.room.topic") == {"topic": "after the join"}
    await room.check_same_state()


async def test_many_messages_of_both_arrive_in_full(pair: Pair) -> None:
    room = await pair.shared_room()
    sent = [
        await person.say(room.room_id, f"{number} of {person.user_id}")
        for number in range(20)
        for person in (room.alice, room.bob)
    ]
    for event_id in sent:
        await room.both_see(event_id)
    assert set(room.alice_sees.texts(room.room_id)) == set(room.bob_sees.texts(room.room_id))
    await room.check_same_state()


async def test_more_people_join_on_both_sides(pair: Pair) -> None:
    room = await pair.shared_room()
    carol, dave = await pair.there.person("carol"), await pair.here.person("dave")
    await room.join(carol)
    await room.join(dave)
    said = await dave.say(room.room_id, "from the second one here")
    await Eyes(carol).event(room.room_id, said)
    members = await carol.get("rooms", room.room_id, "joined_members")
    assert len(members.body["joined"]) == 4
    await room.check_same_state()


@pytest.mark.parametrize("version_id", ["1", "6", "10", "12"])
async def test_redactions_cross(pair: Pair, version_id: str) -> None:
    room = await pair.shared_room(room_version=version_id)
    for redactor, reader, eyes in (
        (room.alice, room.bob, room.bob_sees),
        (room.bob, room.alice, room.alice_sees),
    ):
        said = await room.say(redactor, "something rash")
        answer = await redactor.put("rooms", room.room_id, "redact", said, "txn", body={"reason": "rash"})
        await eyes.event(room.room_id, answer.body["event_id"])
        found = await reader.get("rooms", room.room_id, "event", said)
        assert found.body["content"] == {}
        assert found.body["unsigned"]["redacted_because"]["event_id"] == answer.body["event_id"]


async def test_a_moderator_redacts_what_the_other_server_sent(pair: Pair) -> None:
    room = await pair.shared_room()
    said = await room.say(room.bob, "spam")
    answer = await room.alice.put("rooms", room.room_id, "redact", said, "txn", body={})
    await room.bob_sees.event(room.room_id, answer.body["event_id"])
    found = await room.bob.get("rooms", room.room_id, "event", said)
    assert found.body["content"] == {}


async def test_who_may_not_do_something_may_not_do_it_from_there_either(pair: Pair) -> None:
    room = await pair.shared_room()
    answer = await room.bob.set_state(room.room_id, "m.room.topic", {"topic": "mine now"})
    assert answer.error == (403, "M_FORBIDDEN")
    levels = await room.alice.state(room.room_id, "m.room.power_levels")
    levels["users"] = levels.get("users", {}) | {room.bob.user_id: 50}
    await room.set_state(room.alice, "m.room.power_levels", levels)
    await room.set_state(room.bob, "m.room.topic", {"topic": "mine now"})
    assert await room.alice.state(room.room_id, "m.room.topic") == {"topic": "mine now"}


async def test_reactions_edits_and_threads_cross(pair: Pair) -> None:
    room = await pair.shared_room()
    said = await room.say(room.alice, "somethign")
    reaction = {"m.relates_to": {"rel_type": "m.annotation", "event_id": said, "key": "x"}}
    edit = {
        "msgtype": "m.text",
        "body": "* something",
        "m.new_content": {"msgtype": "m.text", "body": "something"},
        "m.relates_to": {"rel_type": "m.replace", "event_id": said},
    }
    threaded = {
        "msgtype": "m.text",
        "body": "in a thread",
        "m.relates_to": {"rel_type": "m.thread", "event_id": said},
    }
    sent = []
    for person, kind, content in (
        (room.bob, "m.reaction", reaction),
        (room.alice, "m.room.message", edit),
        (room.bob, "m.room.message", threaded),
    ):
        answer = await person.put("rooms", room.room_id, "send", kind, f"txn-{kind}", body=content)
        sent.append(answer.body["event_id"])
        await room.both_see(sent[-1])
    for person in (room.alice, room.bob):
        found = await person.get("rooms", room.room_id, "event", said)
        relations = found.body["unsigned"]["m.relations"]
        assert relations["m.thread"]["count"] == 1
        assert relations["m.replace"]["event_id"] == sent[1]


# --- memberships


async def test_who_leaves_is_gone_and_comes_back(pair: Pair) -> None:
    room = await pair.shared_room()
    assert (await room.bob.post("rooms", room.room_id, "leave")).status == 200
    await room.alice_sees.sees_member(room.room_id, room.bob.user_id, "leave")
    await room.alice.say(room.room_id, "while nobody is there")
    await room.join(room.bob)
    await room.say(room.bob, "back")
    await room.check_same_state()
    found = texts(await history(room.bob, room.room_id))
    assert found == ["back", "while nobody is there"]


async def test_who_made_the_room_leaves_and_the_others_go_on(pair: Pair) -> None:
    room = await pair.shared_room()
    carol = await pair.there.person("carol")
    await room.join(carol)
    assert (await room.alice.post("rooms", room.room_id, "leave")).status == 200
    await room.bob_sees.sees_member(room.room_id, room.alice.user_id, "leave")
    said = await carol.say(room.room_id, "among ourselves")
    await room.bob_sees.event(room.room_id, said)
    # The way back in goes through the other server.
    await join_by(room.alice, room.room_id, pair.there.server_name)
    await room.bob_sees.sees_member(room.room_id, room.alice.user_id, "join")


async def test_kicked_and_banned_across(pair: Pair) -> None:
    room = await pair.shared_room()
    target = {"user_id": room.bob.user_id, "reason": "testing"}
    assert (await room.alice.post("rooms", room.room_id, "kick", body=target)).status == 200
    await room.bob_sees.membership(room.room_id, "leave")
    await room.join(room.bob)
    assert (await room.alice.post("rooms", room.room_id, "ban", body=target)).status == 200
    await room.bob_sees.until(lambda: room.bob_sees.member(room.room_id, room.bob.user_id) == "ban")
    query = {"via": pair.here.server_name}
    answer = await room.bob.ask("POST", "join", room.room_id, body={}, query=query)
    assert answer.error == (403, "M_FORBIDDEN")
    assert (await room.alice.post("rooms", room.room_id, "unban", body=target)).status == 200
    await join_by(room.bob, room.room_id, pair.here.server_name)
    await room.alice_sees.sees_member(room.room_id, room.bob.user_id, "join")


async def test_a_new_name_reaches_the_other_side(pair: Pair) -> None:
    room = await pair.shared_room()
    for person, eyes in ((room.alice, room.bob_sees), (room.bob, room.alice_sees)):
        name = f"New name of {person.user_id}"
        answer = await person.put("profile", person.user_id, "displayname", body={"displayname": name})
        assert answer.status == 200
        await eyes.sees_name(room.room_id, person.user_id, name)
    await room.check_same_state()
