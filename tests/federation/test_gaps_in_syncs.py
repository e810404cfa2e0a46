"""What a client is told of a room where something is missing between what the server has."""

from typing import Any

import pytest

from tests.eyes import Eyes
from tests.people import Person, Town
from tests.remote_room import RemoteRoom
from tests.remote_scripts import refuse
from tests.remote_server import RemoteServer

pytestmark = pytest.mark.timeout(120)

_MISSED = [f"missed {number}" for number in range(5)]


async def enter(town: Town, remote: RemoteServer) -> tuple[Person, RemoteRoom]:
    """Somebody of ours in a room of the remote's, where the remote has said something."""
    bob, room = await town.person("bob"), remote.make_room()
    await join(bob, remote, room)
    await remote.send(town.server_name, room.say(remote.user("alice"), "early"))
    await Eyes(bob).event(room.room_id, room.newest.event_id)
    return bob, room


async def join(bob: Person, remote: RemoteServer, room: RemoteRoom) -> None:
    answer = await bob.ask("POST", "join", room.room_id, query={"via": remote.name}, body={})
    assert answer.status == 200, answer


def miss(room: RemoteRoom, alice: str) -> None:
    """What nobody sends to us."""
    for text in _MISSED:
        room.say(alice, text)
    room.send("m.room.topic", alice, {"topic": "missed"}, state_key="")


def bodies(events: list[Any]) -> list[str]:
    return [event["content"]["body"] for event in events if event["type"] == "m.room.message"]


async def read_back(person: Person, room_id: str, start: str) -> list[Any]:
    """All that is before a token, newest first."""
    found: list[Any] = []
    token: str | None = start
    while token is not None:
        page = await person.get("rooms", room_id, "messages", **{"dir": "b", "limit": "4", "from": token})
        assert page.status == 200, page
        found += page.body["chunk"]
        token = page.body.get("end")
    return found


async def test_who_comes_back_is_not_shown_the_earlier_stay_as_if_nothing_were_between(
    federated_town: Town, remote: RemoteServer
) -> None:
    bob, room = await enter(federated_town, remote)
    carol, alice = await federated_town.person("carol"), remote.user("alice")
    await bob.post("rooms", room.room_id, "leave")
    await remote.wait_until(lambda: room.membership(bob.user_id) == "leave")
    room.member(alice, bob.user_id, "ban")
    miss(room, alice)
    await join(carol, remote, room)
    for _ in range(2):
        told = (await carol.sync())["rooms"]["join"][room.room_id]
        timeline = told["timeline"]
        assert timeline["limited"] is True
        assert bodies(timeline["events"]) == []
        state = {(e["type"], e["state_key"]): e["content"] for e in told["state"]["events"]}
        for event in timeline["events"]:
            state[event["type"], event["state_key"]] = event["content"]
        assert state["m.room.topic", ""] == {"topic": "missed"}
        assert state["m.room.member", bob.user_id] == {"membership": "ban"}
        before = await read_back(carol, room.room_id, timeline["prev_batch"])
        assert bodies(before) == [*_MISSED[::-1], "early"]
        # Once more, when all of it is here.


async def test_a_gap_is_told_and_can_be_paged_into(federated_town: Town, remote: RemoteServer) -> None:
    bob, room = await enter(federated_town, remote)
    alice = remote.user("alice")
    since = (await bob.sync())["next_batch"]
    await remote.send(federated_town.server_name, room.say(alice, "before"))
    miss(room, alice)
    remote.script("POST", "/get_missing_events/", refuse(500, "M_UNKNOWN"))
    last = [room.say(alice, "after"), room.say(alice, "last")]
    for event in last:
        await remote.send(federated_town.server_name, event)
    await Eyes(bob).event(room.room_id, last[-1].event_id)
    told = (await bob.sync(since))["rooms"]["join"][room.room_id]
    assert told["timeline"]["limited"] is True
    assert bodies(told["timeline"]["events"]) == ["after", "last"]
    assert [event["content"] for event in told["state"]["events"]] == [{"topic": "missed"}]
    before = await read_back(bob, room.room_id, told["timeline"]["prev_batch"])
    assert bodies(before) == [*_MISSED[::-1], "before", "early"]


async def test_a_gap_that_was_filled_at_once_is_none(federated_town: Town, remote: RemoteServer) -> None:
    bob, room = await enter(federated_town, remote)
    since = (await bob.sync())["next_batch"]
    miss(room, remote.user("alice"))
    last = room.say(remote.user("alice"), "last")
    await remote.send(federated_town.server_name, last)
    await Eyes(bob).event(room.room_id, last.event_id)
    told = (await bob.sync(since))["rooms"]["join"][room.room_id]
    assert told["timeline"]["limited"] is False
    assert bodies(told["timeline"]["events"]) == [*_MISSED, "last"]


@pytest.mark.parametrize("early", [5, 12, 30])
@pytest.mark.parametrize("back", [0, 1, 3])
async def test_what_was_before_our_join_is_no_news(
    federated_town: Town, remote: RemoteServer, early: int, back: int
) -> None:
    """Whoever does not know of the join yet speaks on a branch from before it, all of which we lack."""
    bob, room = await federated_town.person("bob"), remote.make_room()
    alice = remote.user("alice")
    before = [room.say(alice, f"early {number}") for number in range(early)]
    await join(bob, remote, room)
    since = (await bob.sync())["next_batch"]
    said = room.say(alice, "beside the join", prev=[before[-1 - back]])
    await remote.send(federated_town.server_name, said)
    await Eyes(bob).event(room.room_id, said.event_id)
    assert remote.received("POST", "/get_missing_events/")
    told = (await bob.sync(since))["rooms"]["join"][room.room_id]
    assert bodies(told["timeline"]["events"]) == ["beside the join"]
    assert told["unread_notifications"]["notification_count"] == 1
    page = await bob.get("rooms", room.room_id, "messages", dir="b", limit="50")
    assert {event["event_id"] for event in page.body["chunk"]} == {event.event_id for event in room.events}
    assert (await bob.get("rooms", room.room_id, "event", said.event_id)).status == 200


async def test_what_was_while_nobody_of_us_was_there_is_no_news(
    federated_town: Town, remote: RemoteServer
) -> None:
    bob, room = await enter(federated_town, remote)
    alice = remote.user("alice")
    await bob.post("rooms", room.room_id, "leave")
    await remote.wait_until(lambda: room.membership(bob.user_id) == "leave")
    meanwhile = [room.say(alice, f"meanwhile {number}") for number in range(30)]
    await join(bob, remote, room)
    since = (await bob.sync())["next_batch"]
    said = room.say(alice, "beside the join", prev=[meanwhile[-3]])
    await remote.send(federated_town.server_name, said)
    await Eyes(bob).event(room.room_id, said.event_id)
    told = (await bob.sync(since))["rooms"]["join"][room.room_id]
    assert bodies(told["timeline"]["events"]) == ["beside the join"]
    assert told["unread_notifications"]["notification_count"] == 1
    page = await read_back(bob, room.room_id, told["timeline"]["prev_batch"])
    assert {event["event_id"] for event in page} >= {event.event_id for event in meanwhile}


async def test_who_is_gone_is_shown_no_branch_that_comes_later(
    federated_town: Town, remote: RemoteServer
) -> None:
    bob, room = await enter(federated_town, remote)
    carol, alice = await federated_town.person("carol"), remote.user("alice")
    before = room.newest
    await join(carol, remote, room)
    await bob.post("rooms", room.room_id, "leave")
    await remote.wait_until(lambda: room.membership(bob.user_id) == "leave")
    said = room.say(alice, "beside all that", prev=[before])
    await remote.send(federated_town.server_name, said)
    await Eyes(carol).event(room.room_id, said.event_id)
    assert (await carol.get("rooms", room.room_id, "event", said.event_id)).status == 200
    assert (await bob.get("rooms", room.room_id, "event", said.event_id)).status == 404
    page = await bob.get("rooms", room.room_id, "messages", dir="b", limit="50")
    assert said.event_id not in {event["event_id"] for event in page.body["chunk"]}
