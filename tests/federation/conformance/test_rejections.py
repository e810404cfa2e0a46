"""Events that the authorization rules refuse, and what is built on them."""

from tests.federation.conformance.probing import Probe, in_ours, in_theirs
from tests.people import Town
from tests.remote_room import Pdu
from tests.remote_scripts import refuse, reply
from tests.remote_server import RemoteServer


async def judged(probe: Probe, control: Pdu, bad: Pdu) -> None:
    """AssertionError unless the control is shown and the bad one is not."""
    sentinel = probe.room.say(probe.guest, "sentinel")
    results = await probe.send(control, bad, sentinel)
    assert results[sentinel.event_id] == {}
    await probe.sees(sentinel)
    await probe.eyes.event(probe.room_id, probe.room.parse(control).event_id)
    await probe.is_hidden(probe.room.parse(bad).event_id)


async def test_duplicate_auth_events_are_refused(federated_town: Town, remote: RemoteServer) -> None:
    probe = await in_theirs(federated_town, remote, "9")
    room, guest = probe.room, probe.guest
    old = room.current["m.room.member", guest]
    new = room.member(guest, guest, "join", content={"test_content": "test"})
    await probe.send(new)
    create, levels = room.current["m.room.create", ""], room.current["m.room.power_levels", ""]
    control = room.forge(guest, auth_events=room.references([create, levels, new]))
    bad = room.forge(guest, auth_events=room.references([create, levels, old, new]))
    await judged(probe, control, bad)


async def test_auth_events_beyond_the_selection_are_refused(
    federated_town: Town, remote: RemoteServer
) -> None:
    probe = await in_theirs(federated_town, remote, "9")
    room, guest = probe.room, probe.guest
    usual = [
        room.current[key]
        for key in (("m.room.create", ""), ("m.room.power_levels", ""), ("m.room.member", guest))
    ]
    control = room.forge(guest, auth_events=room.references(usual))
    bad = room.forge(guest, auth_events=room.references([*usual, room.current["m.room.join_rules", ""]]))
    await judged(probe, control, bad)


async def test_there_is_one_create_event(federated_town: Town, remote: RemoteServer) -> None:
    """Neither one with a past nor one without; the rules would let the server that made the room send the latter."""
    probe = await in_theirs(federated_town, remote, "9")
    content = {"creator": probe.guest, "room_version": "9"}
    fields = {"state_key": "", "content": content, "auth_events": []}
    second = probe.room.forge(probe.guest, "m.room.create", prev_events=[], **fields)
    bad = probe.room.forge(probe.guest, "m.room.create", **fields)
    create = await probe.person.state(probe.room_id, "m.room.create")
    await judged(probe, probe.room.forge(probe.guest), bad)
    await probe.send(second)
    await probe.is_hidden(probe.room.parse(second).event_id)
    assert await probe.person.state(probe.room_id, "m.room.create") == create


async def test_what_rests_on_a_rejected_event_is_rejected(federated_town: Town, remote: RemoteServer) -> None:
    """An outlier whose auth events have a rejected one, and two events that rest on the outlier."""
    probe = await in_ours(federated_town, remote, "10")
    room, guest = probe.room, probe.guest
    levels = room.forge(guest, "m.room.power_levels", state_key="", content={"users": {}})
    await probe.send(levels)
    current = room.current
    create, rules, own = (
        current["m.room.create", ""],
        current["m.room.join_rules", ""],
        current["m.room.member", guest],
    )
    auth = [create.event_id, rules.event_id, room.parse(levels).event_id, own.event_id]
    content = {"membership": "join", "test": 1}
    outlier = room.forge(guest, "m.room.member", state_key=guest, content=content, auth_events=auth)
    outlier_id = room.parse(outlier).event_id
    resting = [
        create.event_id,
        rules.event_id,
        current["m.room.power_levels", ""].event_id,
        own.event_id,
        outlier_id,
    ]
    first = room.forge(guest, auth_events=resting)
    first_id = room.parse(first).event_id
    second = room.forge(guest, auth_events=resting, prev_events=[first_id])
    second_id = room.parse(second).event_id
    sentinel = room.forge(guest, prev_events=[second_id], content={"msgtype": "m.text", "body": "sentinel"})
    chain = [create.pdu, rules.pdu, current["m.room.power_levels", ""].pdu, own.pdu, outlier]
    remote.script("GET", "/event_auth/", refuse(404, "M_NOT_FOUND"))
    remote.script("GET", f"/event_auth/{room.room_id}/{first_id}", reply({"auth_chain": chain}))
    remote.script(
        "GET",
        f"/event/{outlier_id}",
        reply({"origin": remote.name, "origin_server_ts": 1, "pdus": [outlier]}),
    )
    await probe.send(first, second, sentinel)
    await probe.eyes.event(probe.room_id, room.parse(sentinel).event_id)
    for event_id in (outlier_id, first_id, second_id):
        await probe.is_hidden(event_id)
    assert not remote.received("POST", "/get_missing_events/")
    assert not remote.received("GET", "/state")


async def test_the_state_after_a_rejected_event_is_that_before_it(
    federated_town: Town, remote: RemoteServer
) -> None:
    for state_key in (None, ""):
        probe = await in_ours(federated_town, remote, localpart=f"guest{state_key}")
        room = probe.room
        before = {event.event_id for event in room.current.values()}
        stranger = remote.user("stranger")
        content = {"body": "rejected"}
        auth = room.references([room.current["m.room.power_levels", ""]])
        rejected = room.forge(stranger, "m.room.odd", state_key=state_key, content=content, auth_events=auth)
        rejected_id = room.parse(rejected).event_id
        after = room.forge(probe.guest, prev_events=[rejected_id])
        await probe.send(rejected)
        assert await probe.send(after) == {room.parse(after).event_id: {}}
        assert await probe.state_ids(room.parse(after).event_id) == before


async def test_an_event_that_was_dropped_is_taken_when_it_comes_again(
    federated_town: Town, remote: RemoteServer
) -> None:
    probe = await in_theirs(federated_town, remote)
    a = probe.room.say(probe.guest, "a")
    b = probe.room.say(probe.guest, "b")
    probe.refuses("/get_missing_events/", "/state_ids/", "/state/", "/event/", "/backfill/")
    await probe.send(b)
    assert await probe.send(a) == {a.event_id: {}}
    await probe.sees(a)
    await probe.send(b)
    await probe.sees(b)
    assert probe.eyes.texts(probe.room_id) == ["a", "b"]


async def test_an_event_in_the_format_of_another_version_is_no_event(
    federated_town: Town, remote: RemoteServer
) -> None:
    probe = await in_ours(federated_town, remote, "10")
    event = probe.room.say(probe.guest, "in the old format")
    [prev] = event.pdu["prev_events"]
    old = event.pdu | {"event_id": event.event_id, "prev_events": [[prev, {"sha256": "a" * 43}]]}
    results = await probe.send(old)
    assert results.keys() <= {event.event_id}
    assert all(result.get("error") for result in results.values())
    await probe.is_hidden(event.event_id)
