"""What other servers read of rooms of ours: shapes, orders, and what is refused with which code."""

from typing import Any

import pytest

from tests.federation.conformance.probing import in_ours
from tests.people import Town
from tests.remote_server import FEDERATION, RemoteServer


@pytest.mark.parametrize("visibility", ["world_readable", "shared", "invited", "joined"])
async def test_missing_events_are_just_those(
    federated_town: Town, remote: RemoteServer, visibility: str
) -> None:
    alice, charlie = await federated_town.person("alice"), remote.user("charlie")
    room_id = await alice.create_room(preset="public_chat", room_version="10")
    await alice.set_state(room_id, "m.room.history_visibility", {"history_visibility": visibility})
    await alice.say(room_id, "1")
    room = await remote.join(federated_town.server_name, room_id, charlie)
    current = room.current
    body = {
        "earliest_events": [current["m.room.create", ""].event_id],
        "latest_events": [current["m.room.member", charlie].event_id],
        "limit": 10,
        "min_depth": 1,
    }
    answer = await remote.ask(
        federated_town.server_name, "POST", "v1", "get_missing_events", room_id, body=body
    )
    assert answer.status == 200, answer
    events = answer.body["events"]
    again = [] if visibility == "shared" else ["m.room.history_visibility"]
    assert [event["type"] for event in events] == [
        "m.room.member",
        "m.room.power_levels",
        "m.room.join_rules",
        "m.room.history_visibility",
        *again,
        "m.room.message",
    ]
    is_hidden = visibility in ("invited", "joined")
    assert (events[-1]["content"] == {}) is is_hidden
    assert all(event["room_id"] == room_id for event in events)


async def test_old_events_come_newest_first(federated_town: Town, remote: RemoteServer) -> None:
    alice, charlie = await federated_town.person("alice"), remote.user("charlie")
    room_id = await alice.create_room(preset="public_chat", room_version="1")
    for number in range(10):
        await alice.say(room_id, f"message {number}")
    room = await remote.join(federated_town.server_name, room_id, charlie)
    [[prev, _]] = room.newest.pdu["prev_events"]
    query = {"v": prev, "limit": "100"}
    for end in ("", "/"):
        path = f"{FEDERATION}/v1/backfill/{room_id}{end}"
        answer = await remote.ask_path(federated_town.server_name, "GET", path, query=query)
        assert answer.status == 200, answer
        assert answer.body["origin"] == federated_town.server_name
        assert answer.body["pdus"][0]["event_id"] == prev
        assert all("event_id" in pdu for pdu in answer.body["pdus"])


async def test_an_event_of_another_room_is_none_of_this_one(
    federated_town: Town, remote: RemoteServer
) -> None:
    probe = await in_ours(federated_town, remote)
    private = await probe.person.create_room(preset="private_chat")
    said = await probe.person.say(private, "hello")
    name = federated_town.server_name
    page = await remote.ask(name, "GET", "v1", "backfill", probe.room_id, query={"v": said, "limit": "1"})
    assert (page.status, page.body["pdus"]) == (200, [])
    for part in ("state", "state_ids"):
        answer = await remote.ask(name, "GET", "v1", part, probe.room_id, query={"event_id": said})
        assert answer.error == (404, "M_NOT_FOUND")
    answer = await remote.ask(name, "GET", "v1", "event", said)
    assert answer.status in (403, 404)


async def test_which_event_the_state_is_wanted_of_must_be_said(
    federated_town: Town, remote: RemoteServer
) -> None:
    for part in ("state", "state_ids"):
        answer = await remote.ask(federated_town.server_name, "GET", "v1", part, "notaroombutitdoesntmatter")
        assert answer.status == 400, answer


async def test_the_auth_chain_of_an_event_and_no_more(federated_town: Town, remote: RemoteServer) -> None:
    probe = await in_ours(federated_town, remote, "10")
    await probe.person.set_state(probe.room_id, "m.room.join_rules", {"join_rule": "invite"})
    rules = await remote.wait_for_pdu(lambda pdu: pdu["type"] == "m.room.join_rules")
    event_id = probe.room.parse(rules).event_id
    answer = await remote.ask(federated_town.server_name, "GET", "v1", "event_auth", probe.room_id, event_id)
    assert answer.status == 200, answer
    told = {probe.room.parse(pdu).event_id for pdu in answer.body["auth_chain"]}
    assert told == set(rules["auth_events"])


async def test_one_event_in_a_transaction(federated_town: Town, remote: RemoteServer) -> None:
    probe = await in_ours(federated_town, remote)
    own = probe.room.current["m.room.member", probe.guest]
    for end in ("", "/"):
        path = f"{FEDERATION}/v1/event/{own.event_id}{end}"
        answer = await remote.ask_path(federated_town.server_name, "GET", path)
        assert answer.status == 200, answer
        assert answer.body.keys() >= {"origin", "origin_server_ts", "pdus"}
        [pdu] = answer.body["pdus"]
        assert {k: pdu[k] for k in ("depth", "room_id", "sender", "state_key", "type")} == {
            k: own.pdu[k] for k in ("depth", "room_id", "sender", "state_key", "type")
        }


READS: dict[str, Any] = {
    "state": ("GET", ["state", "ROOM"], {"event_id": "EVENT"}, None),
    "state_ids": ("GET", ["state_ids", "ROOM"], {"event_id": "EVENT"}, None),
    "backfill": ("GET", ["backfill", "ROOM"], {"v": "EVENT", "limit": "100"}, None),
    "event_auth": ("GET", ["event_auth", "ROOM", "EVENT"], None, None),
    "make_join": ("GET", ["make_join", "ROOM", "GUEST"], {"ver": "12"}, None),
    "make_leave": ("GET", ["make_leave", "ROOM", "GUEST"], None, None),
    "get_missing_events": ("POST", ["get_missing_events", "ROOM"], None, {}),
}


async def test_servers_that_are_denied_by_the_room(federated_town: Town, make_remote: Any) -> None:
    """The same questions before and after the denial."""
    remote = await make_remote(host="localhost")
    probe = await in_ours(federated_town, remote)
    newest = probe.room.newest.event_id
    words = {"ROOM": probe.room_id, "EVENT": newest, "GUEST": probe.guest}

    async def ask(what: str) -> Any:
        method, parts, query, body = READS[what]
        filled = {key: words.get(value, value) for key, value in query.items()} if query else None
        parts = [words.get(part, part) for part in parts]
        return await remote.ask(federated_town.server_name, method, "v1", *parts, query=filled, body=body)

    invited = await federated_town.person("invited")

    async def put(what: str) -> Any:
        room, guest = probe.room, probe.guest
        user, content = {
            "join": (guest, {"membership": "join"}),
            "leave": (guest, {"membership": "leave"}),
            "invite": (invited.user_id, {"membership": "invite"}),
        }[what]
        pdu = room.forge(guest, "m.room.member", state_key=user, content=content)
        event_id = room.parse(pdu).event_id
        if what != "invite":
            path = ("v1", f"send_{what}", probe.room_id, event_id)
            return await remote.ask(federated_town.server_name, "PUT", *path, body=pdu)
        told = [room.current["m.room.create", ""].pdu]
        body = {"event": pdu, "room_version": room.version_id, "invite_room_state": told}
        return await remote.ask(
            federated_town.server_name, "PUT", "v2", "invite", probe.room_id, event_id, body=body
        )

    for what in READS:
        assert (await ask(what)).status == 200, what
    for what in ("join", "invite"):
        assert (await put(what)).status == 200, what
    content = {"allow": ["*"], "deny": ["localhost"]}
    assert (await probe.person.set_state(probe.room_id, "m.room.server_acl", content)).status == 200
    for what in READS:
        assert (await ask(what)).error == (403, "M_FORBIDDEN"), what
    for what in ("join", "leave", "invite"):
        assert (await put(what)).error == (403, "M_FORBIDDEN"), what
    said = probe.room.forge(probe.guest)
    [result] = (await probe.send(said)).values()
    assert result["errcode"] == "M_FORBIDDEN"
