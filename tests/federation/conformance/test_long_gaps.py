"""Gaps that are too long to be filled, and what a wrong state on their other side does to the room."""

from typing import Any

from tests.eyes import Eyes
from tests.federation.conformance.probing import in_ours
from tests.people import Town
from tests.remote_scripts import Received, Reply, reply
from tests.remote_server import RemoteServer
from tests.room_builder import BuiltEvent

LENGTH = 250
TOLD = 10


def tell_few(remote: RemoteServer, events: list[BuiltEvent], state_before: Any) -> None:
    """Have the remote tell ten events before one of these, and of the state before one what `state_before` makes up."""
    at = {event.event_id: number for number, event in enumerate(events)}

    async def missing(request: Received) -> Reply:
        number = at[request.body["latest_events"][0]]
        return Reply(200, {"events": [event.pdu for event in events[max(0, number - TOLD) : number]]})

    async def state_ids(request: Received) -> Reply:
        state, chain = state_before(at[request.first("event_id")])
        return Reply(
            200, {"pdu_ids": [e.event_id for e in state], "auth_chain_ids": [e.event_id for e in chain]}
        )

    async def state(request: Received) -> Reply:
        state, chain = state_before(at[request.first("event_id")])
        return Reply(200, {"pdus": [e.pdu for e in state], "auth_chain": [e.pdu for e in chain]})

    remote.script("POST", "/get_missing_events/", missing)
    remote.script("GET", "/state_ids/", state_ids)
    remote.script("GET", "/state/", state)


async def test_conflicts_are_replayed_on_what_they_cite(federated_town: Town, remote: RemoteServer) -> None:
    """The one who closed the room has left: her rule holds all the same against an older one that somebody makes up."""
    probe = await in_ours(federated_town, remote)
    room, guest, alice = probe.room, probe.guest, probe.person
    bob = await federated_town.person("bob")
    await bob.join(probe.room_id)
    was_public, was_in = room.current["m.room.join_rules", ""], room.current["m.room.member", alice.user_id]
    await remote.wait_for_pdu(lambda pdu: pdu.get("state_key") == bob.user_id)
    await alice.set_state(probe.room_id, "m.room.join_rules", {"join_rule": "invite"})
    await alice.post("rooms", probe.room_id, "leave")
    await remote.wait_for_pdu(
        lambda pdu: pdu.get("state_key") == alice.user_id and pdu["content"]["membership"] == "leave"
    )
    names = [room.member(guest, guest, "join", content={"displayname": f"Guest {n}"}) for n in range(LENGTH)]
    current = room.current

    def state_before(number: int) -> Any:
        keys = [
            ("m.room.create", ""),
            ("m.room.power_levels", ""),
            ("m.room.member", bob.user_id),
            ("m.room.member", alice.user_id),
        ]
        state = [names[number - 1], was_public, *(current[key] for key in keys)]
        return state, [*names[: number - 1], *room.auth_chain([*state, was_in]), was_in]

    tell_few(remote, names, state_before)
    await probe.send(names[-1])
    eyes = Eyes(bob)
    await eyes.event(probe.room_id, names[-1].event_id)
    assert remote.received("GET", "/state_ids/")
    assert await bob.state(probe.room_id, "m.room.join_rules") == {"join_rule": "invite"}


async def test_levels_do_not_fall_back(federated_town: Town, remote: RemoteServer) -> None:
    """Of three levels in a row, the first is made up to hold: those after it are replayed, too."""
    creator, alice, bob, zara = await federated_town.people("creator", "alice", "bob", "zara")
    room_id = await creator.create_room(room_version="12", preset="public_chat")
    await creator.set_state(room_id, "m.room.power_levels", {"users": {alice.user_id: 100}})
    for person in (alice, bob):
        await person.join(room_id)
    charlie, eve = remote.user("charlie"), remote.user("eve")
    room = await remote.join(federated_town.server_name, room_id, charlie)
    remote.world.rooms[room_id] = room
    first = room.current["m.room.power_levels", ""]
    users = {alice.user_id: 100, bob.user_id: 50}
    assert (await alice.set_state(room_id, "m.room.power_levels", {"users": users})).status == 200
    users |= {charlie: 50}
    assert (await bob.set_state(room_id, "m.room.power_levels", {"users": users})).status == 200
    third = await remote.wait_for_pdu(lambda pdu: pdu["content"].get("users") == users)
    await zara.join(room_id)
    await remote.wait_for_pdu(lambda pdu: pdu.get("state_key") == zara.user_id)
    at = room.by_id[room.parse(third).event_id]
    joined = room.member(eve, eve, "join", prev=[at])
    await remote.send(federated_town.server_name, joined)
    names, prev = [], joined
    for n in range(LENGTH):
        prev = room.member(eve, eve, "join", content={"displayname": f"Eve {n}"}, prev=[prev])
        names.append(prev)
    current = room.current

    def state_before(number: int) -> Any:
        members = [current["m.room.member", user] for user in (alice.user_id, bob.user_id, charlie)]
        state = [
            names[number - 1],
            current["m.room.create", ""],
            first,
            current["m.room.join_rules", ""],
            *members,
        ]
        return state, [*names[: number - 1], joined, *room.auth_chain([*members, joined])]

    tell_few(remote, names, state_before)
    await remote.send(federated_town.server_name, names[-1])
    await Eyes(alice).event(room_id, names[-1].event_id)
    assert (await alice.state(room_id, "m.room.power_levels"))["users"] == users


async def test_a_chain_that_is_broken_is_not_held_together(
    federated_town: Town, remote: RemoteServer
) -> None:
    """Profiles A to E, each citing the one before it; B is not to be had, so E is nobody's state."""
    probe = await in_ours(federated_town, remote, "10")
    room, guest = probe.room, probe.guest
    own = room.current["m.room.member", guest]
    for number in range(40):
        # So much state that what is missing of it is asked for event by event.
        await probe.person.set_state(probe.room_id, "org.example.padding", {"n": number}, str(number))
    await remote.wait_for_pdu(lambda pdu: pdu.get("state_key") == "39")
    chain = []
    for name in "ABCDE":
        usual = [
            room.current[key]
            for key in (("m.room.create", ""), ("m.room.power_levels", ""), ("m.room.join_rules", ""))
        ]
        prev = chain[-1] if chain else own
        options = {"prev": [chain[-1]] if chain else None, "auth": [*usual, prev]}
        chain.append(room.member(guest, guest, "join", content={"displayname": name}, **options))
    hole, fetched, sent = (room.say(guest, text) for text in ("hole", "fetched", "sent"))
    room.withheld.add(chain[1].event_id)
    remote.script("POST", "/get_missing_events/", reply({"events": [fetched.pdu]}))
    await probe.send(sent)
    asked = remote.received("GET", "/state_ids/")
    assert [request.first("event_id") for request in asked] == [hole.event_id]
    assert remote.received("GET", f"/event/{chain[1].event_id}")
    content = await probe.person.state(probe.room_id, "m.room.member", guest)
    assert content.get("displayname") in (None, "A")
