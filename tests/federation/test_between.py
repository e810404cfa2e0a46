"""What happens in a room while a server is coming into it."""

import pytest

from tests.eyes import Eyes
from tests.people import Town
from tests.remote_server import RemoteServer


@pytest.mark.parametrize("version_id", ["2", "10", "12"])
async def test_what_happens_between_the_two_steps_of_a_join_is_sent_after_it(
    federated_town: Town, remote: RemoteServer, version_id: str
) -> None:
    alice, bob = await federated_town.person("alice"), remote.user("bob")
    room_id = await alice.create_room(preset="public_chat", room_version=version_id)
    name = federated_town.server_name
    made = await remote.ask(name, "GET", "v1", "make_join", room_id, bob, query={"ver": version_id})
    assert made.status == 200, made
    # Nobody of the other server is in the room yet.
    await alice.set_state(room_id, "m.room.topic", {"topic": "meanwhile"})
    said = await alice.say(room_id, "before you were here")
    proto = made.body["event"]
    if version_id == "2":
        proto |= {key: [pair[0] for pair in proto[key]] for key in ("auth_events", "prev_events")}
    pdu, event_id = remote.sign(proto, version_id)
    sent = await remote.ask(name, "PUT", "v2", "send_join", room_id, event_id, body=pdu)
    assert sent.status == 200, sent
    got = await remote.wait_for_pdu(lambda pdu: pdu["content"].get("body") == "before you were here")
    # What comes before it can be asked for.
    body = {"latest_events": [said], "earliest_events": [event_id], "limit": 10}
    missing = await remote.ask(name, "POST", "v1", "get_missing_events", room_id, body=body)
    assert "meanwhile" in [event["content"].get("topic") for event in missing.body["events"]]
    assert got["sender"] == alice.user_id
    # Once: the next one comes alone.
    last = await alice.say(room_id, "welcome")
    await remote.wait_for_pdu(lambda pdu: pdu["content"].get("body") == "welcome")
    bodies = [pdu["content"].get("body") for pdu in remote.world.pdus if pdu["type"] == "m.room.message"]
    assert bodies == ["before you were here", "welcome"]
    await Eyes(alice).event(room_id, last)
