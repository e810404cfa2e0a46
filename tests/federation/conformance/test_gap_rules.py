"""What is asked for when the events before a new one are not here, and what happens when it is not given."""

from typing import Any

from tests.federation.conformance.probing import ids, in_ours, in_theirs
from tests.people import Town
from tests.remote_scripts import reply
from tests.remote_server import RemoteServer


async def test_a_gap_is_filled_in_order_and_no_state_is_asked_for(
    federated_town: Town, remote: RemoteServer
) -> None:
    probe = await in_ours(federated_town, remote)
    shared = probe.room.newest
    missing = [probe.room.say(probe.guest, f"missing {n}") for n in range(5)]
    newest = probe.room.say(probe.guest, "newest")
    assert await probe.send(newest) == {newest.event_id: {}}
    await probe.sees(newest)
    assert probe.eyes.texts(probe.room_id) == [f"missing {n}" for n in range(5)] + ["newest"]
    [asked] = remote.received("POST", "/get_missing_events/")
    assert asked.body["earliest_events"] == [shared.event_id]
    assert asked.body["latest_events"] == [newest.event_id]
    assert not remote.received("GET", "/state")
    timeline = [
        event["event_id"]
        for event in (await probe.person.get("rooms", probe.room_id, "messages", dir="b", limit="7")).body[
            "chunk"
        ]
    ]
    assert timeline[::-1] == [shared.event_id, *ids(missing), newest.event_id]


async def test_an_event_whose_past_is_not_divulged_is_dropped(
    federated_town: Town, remote: RemoteServer
) -> None:
    """No state is asked for: a pushed event would choose the state that it is judged by."""
    probe = await in_ours(federated_town, remote)
    shared = probe.room.newest
    probe.room.say(probe.guest, "withheld")
    first = probe.room.say(probe.guest, "first")
    script = remote.script("POST", "/get_missing_events/", reply({"events": []}))
    probe.refuses("/state_ids/", "/state/", "/event/")
    results = await probe.send(first)
    assert results.keys() == {first.event_id}
    second = probe.room.say(probe.guest, "second")
    await probe.send(second)
    await remote.wait_until(lambda: len(script.seen) >= 2)
    for asked, latest in zip((script.seen[0], script.seen[-1]), (first, second), strict=True):
        assert asked.body["earliest_events"] == [shared.event_id]
        assert asked.body["latest_events"] == [latest.event_id]
    assert not remote.received("GET", "/state")
    await probe.is_hidden(first.event_id)


async def test_a_missing_event_that_is_no_event_is_not_made_up_for(
    federated_town: Town, remote: RemoteServer
) -> None:
    probe = await in_theirs(federated_town, remote, "6")
    shared = probe.room.newest
    bad = probe.room.say(probe.guest, "bad")
    sent = probe.room.say(probe.guest, "good")
    pdu = bad.pdu | {"content": bad.pdu["content"] | {"bad_val": 1.1}}
    script = remote.script("POST", "/get_missing_events/", reply({"events": [pdu]}))
    probe.refuses("/state_ids/", "/state/", "/event/", "/backfill/")
    results = await probe.send(sent)
    assert results.keys() == {sent.event_id}
    third = probe.room.say(probe.guest, "third")
    remote.script("POST", "/get_missing_events/", reply({}))
    await probe.send(third)
    asked = await remote.wait_until(
        lambda: [
            r
            for r in remote.received("POST", "/get_missing_events/")
            if r.body["latest_events"] == [third.event_id]
        ]
    )
    assert asked[0].body["earliest_events"] == [shared.event_id]
    assert script.seen[0].body["latest_events"] == [sent.event_id]
    assert not remote.received("GET", "/state")
    assert not remote.received("GET", "/backfill/")


async def test_a_state_key_of_too_many_bytes_does_not_cut_the_room(
    federated_town: Town, remote: RemoteServer
) -> None:
    """70 characters, 280 bytes: such events are in old rooms. Whatever becomes of it, the room goes on after it."""
    probe = await in_theirs(federated_town, remote)
    long = probe.room.forge(probe.guest, "my.breaker", state_key="\N{COLLISION SYMBOL}" * 70, content={})
    long_id = probe.room.parse(long).event_id
    sent = probe.room.forge(probe.guest, prev_events=[long_id])
    remote.script("POST", "/get_missing_events/", reply({"events": [long]}))
    probe.refuses("/state_ids/", "/state/", "/event/", "/backfill/")
    assert await probe.send(sent) == {probe.room.parse(sent).event_id: {}}
    await probe.eyes.event(probe.room_id, probe.room.parse(sent).event_id)
    assert not remote.received("GET", "/state")
    await probe.is_hidden(long_id)


async def test_the_state_of_a_hole_is_that_after_the_missing_event(
    federated_town: Town, remote: RemoteServer
) -> None:
    """Of an event that was fetched: what came before it is unknown, so the state is asked for there."""
    probe = await in_ours(federated_town, remote, "10")
    hole = probe.room.say(probe.guest, "in the hole")
    fetched = probe.room.say(probe.guest, "fetched")
    sent = probe.room.say(probe.guest, "sent")
    remote.script("POST", "/get_missing_events/", reply({"events": [fetched.pdu]}))
    await probe.send(sent)
    await probe.sees(sent)
    await probe.sees(fetched)
    asked = [request.first("event_id") for request in remote.received("GET", "/state_ids/")]
    assert asked == [hole.event_id]


async def test_a_room_is_not_taken_over_by_a_state_without_power_levels(
    federated_town: Town, remote: RemoteServer
) -> None:
    probe = await in_ours(federated_town, remote, "1")
    room, guest = probe.room, probe.guest
    current = room.current
    evil = room.forge(
        guest,
        "m.room.power_levels",
        state_key="",
        depth=0,
        prev_events=[["$this:event.does.not.exist", {}]],
        content={"users": {guest: 100, probe.person.user_id: 0}},
    )
    c = room.forge(
        guest, depth=10, prev_events=[["$this:event.does.not.exist", {}]], event_id=f"$c:{remote.name}"
    )
    d = room.forge(guest, depth=11, prev_events=[[c["event_id"], {}]], event_id=f"$d:{remote.name}")
    e = room.forge(guest, depth=11, prev_events=[[d["event_id"], {}]], event_id=f"$e:{remote.name}")
    create, join = current["m.room.create", ""], current["m.room.member", guest]
    remote.script("POST", "/get_missing_events/", reply({"events": [d]}))
    state: dict[str, Any] = {
        "pdu_ids": [create.event_id, join.event_id, evil["event_id"]],
        "auth_chain_ids": [create.event_id, join.event_id],
    }
    remote.script("GET", "/state_ids/", reply(state))
    remote.script(
        "GET", "/state/", reply({"pdus": [create.pdu, join.pdu, evil], "auth_chain": [create.pdu, join.pdu]})
    )
    for pdu in (evil, c):
        remote.script(
            "GET",
            f"/event/{pdu['event_id']}",
            reply({"origin": remote.name, "origin_server_ts": 1, "pdus": [pdu]}),
        )
    await probe.send(e)
    after = room.say(guest, "and so on")
    await probe.send(after)
    await probe.sees(after)
    levels = await probe.person.state(probe.room_id, "m.room.power_levels")
    assert levels["users"][probe.person.user_id] == 100
