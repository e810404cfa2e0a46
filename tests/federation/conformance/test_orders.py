"""What branches that come late do to timelines, pages and extremities; events that are soft-failed."""

import json

from tests.federation.conformance.probing import in_ours, in_theirs
from tests.people import Town
from tests.remote_scripts import reply
from tests.remote_server import RemoteServer


async def test_pages_after_a_partition_leave_nothing_out(federated_town: Town, remote: RemoteServer) -> None:
    """1' comes late; a timeline of four ends with it, and what is before goes on with 4, 3, 2, 1."""
    probe = await in_theirs(federated_town, remote)
    alice, bob = probe.person, await federated_town.person("bob")
    answer = await bob.ask("POST", "join", probe.room_id, query={"via": remote.name})
    assert answer.status == 200
    await remote.wait_until(lambda: probe.room.membership(bob.user_id) == "join")
    few = json.dumps({"room": {"timeline": {"limit": 4}}})
    since = (await bob.get("sync", filter=few)).body["next_batch"]
    late = probe.room.say(probe.guest, "1'")
    early = [await alice.say(probe.room_id, f"{n}") for n in range(1, 5)]
    await probe.send(late)
    await probe.sees(late)
    after = [await alice.say(probe.room_id, f"{n}") for n in range(5, 8)]
    body = (await bob.get("sync", filter=few, since=since)).body
    timeline = body["rooms"]["join"][probe.room_id]["timeline"]
    assert [event["event_id"] for event in timeline["events"]] == [late.event_id, *after]
    page = await alice.get(
        "rooms", probe.room_id, "messages", dir="b", limit="4", **{"from": timeline["prev_batch"]}
    )
    assert [event["event_id"] for event in page.body["chunk"]] == early[::-1]


async def test_state_from_a_branch_is_told_where_the_timeline_leaves_it_out(
    federated_town: Town, remote: RemoteServer
) -> None:
    probe = await in_theirs(federated_town, remote)
    alice = probe.person
    e1 = await alice.say(probe.room_id, "E1")
    await remote.wait_until(lambda: e1 in probe.room.by_id)
    s2 = probe.room.send("m.room.name", probe.guest, {"name": "S2"}, state_key="")
    for text in ("E3", "E4"):
        await alice.say(probe.room_id, text)
    await probe.send(s2)
    await probe.sees(s2)
    sent = await alice.put("rooms", probe.room_id, "send", "please_filter_me", "t", body={"body": "E5"})
    assert sent.status == 200
    wanted = json.dumps({"room": {"timeline": {"not_types": ["please_filter_me"], "limit": 1}}})
    body = (await alice.get("sync", filter=wanted)).body
    room = body["rooms"]["join"][probe.room_id]
    told = [*room["state"]["events"], *room["timeline"]["events"]]
    assert s2.event_id in [event["event_id"] for event in told]


async def test_what_is_soft_failed_and_what_comes_after(federated_town: Town, remote: RemoteServer) -> None:
    probe = await in_ours(federated_town, remote, "1")
    room, guest = probe.room, probe.guest
    joined = room.newest
    levels = await probe.person.state(probe.room_id, "m.room.power_levels")
    levels["events"] = levels.get("events", {}) | {"m.room.message": 50}
    await probe.person.set_state(probe.room_id, "m.room.power_levels", levels)
    pl = await remote.wait_for_pdu(lambda pdu: pdu["type"] == "m.room.power_levels")
    denied = room.say(guest, "Denied", prev=[joined])
    assert await probe.send(denied) == {denied.event_id: {}}
    allowed = room.send("m.room.other", guest, {"body": "Allowed"}, prev=[denied, room.by_id[pl["event_id"]]])
    await probe.send(allowed)
    await probe.sees(allowed)
    assert "Denied" not in probe.eyes.texts(probe.room_id)


async def test_extremities_beside_soft_failed_events(federated_town: Town, remote: RemoteServer) -> None:
    probe = await in_ours(federated_town, remote, "1")
    room, guest = probe.room, probe.guest
    joined = room.newest
    levels = await probe.person.state(probe.room_id, "m.room.power_levels")
    levels["events"] = levels.get("events", {}) | {"test.sf": 50}
    await probe.person.set_state(probe.room_id, "m.room.power_levels", levels)
    pl1 = await remote.wait_for_pdu(lambda pdu: pdu["type"] == "m.room.power_levels")
    m1 = room.say(guest, "M1", prev=[joined])
    sf1 = room.send("test.sf", guest, {"body": "SF1"}, prev=[m1])
    sf2 = room.send("test.sf", guest, {"body": "SF2"}, prev=[m1])
    for event in (m1, sf1, sf2):
        await probe.send(event)
    await probe.sees(m1)
    await probe.person.say(probe.room_id, "m3")
    m3 = await remote.wait_for_pdu(lambda pdu: pdu["content"].get("body") == "m3")
    assert {pair[0] for pair in m3["prev_events"]} == {pl1["event_id"], m1.event_id}
    # What is built on them covers them, and what is before them.
    sf3 = room.send("test.sf", guest, {"body": "SF3"}, prev=[sf1])
    m4 = room.say(guest, "M4", prev=[room.by_id[m3["event_id"]], sf3])
    await probe.send(sf3)
    await probe.send(m4)
    await probe.sees(m4)
    await probe.person.say(probe.room_id, "m5")
    m5 = await remote.wait_for_pdu(lambda pdu: pdu["content"].get("body") == "m5")
    assert [pair[0] for pair in m5["prev_events"]] == [m4.event_id]


async def test_extremities_stay_when_all_that_follows_is_rejected(
    federated_town: Town, remote: RemoteServer
) -> None:
    """C is fetched as state only, D and E are of somebody who is not in the room: B stays where the room ends."""
    probe = await in_ours(federated_town, remote, "10")
    room, guest, fake = probe.room, probe.guest, remote.user("fake")
    b = room.newest
    c = room.forge(guest, "test_state", state_key="C", content={"body": "c"})
    c_id = room.parse(c).event_id
    auth = room.references([room.current["m.room.create", ""], room.current["m.room.power_levels", ""]])
    d = room.forge(fake, prev_events=[c_id], auth_events=auth, depth=20)
    d_id = room.parse(d).event_id
    e = room.forge(fake, prev_events=[d_id], auth_events=auth, depth=21)
    state = [event.event_id for event in room.current.values()]
    remote.script("POST", "/get_missing_events/", reply({"events": [d]}))
    remote.script("GET", "/state_ids/", reply({"pdu_ids": state, "auth_chain_ids": auth}))
    remote.script("GET", f"/event/{c_id}", reply({"origin": remote.name, "origin_server_ts": 1, "pdus": [c]}))
    await probe.send(e)
    made = await remote.ask(
        federated_town.server_name,
        "GET",
        "v1",
        "make_join",
        probe.room_id,
        remote.user("new"),
        query={"ver": "10"},
    )
    assert made.body["event"]["prev_events"] == [b.event_id]
    f = room.forge(fake, prev_events=[room.parse(e).event_id], auth_events=auth, depth=22)
    await probe.send(f)
    await probe.person.say(probe.room_id, "all is well")
