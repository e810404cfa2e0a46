"""Events whose past we lack: it is fetched, or bridged by the state after it, and nobody else waits for that."""

import asyncio

import pytest

from tests.eyes import Eyes
from tests.people import Person, Town
from tests.remote_room import RemoteRoom, with_bad_hash, with_bad_signature
from tests.remote_scripts import refuse
from tests.remote_server import RemoteServer

pytestmark = pytest.mark.timeout(120)


async def enter(town: Town, remote: RemoteServer, version_id: str = "12") -> tuple[RemoteRoom, Person]:
    """A room of the remote's with somebody of ours in it."""
    bob = await town.person("bob")
    room = remote.make_room(version_id)
    answer = await bob.ask("POST", "join", room.room_id, query={"via": remote.name})
    assert answer.status == 200, answer
    return room, bob


async def test_missing_events_are_fetched(federated_town: Town, remote: RemoteServer) -> None:
    room, bob = await enter(federated_town, remote)
    eyes, alice = Eyes(bob), remote.user("alice")
    sent = [room.say(alice, f"number {number}") for number in range(6)]
    answer = await remote.send(federated_town.server_name, sent[-1])
    assert answer.body == {"pdus": {sent[-1].event_id: {}}}
    await eyes.event(room.room_id, sent[-1].event_id)
    assert eyes.texts(room.room_id) == [f"number {number}" for number in range(6)]
    [asked] = remote.received("POST", "/get_missing_events/")
    assert asked.body["latest_events"] == [sent[-1].event_id]
    assert not remote.received("GET", "/state_ids/")


async def test_a_gap_that_is_not_filled_is_bridged_by_the_state(
    federated_town: Town, remote: RemoteServer
) -> None:
    room, bob = await enter(federated_town, remote)
    eyes, alice = Eyes(bob), remote.user("alice")
    room.send("m.room.topic", alice, {"topic": "in the gap"}, state_key="")
    room.say(alice, "in the gap")
    last = room.say(alice, "after the gap")
    remote.script("POST", "/get_missing_events/", refuse(500, "M_UNKNOWN"))
    answer = await remote.send(federated_town.server_name, last)
    assert answer.body == {"pdus": {last.event_id: {}}}
    await eyes.event(room.room_id, last.event_id)
    assert await bob.state(room.room_id, "m.room.topic") == {"topic": "in the gap"}
    assert len(remote.received("GET", "/state_ids/")) == 1


async def test_what_cannot_be_placed_is_dropped_and_the_room_goes_on(
    federated_town: Town, remote: RemoteServer
) -> None:
    room, bob = await enter(federated_town, remote)
    alice, entered = remote.user("alice"), room.newest
    room.say(alice, "lost")
    last = room.say(alice, "after the gap")
    for part in ("/get_missing_events/", "/state_ids/", "/state/"):
        remote.script("GET", part, refuse(403, "M_FORBIDDEN"))
        remote.script("POST", part, refuse(403, "M_FORBIDDEN"))
    await remote.send(federated_town.server_name, last)
    found = await bob.get("rooms", room.room_id, "event", last.event_id)
    assert found.error == (404, "M_NOT_FOUND")
    said = room.say(alice, "on another branch", prev=[entered])
    answer = await remote.send(federated_town.server_name, said)
    assert answer.body == {"pdus": {said.event_id: {}}}
    await Eyes(bob).event(room.room_id, said.event_id)


async def test_what_was_pulled_in_vain_is_not_pulled_again_at_once(
    federated_town: Town, remote: RemoteServer
) -> None:
    """Also where nothing that we have builds on it."""
    room, _ = await enter(federated_town, remote)
    alice = remote.user("alice")
    lost = room.say(alice, "lost")
    bad = room.forge(alice, auth_events=["$" + "y" * 43], prev_events=[lost.event_id])
    remote.lie("POST", "/get_missing_events/", lambda _: {"events": [lost.pdu, bad]})
    for number in range(3):
        event = room.forge(alice, prev_events=[room.parse(bad).event_id], content={"body": f"{number}"})
        await remote.send(federated_town.server_name, event)
    assert len(remote.received("GET", "/event_auth/")) == 1


async def test_a_bad_copy_of_an_event_does_not_keep_the_event_out(
    federated_town: Town, remote: RemoteServer
) -> None:
    room, bob = await enter(federated_town, remote)
    alice = remote.user("alice")
    wanted = room.say(alice, "wanted")
    told = [{"events": [with_bad_signature(wanted.pdu)]}, {"events": [wanted.pdu]}]
    remote.lie("POST", "/get_missing_events/", lambda _: told.pop(0))
    for number in range(2):
        event = room.forge(alice, prev_events=[wanted.event_id], content={"body": f"{number}"})
        await remote.send(federated_town.server_name, event)
    found = await bob.get("rooms", room.room_id, "event", wanted.event_id)
    assert found.body["content"]["body"] == "wanted"


async def test_a_slow_server_delays_only_its_own_gap(federated_town: Town, remote: RemoteServer) -> None:
    room, bob = await enter(federated_town, remote)
    alice, entered = remote.user("alice"), room.newest
    room.say(alice, "missing")
    late = room.say(alice, "late")
    stall = remote.stall("POST", "/get_missing_events/")
    waiting = asyncio.create_task(remote.send(federated_town.server_name, late))
    await stall.reached()
    direct = room.say(alice, "not late", prev=[entered])
    answer = await remote.send(federated_town.server_name, direct)
    assert answer.body == {"pdus": {direct.event_id: {}}}
    await bob.say(room.room_id, "nor is this")
    stall.release()
    assert (await waiting).body == {"pdus": {late.event_id: {}}}
    await Eyes(bob).event(room.room_id, late.event_id)


async def test_a_transaction_that_is_repeated_is_carried_out_once(
    federated_town: Town, remote: RemoteServer
) -> None:
    room, _ = await enter(federated_town, remote)
    alice = remote.user("alice")
    room.say(alice, "missing")
    last = room.say(alice, "last")
    stall = remote.stall("POST", "/get_missing_events/")
    first = asyncio.create_task(remote.send(federated_town.server_name, last, txn_id="same"))
    await stall.reached()
    second = asyncio.create_task(remote.send(federated_town.server_name, last, txn_id="same"))
    stall.release()
    assert (await first).body == (await second).body == {"pdus": {last.event_id: {}}}
    assert len(remote.received("POST", "/get_missing_events/")) == 1


async def test_bad_signatures_are_dropped_and_bad_hashes_redacted(
    federated_town: Town, remote: RemoteServer
) -> None:
    room, bob = await enter(federated_town, remote)
    alice, entered = remote.user("alice"), room.newest
    unsigned = room.say(alice, "signature", prev=[entered])
    changed = room.say(alice, "hash", prev=[entered])
    answer = await remote.send(
        federated_town.server_name, with_bad_signature(unsigned.pdu), with_bad_hash(changed.pdu)
    )
    assert "error" in answer.body["pdus"][unsigned.event_id]
    assert answer.body["pdus"][changed.event_id] == {}
    seen = await Eyes(bob).event(room.room_id, changed.event_id)
    assert seen["content"] == {}


async def test_join_and_message_reordered(federated_town: Town, remote: RemoteServer) -> None:
    """Whichever comes first: the message is not soft-failed, for its join is in its past."""
    room, bob = await enter(federated_town, remote)
    dora = remote.user("dora")
    join = room.member(dora, dora, "join")
    message = room.say(dora, "hello at once")
    answer = await remote.send(federated_town.server_name, message)
    assert answer.body == {"pdus": {message.event_id: {}}}
    answer = await remote.send(federated_town.server_name, join)
    assert answer.body == {"pdus": {join.event_id: {}}}
    await Eyes(bob).event(room.room_id, message.event_id)


@pytest.mark.parametrize("version_id", ["5", "12"])
@pytest.mark.parametrize("order", ["in order", "reversed", "two at once", "two reversed at once"])
async def test_join_and_message_together(
    federated_town: Town, remote: RemoteServer, version_id: str, order: str
) -> None:
    room, bob = await enter(federated_town, remote, version_id)
    dora = remote.user("dora")
    events = [room.member(dora, dora, "join"), room.say(dora, "hello at once")]
    if "reversed" in order:
        events.reverse()
    transactions = [[event] for event in events] if "at once" in order else [events]
    answers = await asyncio.gather(
        *(remote.send(federated_town.server_name, *transaction) for transaction in transactions)
    )
    results = {event_id: result for answer in answers for event_id, result in answer.body["pdus"].items()}
    assert results == {event.event_id: {} for event in events}
    eyes = Eyes(bob)
    await eyes.until(lambda: "hello at once" in eyes.texts(room.room_id))
    assert eyes.member(room.room_id, dora) == "join"


async def test_a_message_whose_join_comes_much_later(federated_town: Town, remote: RemoteServer) -> None:
    """Its server does not tell the join itself, but that she is in the room."""
    room, bob = await enter(federated_town, remote)
    alice, dora = remote.user("alice"), remote.user("dora")
    join = room.member(dora, dora, "join")
    message = room.say(dora, "hello at once")
    remote.script("POST", "/get_missing_events/", refuse(404, "M_NOT_FOUND"))
    answer = await remote.send(federated_town.server_name, message)
    assert answer.body == {"pdus": {message.event_id: {}}}
    eyes = Eyes(bob)
    await eyes.event(room.room_id, message.event_id)
    assert eyes.member(room.room_id, dora) == "join"
    after = room.say(alice, "hello dora")
    await remote.send(federated_town.server_name, after)
    answer = await remote.send(federated_town.server_name, join)
    assert answer.body == {"pdus": {join.event_id: {}}}
    await eyes.until(lambda: eyes.texts(room.room_id) == ["hello at once", "hello dora"])


async def test_after_a_ban_a_message_still_soft_fails(federated_town: Town, remote: RemoteServer) -> None:
    room, bob = await enter(federated_town, remote)
    alice, dora = remote.user("alice"), remote.user("dora")
    join = room.member(dora, dora, "join")
    ban = room.member(alice, dora, "ban")
    late = room.say(dora, "as if there were no ban", prev=[join])
    await remote.send(federated_town.server_name, join, ban)
    await remote.send(federated_town.server_name, late)
    after = room.say(alice, "she is gone", prev=[ban])
    await remote.send(federated_town.server_name, after)
    eyes = Eyes(bob)
    await eyes.event(room.room_id, after.event_id)
    assert "as if there were no ban" not in eyes.texts(room.room_id)
    assert (await bob.get("rooms", room.room_id, "event", late.event_id)).status == 404


async def test_events_of_other_rooms_are_not_taken(federated_town: Town, remote: RemoteServer) -> None:
    room, bob = await enter(federated_town, remote)
    stranger = room.forge(remote.user("alice"), room_id="!elsewhere" + room.room_id[10:])
    unknown = room.forge(remote.user("alice"), prev_events=["$" + "x" * 43])
    answer = await remote.send(federated_town.server_name, stranger, unknown)
    assert answer.status == 200
    for pdu in (stranger, unknown):
        found = await bob.get("rooms", room.room_id, "event", room.parse(pdu).event_id)
        assert found.error == (404, "M_NOT_FOUND")
