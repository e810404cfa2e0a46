"""Our users join rooms of other servers that answer in unusual, old or wrong ways."""

from functools import partial
from typing import Any

import pytest

from tests.eyes import Eyes
from tests.federation.conformance.probing import in_theirs
from tests.people import Person, Town, path
from tests.remote_room import with_bad_signature
from tests.remote_scripts import refuse
from tests.remote_server import RemoteServer


async def join(person: Person, room_id: str, *via: str) -> Any:
    """The answer to a join by way of these servers."""
    query = "&".join(f"server_name={name}" for name in via)
    return await person.ask_raw("POST", f"{path('join', room_id)}?{query}", b"{}")


async def test_servers_that_know_only_the_first_version_of_requests(
    federated_town: Town, remote: RemoteServer
) -> None:
    bob, room = await federated_town.person("bob"), remote.make_room("1")
    remote.script("PUT", "/v2/", refuse(404, "M_UNRECOGNIZED"))
    assert (await join(bob, room.room_id, remote.name)).status == 200
    assert remote.received("PUT", "/v1/send_join/")
    assert (await bob.post("rooms", room.room_id, "leave")).status == 200
    await remote.wait_for_pdu(
        lambda pdu: pdu.get("state_key") == bob.user_id and pdu["content"]["membership"] == "leave"
    )


async def test_a_room_is_joined_through_who_is_in_it(federated_town: Town, make_remote: Any) -> None:
    """Servers are asked in the order given; who is named first need not be in the room."""
    first, second = await make_remote(), await make_remote()
    bob, room = await federated_town.person("bob"), second.make_room()
    first.script("GET", "/make_join/", refuse(404, "M_NOT_FOUND"))
    assert (await join(bob, room.room_id, first.name, second.name)).status == 200
    assert first.received("GET", "/make_join/")


@pytest.mark.parametrize("how", ["unsigned", "wrong signature", "unknown key"])
async def test_state_that_nobody_can_verify(federated_town: Town, remote: RemoteServer, how: str) -> None:
    bob, alice, room = await federated_town.person("bob"), remote.user("alice"), remote.make_room()
    name = room.send("m.room.name", alice, {"name": "x"}, state_key="")
    wrong = with_bad_signature(name.pdu)
    [(key_id, signature)] = wrong["signatures"][remote.name].items()
    signatures = {
        "unsigned": {},
        "wrong signature": wrong["signatures"],
        "unknown key": {remote.name: {f"{key_id}bogus": signature}},
    }
    name.pdu["signatures"] = signatures[how]
    assert (await join(bob, room.room_id, remote.name)).status == 200
    await Eyes(bob).membership(room.room_id, "join")


async def test_state_whose_auth_events_nobody_can_verify(federated_town: Town, remote: RemoteServer) -> None:
    bob, alice, room = await federated_town.person("bob"), remote.user("alice"), remote.make_room()
    dora = remote.user("dora")
    joined = room.member(dora, dora, "join")
    room.member(dora, dora, "leave")
    joined.pdu["signatures"] = with_bad_signature(joined.pdu)["signatures"]
    assert (await join(bob, room.room_id, remote.name)).status == 200
    assert await bob.state(room.room_id, "m.room.member", alice) is not None


async def test_members_with_odd_names(federated_town: Town, remote: RemoteServer) -> None:
    bob, alice, room = await federated_town.person("bob"), remote.user("alice"), remote.make_room()
    room.member(alice, alice, "join", content={"displayname": [], "avatar_url": []})
    assert (await join(bob, room.room_id, remote.name)).status == 200
    eyes = Eyes(bob)
    await eyes.membership(room.room_id, "join")
    assert eyes.member(room.room_id, alice) == "join"


def without(types: set[str], body: Any) -> Any:
    keep = [pdu for pdu in body["state"] if pdu["type"] not in types]
    return body | {"state": keep}


async def test_a_room_without_its_create_event(federated_town: Town, remote: RemoteServer) -> None:
    bob, room = await federated_town.person("bob"), remote.make_room("10")
    remote.lie("PUT", "/send_join/", partial(without, {"m.room.create"}))
    answer = await join(bob, room.room_id, remote.name)
    assert 400 <= answer.status < 600, answer
    assert (await bob.get("joined_rooms")).body["joined_rooms"] == []


async def test_a_create_event_with_a_past(federated_town: Town, remote: RemoteServer) -> None:
    bob, alice = await federated_town.person("bob"), remote.user("alice")
    room = remote.make_room("9")
    assert room.create is not None
    content = {"creator": alice, "room_version": "9"}
    prev = ["$" + "x" * 43]
    bad = room.forge(
        alice, "m.room.create", state_key="", content=content, prev_events=prev, auth_events=[], depth=1
    )

    def change(body: Any) -> Any:
        swap = [bad if pdu["type"] == "m.room.create" else pdu for pdu in body["state"]]
        chain = [bad if pdu["type"] == "m.room.create" else pdu for pdu in body["auth_chain"]]
        return body | {"state": swap, "auth_chain": chain}

    remote.lie("PUT", "/send_join/", change)
    answer = await join(bob, room.room_id, remote.name)
    assert answer.status == 400, answer


async def test_levels_are_the_creators_where_no_event_says_so(
    federated_town: Town, remote: RemoteServer
) -> None:
    probe = await in_theirs(federated_town, remote, "10")
    b = remote.user("b")
    joined = probe.room.member(b, b, "join")
    await probe.send(joined)
    before = await probe.person.state(probe.room_id, "m.room.power_levels")
    content = {"users": {b: 100}}
    levels = probe.room.forge(b, "m.room.power_levels", state_key="", content=content)
    await probe.send(levels)
    ours = await probe.person.set_state(
        probe.room_id, "m.room.power_levels", {"users": {probe.person.user_id: 100}}
    )
    assert ours.error == (403, "M_FORBIDDEN")
    assert await probe.person.state(probe.room_id, "m.room.power_levels") == before


async def test_joining_by_an_alias_with_any_letters(federated_town: Town, remote: RemoteServer) -> None:
    bob, room = await federated_town.person("bob"), remote.make_room()
    alias = f"#\N{CJK UNIFIED IDEOGRAPH-8001}\N{CJK UNIFIED IDEOGRAPH-864E}/%41?x:{remote.name}"
    remote.world.aliases[alias] = room.room_id
    assert (await bob.get("directory", "room", alias)).body["room_id"] == room.room_id
    answer = await bob.post("join", alias)
    assert (answer.status, answer.body["room_id"]) == (200, room.room_id)
