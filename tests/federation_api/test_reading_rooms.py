"""What other servers are given of rooms: whole where they may see it, redacted or refused where not."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from hs.matrix.event import parse_event
from hs.matrix.room_versions import get_room_version
from tests.eyes import Eyes
from tests.federation_api.asking import Asker
from tests.people import Person, Town
from tests.remote_server import RemoteServer

VERSION = "11"


async def make_room(person: Person, **options: Any) -> str:
    return await person.create_room(preset="public_chat", room_version=VERSION, **options)


async def set_topic(person: Person, room_id: str, topic: str) -> str:
    event_id: str = (await person.set_state(room_id, "m.room.topic", {"topic": topic})).body["event_id"]
    return event_id


async def hide_history(person: Person, room_id: str, visibility: str) -> None:
    await person.set_state(room_id, "m.room.history_visibility", {"history_visibility": visibility})


def ids(pdus: list[Any]) -> list[str]:
    return [parse_event(pdu, get_room_version(VERSION)).event_id for pdu in pdus]


async def test_an_event_is_given_as_it_is(federated_town: Town, remote: RemoteServer, asker: Asker) -> None:
    alice = await federated_town.person("alice")
    room_id = await make_room(alice)
    event_id = await alice.say(room_id, "hello")
    assert (await asker.get("event", event_id)).error == (403, "M_FORBIDDEN")
    await remote.join(federated_town.server_name, room_id, remote.user("bob"))
    answer = await asker.get("event", event_id)
    assert answer.body["origin"] == federated_town.server_name
    [pdu] = answer.body["pdus"]
    assert ids([pdu]) == [event_id]
    assert pdu["content"]["body"] == "hello"
    for unknown in ("$unknown", "$a:b", "x", "$\x00"):
        assert (await asker.get("event", unknown)).status in (400, 404), unknown


async def test_redacted_events_are_given_redacted(
    federated_town: Town, remote: RemoteServer, asker: Asker
) -> None:
    alice = await federated_town.person("alice")
    room_id = await make_room(alice)
    event_id = await alice.say(room_id, "a secret")
    topic_id = await set_topic(alice, room_id, "a secret")
    for target in (event_id, topic_id):
        await alice.put("rooms", room_id, "redact", target, "t" + target, body={})
    last = await alice.say(room_id, "last")
    await remote.join(federated_town.server_name, room_id, remote.user("bob"))
    answers = [
        await asker.get("event", event_id),
        await asker.get("event", topic_id),
        await asker.get("backfill", room_id, v=last, limit="50"),
        await asker.get("state", room_id, event_id=last),
    ]
    for answer in answers:
        assert answer.status == 200
        assert "a secret" not in str(answer.body)
    assert ids(answers[0].body["pdus"]) == [event_id]
    assert topic_id in ids(answers[3].body["pdus"])


@pytest.mark.parametrize("visibility", ["joined", "invited"])
async def test_history_from_before_the_join_is_hidden(
    federated_town: Town, remote: RemoteServer, asker: Asker, visibility: str
) -> None:
    alice = await federated_town.person("alice")
    room_id = await make_room(alice)
    await hide_history(alice, room_id, visibility)
    before = await alice.say(room_id, "not for you")
    topic = await set_topic(alice, room_id, "for members")
    room = await remote.join(federated_town.server_name, room_id, remote.user("bob"))
    join = room.newest.event_id
    after = await alice.say(room_id, "for you")
    assert (await asker.get("event", before)).error == (403, "M_FORBIDDEN")
    assert (await asker.get("event", after)).status == 200
    # It is part of the state that the join came with.
    assert (await asker.get("event", topic)).body["pdus"][0]["content"] == {"topic": "for members"}
    page = (await asker.get("backfill", room_id, v=after, limit="10")).body["pdus"]
    assert ids(page)[:4] == [after, join, topic, before]
    assert page[0]["content"]["body"] == "for you"
    # A redacted copy of state would be taken for the state.
    assert [pdu["content"] for pdu in page[2:4]] == [{"topic": "for members"}, {}]
    body = {"latest_events": [join], "earliest_events": [], "limit": 2}
    missing = (await asker.post("get_missing_events", room_id, body=body)).body["events"]
    assert ids(missing) == [before, topic]
    assert [pdu["content"] for pdu in missing] == [{}, {"topic": "for members"}]


async def test_invited_servers_see_what_came_after_the_invite(
    federated_town: Town, remote: RemoteServer, asker: Asker
) -> None:
    alice, bob = await federated_town.person("alice"), remote.user("bob")
    room_id = await make_room(alice)
    await hide_history(alice, room_id, "invited")
    before = await alice.say(room_id, "not for you")
    await alice.invite(room_id, bob)
    after = await alice.say(room_id, "for you")
    await remote.join(federated_town.server_name, room_id, bob)
    assert (await asker.get("event", before)).error == (403, "M_FORBIDDEN")
    assert (await asker.get("event", after)).body["pdus"][0]["content"]["body"] == "for you"


async def test_who_has_left_reads_what_was_before(
    federated_town: Town, remote: RemoteServer, asker: Asker
) -> None:
    alice, bob = await federated_town.person("alice"), remote.user("bob")
    room_id = await make_room(alice)
    room = await remote.join(federated_town.server_name, room_id, bob)
    before = await alice.say(room_id, "for you")
    await remote.wait_for_pdu(lambda pdu: pdu.get("content", {}).get("body") == "for you")
    leave = room.member(bob, bob, "leave")
    assert (await remote.send(federated_town.server_name, leave)).status == 200
    await Eyes(alice).event(room_id, leave.event_id)
    after = await alice.say(room_id, "not for you")
    assert (await asker.get("event", before)).status == 200
    assert (await asker.get("event", leave.event_id)).status == 200
    assert (await asker.get("event", after)).error == (403, "M_FORBIDDEN")
    for part in ("state", "state_ids"):
        assert (await asker.get(part, room_id, event_id=before)).status == 200
        assert (await asker.get(part, room_id, event_id=after)).error == (403, "M_FORBIDDEN")
    assert (await asker.get("backfill", room_id, v=after, limit="5")).error == (403, "M_FORBIDDEN")
    assert ids((await asker.get("backfill", room_id, v=before, limit="1")).body["pdus"]) == [before]
    assert (await asker.get("timestamp_to_event", room_id, ts="0", dir="f")).error == (403, "M_FORBIDDEN")


async def test_the_state_before_an_event(federated_town: Town, remote: RemoteServer, asker: Asker) -> None:
    alice = await federated_town.person("alice")
    room_id = await make_room(alice, name="A room")
    await remote.join(federated_town.server_name, room_id, remote.user("bob"))
    old = await set_topic(alice, room_id, "old")
    new = await set_topic(alice, room_id, "new")
    last = await alice.say(room_id, "hello")
    for event_id, topic in ((new, old), (last, new)):
        whole = (await asker.get("state", room_id, event_id=event_id)).body
        state, chain = ids(whole["pdus"]), ids(whole["auth_chain"])
        assert (topic in state, event_id in state) == (True, False)
        assert {pdu["state_key"] for pdu in whole["pdus"] if pdu["type"] == "m.room.member"} == {
            alice.user_id,
            remote.user("bob"),
        }
        listed = (await asker.get("state_ids", room_id, event_id=event_id)).body
        assert sorted(listed["pdu_ids"]) == sorted(state)
        assert sorted(listed["auth_chain_ids"]) == sorted(chain)
        # Whatever is named is there.
        known = {*state, *chain}
        assert all(known.issuperset(pdu["auth_events"]) for pdu in (*whole["pdus"], *whole["auth_chain"]))
    assert (await asker.get("state", room_id, event_id="$unknown")).error == (404, "M_NOT_FOUND")
    assert (await asker.get("state", room_id)).error == (400, "M_MISSING_PARAM")
    auth = (await asker.get("event_auth", room_id, last)).body["auth_chain"]
    create, join = (
        next(pdu for pdu in whole["pdus"] if pdu["type"] == type)
        for type in ("m.room.create", "m.room.member")
    )
    assert {*ids([create]), *ids([join])} <= {*ids(auth)}
    assert last not in ids(auth)


async def test_events_of_another_room_are_not_found(
    federated_town: Town, remote: RemoteServer, asker: Asker
) -> None:
    alice = await federated_town.person("alice")
    room_id, other_id = await make_room(alice), await make_room(alice)
    for one in (room_id, other_id):
        await remote.join(federated_town.server_name, one, remote.user("bob"))
    event_id = await alice.say(other_id, "elsewhere")
    assert (await asker.get("state", room_id, event_id=event_id)).error == (404, "M_NOT_FOUND")
    assert (await asker.get("state_ids", room_id, event_id=event_id)).error == (404, "M_NOT_FOUND")
    assert (await asker.get("event_auth", room_id, event_id)).error == (404, "M_NOT_FOUND")
    assert (await asker.get("backfill", room_id, v=event_id, limit="5")).body["pdus"] == []
    body = {"latest_events": [event_id], "earliest_events": []}
    assert (await asker.post("get_missing_events", room_id, body=body)).body == {"events": []}


async def test_denied_servers_and_unknown_rooms(
    federated_town: Town, make_remote: Callable[..., Awaitable[RemoteServer]]
) -> None:
    # An ACL knows hosts and no ports.
    remote = await make_remote(host="localhost")
    asker, alice = Asker(remote, federated_town.server_name), await federated_town.person("alice")
    room_id = await make_room(alice)
    await remote.join(federated_town.server_name, room_id, remote.user("bob"))
    event_id = await alice.say(room_id, "hello")
    acl = {"allow": ["*"], "deny": ["localhost"], "allow_ip_literals": True}
    for room, error in ((room_id, (403, "M_FORBIDDEN")), ("!unknown:a", (404, "M_NOT_FOUND"))):
        assert (await alice.set_state(room_id, "m.room.server_acl", acl)).status == 200
        asked = [
            await asker.get("state", room, event_id=event_id),
            await asker.get("state_ids", room, event_id=event_id),
            await asker.get("event_auth", room, event_id),
            await asker.get("backfill", room, v=event_id, limit="5"),
            await asker.get("timestamp_to_event", room, ts="0", dir="f"),
            await asker.post(
                "get_missing_events", room, body={"latest_events": [event_id], "earliest_events": []}
            ),
        ]
        assert {answer.error for answer in asked} == {error}
    assert (await asker.get("event", event_id)).error == (403, "M_FORBIDDEN")
    assert (await asker.get("hierarchy", room_id)).error == (404, "M_NOT_FOUND")


async def test_backfill_goes_back_through_all_branches(
    federated_town: Town, remote: RemoteServer, asker: Asker
) -> None:
    alice, bob = await federated_town.person("alice"), remote.user("bob")
    room_id = await make_room(alice)
    for n in range(5):
        await alice.say(room_id, f"before {n}")
    room = await remote.join(federated_town.server_name, room_id, bob)
    root = room.newest
    branches = [[room.say(bob, f"{n}.0", prev=[root])] for n in range(3)]
    for n, branch in enumerate(branches):
        for step in range(1, 4):
            branch.append(room.say(bob, f"{n}.{step}", prev=[branch[-1]]))
    sent = [event for branch in branches for event in branch]
    merge = room.say(bob, "merge", prev=[branch[-1] for branch in branches])
    assert (await remote.send(federated_town.server_name, *sent, merge)).status == 200
    await Eyes(alice).event(room_id, merge.event_id)
    page = ids((await asker.get("backfill", room_id, v=merge.event_id, limit="14")).body["pdus"])
    assert page[0] == merge.event_id
    assert page[-1] == root.event_id
    assert sorted(page[1:13]) == sorted(event.event_id for event in sent)
    depths = [event.pdu["depth"] for id in page[1:13] for event in sent if event.event_id == id]
    assert depths == sorted(depths, reverse=True)
    short = ids((await asker.get("backfill", room_id, v=merge.event_id, limit="3")).body["pdus"])
    assert short == page[:3]
    several = await asker.get("backfill", room_id, v=[branch[1].event_id for branch in branches], limit="3")
    assert sorted(ids(several.body["pdus"])) == sorted(branch[1].event_id for branch in branches)
    everything = await asker.get("backfill", room_id, v=merge.event_id, limit="1000000")
    assert everything.body["pdus"][-1]["type"] == "m.room.create"
    for limit in ("0", "-1", "x"):
        answer = await asker.get("backfill", room_id, v=merge.event_id, limit=limit)
        assert answer.error == (400, "M_INVALID_PARAM")

    body: dict[str, Any] = {
        "latest_events": [merge.event_id],
        "earliest_events": [branch[1].event_id for branch in branches],
        "limit": 20,
    }
    missing = ids((await asker.post("get_missing_events", room_id, body=body)).body["events"])
    between = [event.event_id for branch in branches for event in branch[2:]]
    assert sorted(missing) == sorted(between)
    assert {*missing[:3]} == {branch[2].event_id for branch in branches}
    # Breadth first: the nearest count.
    nearest = ids((await asker.post("get_missing_events", room_id, body=body | {"limit": 3})).body["events"])
    assert {*nearest} == {branch[3].event_id for branch in branches}
    deep = body | {"earliest_events": [], "min_depth": branches[0][3].pdu["depth"]}
    assert {*ids((await asker.post("get_missing_events", room_id, body=deep)).body["events"])} == {*nearest}
    many = body | {"earliest_events": [], "limit": 5000}
    assert len((await asker.post("get_missing_events", room_id, body=many)).body["events"]) == 20


async def test_rejected_events_are_not_given_away(
    federated_town: Town, remote: RemoteServer, asker: Asker
) -> None:
    alice, bob, carol = await federated_town.person("alice"), remote.user("bob"), remote.user("carol")
    room_id = await make_room(alice)
    room = await remote.join(federated_town.server_name, room_id, bob)
    forged = room.forge(carol, content={"body": "not in the room", "msgtype": "m.text"})
    [forged_id] = ids([forged])
    answer = await remote.send(federated_town.server_name, forged)
    assert answer.body["pdus"] == {forged_id: {}}
    assert (await asker.get("event", forged_id)).error == (404, "M_NOT_FOUND")
    assert (await asker.get("state", room_id, event_id=forged_id)).error == (404, "M_NOT_FOUND")
    assert (await asker.get("event_auth", room_id, forged_id)).error == (404, "M_NOT_FOUND")
    page = await asker.get("backfill", room_id, v=forged_id, limit="50")
    assert forged_id not in ids(page.body["pdus"])
    assert room.newest.event_id in ids(page.body["pdus"])


async def test_events_by_time(federated_town: Town, remote: RemoteServer, asker: Asker) -> None:
    alice = await federated_town.person("alice")
    room_id = await make_room(alice)
    await hide_history(alice, room_id, "joined")
    hidden = await alice.say(room_id, "not for you")
    assert (await asker.get("timestamp_to_event", room_id, ts="0", dir="f")).error == (403, "M_FORBIDDEN")
    room = await remote.join(federated_town.server_name, room_id, remote.user("bob"))
    last = await alice.say(room_id, "for you")
    found = (await asker.get("timestamp_to_event", room_id, ts=str(10**15), dir="b")).body
    assert found["event_id"] == last
    before = room.newest.pdu["origin_server_ts"] - 1
    found = (await asker.get("timestamp_to_event", room_id, ts=str(before), dir="b")).body
    assert found["event_id"] != hidden
    assert (await asker.get("timestamp_to_event", room_id, ts=str(10**15), dir="f")).error == (
        404,
        "M_NOT_FOUND",
    )
    old_path = f"/_matrix/federation/unstable/org.matrix.msc3030/timestamp_to_event/{room_id}"
    answer = await remote.ask_path(
        federated_town.server_name, "GET", old_path, query={"ts": str(10**15), "dir": "b"}
    )
    assert answer.body["event_id"] == last


async def test_state_from_before_we_came_is_passed_on(
    federated_town: Town,
    remote: RemoteServer,
    asker: Asker,
    make_remote: Callable[..., Awaitable[RemoteServer]],
) -> None:
    bob, room = await federated_town.person("bob"), remote.make_room(VERSION)
    joined = await bob.ask("POST", "join", room.room_id, query={"via": remote.name})
    assert joined.status == 200, joined
    stranger = Asker(await make_remote(), federated_town.server_name)
    join = room.newest
    for event in room.events:
        answer = await asker.get("event", event.event_id)
        assert (answer.status, ids(answer.body["pdus"])) == (200, [event.event_id])
        assert (await stranger.get("event", event.event_id)).error == (403, "M_FORBIDDEN")
        auth = await asker.get("event_auth", room.room_id, event.event_id)
        assert sorted(ids(auth.body["auth_chain"])) == sorted(
            one.event_id for one in room.auth_chain([event]) if one is not event
        )
        assert (await stranger.get("event_auth", room.room_id, event.event_id)).error == (403, "M_FORBIDDEN")
    state = await asker.get("state_ids", room.room_id, event_id=join.event_id)
    assert sorted(state.body["pdu_ids"]) == sorted(one.event_id for one in room.state(join.before).values())
    # What the room was before we came, we do not know.
    first = room.events[0].event_id
    assert (await asker.get("state", room.room_id, event_id=first)).error == (404, "M_NOT_FOUND")
    assert (await stranger.get("state", room.room_id, event_id=first)).error == (403, "M_FORBIDDEN")
    page = await asker.get("backfill", room.room_id, v=join.event_id, limit="10")
    assert ids(page.body["pdus"]) == [join.event_id]
