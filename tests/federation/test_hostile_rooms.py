"""Servers that lie about their rooms, or answer with anything but rooms: nobody of ours gets in, nothing breaks."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.eyes import Eyes
from tests.people import Town, path
from tests.remote_room import RemoteRoom, with_bad_signature
from tests.remote_scripts import Action, cut, garbage, hang_up, redirect, refuse, reply
from tests.remote_server import RemoteServer

pytestmark = pytest.mark.timeout(180)

ANSWERS: dict[str, Action] = {
    "garbage": garbage(),
    "cut": cut(),
    "hangs up": hang_up(),
    "redirects": redirect("https://127.0.0.1:1/"),
    "fails": refuse(500, "M_UNKNOWN"),
    "refuses": refuse(403, "M_FORBIDDEN"),
    "limits": refuse(429, "M_LIMIT_EXCEEDED"),
    "an array": reply([]),
    "an empty object": reply({}),
    "null": reply(None),
    "a number": reply(1),
    "wrong types": reply({"event": 1, "room_version": [], "state": {}, "auth_chain": "x"}),
    "nothing in it": reply({"event": {}, "room_version": "12", "state": [], "auth_chain": []}),
    "an unknown version": reply({"event": {}, "room_version": "org.example.future"}),
    "nulls": reply({"event": None, "state": [None], "auth_chain": [None, 1, "x", []]}),
    "deep": reply({"event": {}, "state": [], "auth_chain": [], "x": 500 * "[" + 500 * "]"}),
}


@pytest.mark.parametrize("part", ["/make_join/", "/send_join/"])
@pytest.mark.parametrize("answer", ANSWERS)
async def test_joining_through_a_server_that_makes_no_sense(
    federated_town: Town, remote: RemoteServer, part: str, answer: str
) -> None:
    bob, room = await federated_town.person("bob"), remote.make_room()
    method = "GET" if part == "/make_join/" else "PUT"
    remote.script(method, part, ANSWERS[answer])
    refused = await bob.ask("POST", "join", room.room_id, query={"via": remote.name})
    assert refused.status in (400, 403, 404, 429), refused
    assert room.room_id not in (await bob.get("joined_rooms")).body["joined_rooms"]
    remote.behave()
    joined = await bob.ask("POST", "join", room.room_id, query={"via": remote.name})
    assert joined.status == 200, joined


def _without(type: str) -> Callable[[Any], Any]:
    def change(answer: Any) -> Any:
        for part in ("state", "auth_chain"):
            answer[part] = [pdu for pdu in answer[part] if pdu["type"] != type]
        return answer

    return change


def _badly_signed(answer: Any) -> Any:
    for part in ("state", "auth_chain"):
        answer[part] = [with_bad_signature(pdu) for pdu in answer[part]]
    return answer


def _of_another_room(answer: Any) -> Any:
    for part in ("state", "auth_chain"):
        answer[part] = [pdu | {"room_id": "!" + "x" * 43} for pdu in answer[part]]
    return answer


def _another_event(answer: Any) -> Any:
    answer["event"] = answer["state"][0]
    return answer


LIES: dict[str, Callable[[Any], Any]] = {
    "no create event": _without("m.room.create"),
    "no join rules": _without("m.room.join_rules"),
    "no member": _without("m.room.member"),
    "bad signatures": _badly_signed,
    "another room": _of_another_room,
    "another event": _another_event,
}


@pytest.mark.parametrize("lie", LIES)
async def test_joining_a_room_that_does_not_hold_together(
    federated_town: Town, remote: RemoteServer, lie: str
) -> None:
    bob, room = await federated_town.person("bob"), remote.make_room()
    remote.lie("PUT", "/send_join/", LIES[lie])
    refused = await bob.ask("POST", "join", room.room_id, query={"via": remote.name})
    assert refused.status == 400, refused
    assert room.room_id not in (await bob.get("joined_rooms")).body["joined_rooms"]
    # It came to its senses.
    remote.behave()
    joined = await bob.ask("POST", "join", room.room_id, query={"via": remote.name})
    assert joined.status == 200, joined
    said = await bob.say(room.room_id, "here at last")
    assert said


async def test_a_server_that_fails_is_passed_over(federated_town: Town, make_remote: Any) -> None:
    good, bad = await make_remote(), await make_remote()
    bob, room = await federated_town.person("bob"), good.make_room()
    bad.script("GET", "/make_join/", garbage())
    via = f"?via={bad.name}&via={good.name}"
    joined = await bob.ask_raw("POST", path("join", room.room_id) + via, b"{}")
    assert joined.status == 200, joined


@pytest.mark.parametrize(
    "answer", ["garbage", "cut", "hangs up", "fails", "wrong types", "an empty object", "nulls"]
)
async def test_gaps_at_a_server_that_makes_no_sense(
    federated_town: Town, remote: RemoteServer, answer: str
) -> None:
    bob = await federated_town.person("bob")
    room: RemoteRoom = remote.make_room()
    joined = await bob.ask("POST", "join", room.room_id, query={"via": remote.name})
    assert joined.status == 200, joined
    alice = remote.user("alice")
    room.say(alice, "missing")
    last = room.say(alice, "last")
    for method, part in (
        ("POST", "/get_missing_events/"),
        ("GET", "/state_ids/"),
        ("GET", "/state/"),
        ("GET", "/event/"),
        ("GET", "/event_auth/"),
        ("GET", "/backfill/"),
    ):
        remote.script(method, part, ANSWERS[answer])
    await remote.send(federated_town.server_name, last)
    page = await bob.get("rooms", room.room_id, "messages", dir="b", limit="50")
    assert page.status == 200
    assert last.event_id not in [event["event_id"] for event in page.body["chunk"]]
    remote.behave()
    again = await remote.send(federated_town.server_name, last)
    assert again.body == {"pdus": {last.event_id: {}}}
    await Eyes(bob).event(room.room_id, last.event_id)
