"""Events by their time where our history has a gap: other servers are asked, and heard if they know a closer one."""

from typing import Any
from urllib.parse import quote

import pytest

from tests.people import Answer, Person, Town
from tests.remote_room import RemoteRoom
from tests.remote_scripts import garbage, hang_up, refuse, reply
from tests.remote_server import RemoteServer

PATHS = ("v1", "unstable/org.matrix.msc3030")


async def enter(town: Town, remote: RemoteServer, **options: Any) -> tuple[Person, RemoteRoom, list[str]]:
    """Somebody of ours in a room of the remote, and the messages that were said before."""
    bob, room, alice = await town.person("bob"), remote.make_room(**options), remote.user("alice")
    said = [room.say(alice, f"message {number}").event_id for number in range(4)]
    joined = await bob.ask("POST", "join", room.room_id, query={"via": remote.name})
    assert joined.status == 200, joined
    return bob, room, said


async def at(person: Person, room: RemoteRoom, ts: int, direction: str, prefix: str = "v1") -> Answer:
    url = f"/_matrix/client/{prefix}/rooms/{quote(room.room_id)}/timestamp_to_event?ts={ts}&dir={direction}"
    return await person.raw("GET", url)


def time_of(room: RemoteRoom, event_id: str) -> int:
    ts: int = room.by_id[event_id].pdu["origin_server_ts"]
    return ts


@pytest.mark.parametrize("prefix", PATHS)
async def test_a_closer_event_of_before_the_join_is_found_with_its_neighbours(
    federated_town: Town, remote: RemoteServer, prefix: str
) -> None:
    bob, room, said = await enter(federated_town, remote)
    ts = time_of(room, said[1])
    found = await at(bob, room, ts, "f", prefix)
    assert found.body == {"event_id": said[1], "origin_server_ts": ts}
    context = await bob.get("rooms", room.room_id, "context", said[1], limit="4")
    assert context.status == 200, context
    assert context.body["event"]["event_id"] == said[1]
    page = await bob.get("rooms", room.room_id, "messages", dir="b", **{"from": context.body["start"]})
    assert said[0] in [event["event_id"] for event in page.body["chunk"]]


async def test_others_are_heard_only_if_their_event_is_strictly_closer(
    federated_town: Town, remote: RemoteServer
) -> None:
    bob, room, said = await enter(federated_town, remote)
    joined = room.newest
    ts, joined_ts = time_of(room, said[2]), joined.pdu["origin_server_ts"]
    told = {"event_id": said[2], "origin_server_ts": joined_ts}
    script = remote.script("GET", "/timestamp_to_event/", reply(told))
    found = await at(bob, room, ts, "f")
    assert found.body == {"event_id": joined.event_id, "origin_server_ts": joined_ts}
    assert len(script.seen) == 1
    # What somebody says of an event's time does not count, its own time does.
    lie = {"event_id": said[0], "origin_server_ts": ts}
    script = remote.script("GET", "/timestamp_to_event/", reply(lie))
    assert (await at(bob, room, ts, "f")).body["event_id"] == joined.event_id
    assert len(script.seen) == 1


@pytest.mark.parametrize("way", ["refuses", "hangs up", "garbage", "unknown"])
async def test_servers_that_know_nothing_change_nothing(
    federated_town: Town, remote: RemoteServer, way: str
) -> None:
    bob, room, said = await enter(federated_town, remote)
    answers = {
        "refuses": refuse(404, "M_NOT_FOUND"),
        "hangs up": hang_up(),
        "garbage": garbage(),
        "unknown": reply({"event_id": "$" + "x" * 43, "origin_server_ts": time_of(room, said[0])}),
    }
    remote.script("GET", "/timestamp_to_event/", answers[way])
    found = await at(bob, room, time_of(room, said[0]), "f")
    assert found.body["event_id"] == room.newest.event_id
    assert (await at(bob, room, 1, "b")).error == (404, "M_NOT_FOUND")
