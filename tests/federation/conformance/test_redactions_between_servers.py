"""Redactions from elsewhere: of what, by whom, and of themselves."""

from tests.federation.conformance.probing import in_ours, in_theirs
from tests.people import Town
from tests.remote_server import RemoteServer


async def test_who_may_not_redact(federated_town: Town, remote: RemoteServer) -> None:
    probe = await in_ours(federated_town, remote, "5")
    said = await probe.person.say(probe.room_id, "Hello")
    await remote.wait_for_pdu(lambda pdu: pdu["type"] == "m.room.message")
    for redactions in range(2):
        spoof = probe.room.forge(probe.guest, "m.room.redaction", redacts=said, content={"n": redactions})
        await probe.send(spoof)
        sentinel = probe.room.say(probe.guest, f"sentinel {redactions}")
        await probe.send(sentinel)
        await probe.sees(sentinel)
        shown = (await probe.person.get("rooms", probe.room_id, "event", said)).body
        if redactions == 0:
            assert shown["content"]["body"] == "Hello"
            assert "redacted_by" not in shown.get("unsigned", {})
            own = await probe.person.put("rooms", probe.room_id, "redact", said, "txn")
            own_id = own.body["event_id"]
            await remote.wait_for_pdu(lambda pdu: pdu["type"] == "m.room.redaction")
        else:
            assert shown["content"] == {}
            because = shown["unsigned"]["redacted_because"]
            assert because["event_id"] == own_id


async def test_an_event_of_another_room_is_not_redacted(federated_town: Town, remote: RemoteServer) -> None:
    one = await in_ours(federated_town, remote, "10")
    two = await in_ours(federated_town, remote, "10")
    said = one.room.say(one.guest, "hi")
    await one.send(said)
    await one.sees(said)
    await two.send(two.room.forge(two.guest, "m.room.redaction", redacts=said.event_id, content={}))
    sentinel = two.room.say(two.guest, "sentinel")
    await two.send(sentinel)
    await two.sees(sentinel)
    shown = await one.person.get("rooms", one.room_id, "event", said.event_id)
    assert shown.body["content"]["body"] == "hi"


async def test_redactions_of_themselves_and_of_each_other(federated_town: Town, remote: RemoteServer) -> None:
    probe = await in_ours(federated_town, remote, "1")
    ids = [f"${name}:{remote.name}" for name in ("self", "one", "two")]
    for own, redacts in ((ids[0], ids[0]), (ids[1], ids[2]), (ids[2], ids[1])):
        event = probe.room.send("m.room.redaction", probe.guest, {}, event_id=own, redacts=redacts)
        assert await probe.send(event) == {own: {}}
        await probe.sees(event)


async def test_a_redaction_of_what_we_do_not_have_goes_out(
    federated_town: Town, remote: RemoteServer
) -> None:
    levels = {"users": {remote.user("alice"): 100}, "redact": 0}
    for version in ("10", "12"):
        if version == "12":
            levels = {"redact": 0}
        probe = await in_theirs(federated_town, remote, version, levels=levels)
        unknown = probe.room.say(probe.guest, "666").event_id + ":" + remote.name
        answer = await probe.person.put(
            "rooms", probe.room_id, "redact", unknown, "t", body={"reason": "reasons"}
        )
        assert answer.status == 200, answer
        sent = await remote.wait_for_pdu(
            lambda pdu, room_id=probe.room_id: pdu["type"] == "m.room.redaction" and pdu["room_id"] == room_id
        )
        assert probe.room.parse(sent).event_id == answer.body["event_id"]
