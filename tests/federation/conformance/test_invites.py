"""Invites over federation, both ways."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.eyes import Eyes
from tests.federation.conformance.probing import in_ours
from tests.people import Town
from tests.remote_room import Pdu, RemoteRoom
from tests.remote_room_answers import stripped_state
from tests.remote_scripts import hang_up, refuse, reply
from tests.remote_server import Answer, RemoteServer


async def invite(
    town: Town, remote: RemoteServer, room: RemoteRoom, pdu: Pdu, v: str = "v2", state: Any = None
) -> Answer:
    """What we answer to an invite of the remote's."""
    event_id = room.parse(pdu).event_id
    told = stripped_state(room) if state is None else state
    body = pdu if v == "v1" else {"event": pdu, "room_version": room.version_id, "invite_room_state": told}
    return await remote.ask(town.server_name, "PUT", v, "invite", room.room_id, event_id, body=body)


def invite_of(room: RemoteRoom, sender: str, user_id: str, **content: Any) -> Pdu:
    """A signed invite that is not in the room yet."""
    return room.forge(sender, "m.room.member", state_key=user_id, content={"membership": "invite", **content})


@pytest.mark.parametrize(
    ("v", "version_id"), [("v1", "1"), ("v2", "1"), ("v2", "6"), ("v2", "10"), ("v2", "12")]
)
async def test_an_invite_is_signed_and_shown(
    federated_town: Town, remote: RemoteServer, v: str, version_id: str
) -> None:
    bob, alice = await federated_town.person("bob"), remote.user("alice")
    room = remote.make_room(version_id, join_rule="invite")
    pdu = invite_of(room, alice, bob.user_id, is_direct=True)
    # Since v12 the create event must be told.
    told = None if version_id == "12" else []
    answer = await invite(federated_town, remote, room, pdu, v, told)
    assert answer.status == 200, answer
    if v == "v1":
        assert answer.body[0] == 200
    event = (answer.body[1] if v == "v1" else answer.body)["event"]
    assert {key: event[key] for key in pdu if key != "signatures"} == {
        k: v for k, v in pdu.items() if k != "signatures"
    }
    assert event["signatures"].keys() == {remote.name, federated_town.server_name}
    told = await Eyes(bob).invite_state(room.room_id)
    [own] = [e for e in told if e.get("state_key") == bob.user_id]
    assert own["content"] == {"membership": "invite", "is_direct": True}
    assert all("origin_server_ts" not in e for e in told)


def without_create(room: RemoteRoom) -> list[Any]:
    return [pdu for pdu in stripped_state(room) if pdu["type"] != "m.room.create"]


def with_change(room: RemoteRoom, change: Callable[[Pdu], Any]) -> list[Any]:
    return [change(pdu) if pdu["type"] == "m.room.join_rules" else pdu for pdu in stripped_state(room)]


@pytest.mark.parametrize(
    "told",
    [
        without_create,
        lambda room: [],
        lambda room: with_change(room, lambda pdu: pdu | {"room_id": "!" + "a" * 43}),
        lambda room: with_change(room, lambda pdu: pdu | {"auth_events": 5}),
        lambda room: with_change(room, lambda pdu: pdu | {"origin_server_ts": 5}),
        lambda room: with_change(room, lambda pdu: pdu | {"signatures": {}}),
    ],
    ids=["no create event", "nothing", "another room", "no event", "a wrong signature", "no signature"],
)
async def test_an_invite_with_the_state_of_no_such_room(
    federated_town: Town, remote: RemoteServer, told: Callable[[RemoteRoom], list[Any]]
) -> None:
    bob, alice = await federated_town.person("bob"), remote.user("alice")
    room = remote.make_room("12", join_rule="invite")
    pdu = invite_of(room, alice, bob.user_id)
    bad = await invite(federated_town, remote, room, pdu, "v2", told(room))
    assert bad.error == (400, "M_INVALID_PARAM"), bad
    # Servers of before send stripped events, of which nothing can be checked.
    kept = ("type", "state_key", "sender", "content")
    stripped = [{key: told[key] for key in kept} for told in stripped_state(room)]
    assert (await invite(federated_town, remote, room, pdu, "v2", stripped)).status == 200


async def test_an_invite_that_nobody_has_signed(federated_town: Town, remote: RemoteServer) -> None:
    bob, alice = await federated_town.person("bob"), remote.user("alice")
    room = remote.make_room("1", join_rule="invite")
    pdu = invite_of(room, alice, bob.user_id)
    for v in ("v1", "v2"):
        bad = await invite(federated_town, remote, room, pdu | {"signatures": {}}, v)
        assert bad.error == (403, "M_FORBIDDEN")
    assert (await invite(federated_town, remote, room, pdu, "v1")).status == 200


async def test_an_invite_with_a_number_that_events_do_not_have(
    federated_town: Town, remote: RemoteServer
) -> None:
    bob, alice = await federated_town.person("bob"), remote.user("alice")
    room = remote.make_room("6", join_rule="invite")
    pdu = invite_of(room, alice, bob.user_id)
    event_id = room.parse(pdu).event_id
    bad = pdu | {"content": pdu["content"] | {"bad_val": 1.1}}
    body = {"event": bad, "room_version": "6", "invite_room_state": []}
    answer = await remote.ask(
        federated_town.server_name, "PUT", "v2", "invite", room.room_id, event_id, body=body
    )
    assert answer.error == (400, "M_BAD_JSON")


async def test_an_invite_of_a_version_that_nobody_knows(federated_town: Town, remote: RemoteServer) -> None:
    bob, alice = await federated_town.person("bob"), remote.user("alice")
    room = remote.make_room("10", join_rule="invite")
    pdu = invite_of(room, alice, bob.user_id)
    body = {"event": pdu, "room_version": "unknown", "invite_room_state": []}
    event_id = room.parse(pdu).event_id
    answer = await remote.ask(
        federated_town.server_name, "PUT", "v2", "invite", room.room_id, event_id, body=body
    )
    assert answer.error == (400, "M_INCOMPATIBLE_ROOM_VERSION")


async def test_an_invite_of_somebody_who_is_not_here(federated_town: Town, remote: RemoteServer) -> None:
    gone, alice = await federated_town.person("gone"), remote.user("alice")
    localpart = gone.user_id[1:].partition(":")[0]
    who = {"type": "m.id.user", "user": gone.user_id}
    auth = {"type": "m.login.password", "identifier": who, "password": f"{localpart} has a secret"}
    assert (await gone.post("account", "deactivate", body={"auth": auth})).status == 200
    room = remote.make_room("12", join_rule="invite")
    for user_id in (gone.user_id, f"@typo:{federated_town.server_name}"):
        answer = await invite(federated_town, remote, room, invite_of(room, alice, user_id))
        assert answer.error == (403, "M_FORBIDDEN")


async def test_a_name_that_nobody_has_given_the_room_is_not_shown(
    federated_town: Town, remote: RemoteServer
) -> None:
    bob, alice = await federated_town.person("bob"), remote.user("alice")
    room = remote.make_room("12", join_rule="invite")
    room.send("m.room.name", alice, {"name": "Chess"}, state_key="")
    told = [
        pdu | {"content": {"name": "Your bank"}} if pdu["type"] == "m.room.name" else pdu
        for pdu in stripped_state(room)
    ]
    answer = await invite(federated_town, remote, room, invite_of(room, alice, bob.user_id), "v2", told)
    assert answer.status == 200, answer
    shown = {event["type"]: event for event in await Eyes(bob).invite_state(room.room_id)}
    # Its hash is wrong, so it counts as redacted.
    assert shown["m.room.name"]["content"] == {}
    assert shown["m.room.join_rules"]["content"] == {"join_rule": "invite"}


@pytest.mark.parametrize("how", ["403", "500", "out of reach"])
async def test_an_invite_is_declined_whatever_the_other_server_says(
    federated_town: Town, remote: RemoteServer, how: str
) -> None:
    bob, alice = await federated_town.person("bob"), remote.user("alice")
    room = remote.make_room("10", join_rule="invite")
    assert (
        await invite(federated_town, remote, room, invite_of(room, alice, bob.user_id), "v2")
    ).status == 200
    eyes = Eyes(bob)
    await eyes.membership(room.room_id, "invite")
    remote.script(
        "*", "/make_leave/", hang_up() if how == "out of reach" else refuse(int(how), "M_FORBIDDEN")
    )
    left = await bob.post("rooms", room.room_id, "leave")
    assert left.status == 200, left
    await eyes.membership(room.room_id, "leave")
    assert eyes.member(room.room_id, bob.user_id) == "leave"


@pytest.mark.parametrize("version_id", ["2", "12"])
async def test_our_invites(federated_town: Town, remote: RemoteServer, version_id: str) -> None:
    alice, bob = await federated_town.person("alice"), remote.user("bob")
    room_id = await alice.create_room(
        preset="public_chat", room_version=version_id, name="Invites", is_direct=True
    )
    if version_id == "2":
        # Servers of old know the first version of this request only.
        remote.script("PUT", "/v2/invite/", refuse(404, "M_UNRECOGNIZED"))
    await alice.invite(room_id, bob)
    request = remote.received("PUT", "/v1/invite/" if version_id == "2" else "/v2/invite/")[0]
    event = request.body if version_id == "2" else request.body["event"]
    assert (event["type"], event["room_id"], event["sender"]) == ("m.room.member", room_id, alice.user_id)
    assert (event["content"]["membership"], event["state_key"]) == ("invite", bob)
    if version_id == "12":
        assert request.body["room_version"] == "12"
        told = {e["type"]: e for e in request.body["invite_room_state"]}
        assert told.keys() >= {"m.room.create", "m.room.join_rules", "m.room.name"}
        assert all("origin_server_ts" in e for e in told.values())


def spoil(body: Any, change: dict[str, Any]) -> Any:
    return {"event": body["event"] | change}


@pytest.mark.parametrize("change", [{"bad_val": 1.1}, {"signatures": {}}], ids=["a float", "unsigned"])
async def test_a_wrong_answer_to_our_invite(federated_town: Town, remote: RemoteServer, change: Any) -> None:
    alice, bob = await federated_town.person("alice"), remote.user("bob")
    room_id = await alice.create_room(preset="private_chat", room_version="6")
    remote.lie("PUT", "/v2/invite/", partial(spoil, change=change))
    answer = await alice.post("rooms", room_id, "invite", body={"user_id": bob})
    assert 400 <= answer.status < 500, answer
    assert await alice.state(room_id, "m.room.member", bob) is None


@pytest.mark.parametrize("version_id", ["1", "12"])
async def test_an_invite_of_ours_is_declined(
    federated_town: Town, remote: RemoteServer, version_id: str
) -> None:
    alice, bob = await federated_town.person("alice"), remote.user("bob")
    room_id = await alice.create_room(preset="private_chat", room_version=version_id)
    await alice.invite(room_id, bob)
    made = await remote.ask(federated_town.server_name, "GET", "v1", "make_leave", room_id, bob)
    assert made.status == 200, made
    template = made.body["event"]
    assert template["content"]["membership"] == "leave"
    proto = template | {"origin_server_ts": 1_700_000_000_000}
    if version_id == "1":
        for key in ("auth_events", "prev_events"):
            proto[key] = [pair[0] for pair in proto[key]]
    pdu, event_id = remote.sign(proto, version_id)
    for bad in (pdu | {"signatures": {}}, pdu | {"signatures": {remote.name: {"ed25519:x": "a" * 86}}}):
        answer = await remote.ask(
            federated_town.server_name, "PUT", "v1", "send_leave", room_id, event_id, body=bad
        )
        assert answer.error == (403, "M_FORBIDDEN"), answer
    answer = await remote.ask(
        federated_town.server_name, "PUT", "v1", "send_leave", room_id, event_id, body=pdu
    )
    assert (answer.status, answer.body) == (200, [200, {}])
    await Eyes(alice).sees_member(room_id, bob, "leave")


async def test_who_is_in_the_room_sees_the_invite_and_that_it_is_declined(
    federated_town: Town, remote: RemoteServer, make_remote: Any
) -> None:
    probe, other = await in_ours(federated_town, remote), await make_remote()
    charlie = other.user("charlie")
    await probe.person.invite(probe.room_id, charlie)
    seen = await remote.wait_for_pdu(lambda pdu: pdu.get("state_key") == charlie)
    assert seen["content"]["membership"] == "invite"
    made = await other.ask(federated_town.server_name, "GET", "v1", "make_leave", probe.room_id, charlie)
    pdu, event_id = other.sign(made.body["event"], "12")
    sent = await other.ask(
        federated_town.server_name, "PUT", "v2", "send_leave", probe.room_id, event_id, body=pdu
    )
    assert (sent.status, sent.body) == (200, {})
    await remote.wait_for_pdu(
        lambda pdu: pdu.get("state_key") == charlie and pdu["content"]["membership"] == "leave"
    )


async def test_errors_of_an_invited_server_are_passed_on(federated_town: Town, remote: RemoteServer) -> None:
    alice, bob = await federated_town.person("alice"), remote.user("bob")
    room_id = await alice.create_room(preset="private_chat")
    remote.script("PUT", "/invite/", reply({"errcode": "M_FORBIDDEN", "error": "not here"}, 403))
    answer = await alice.post("rooms", room_id, "invite", body={"user_id": bob})
    assert answer.error == (403, "M_FORBIDDEN")
    assert await alice.state(room_id, "m.room.member", bob) is None


async def test_an_unban_that_comes_after_the_invite_that_followed_it(
    federated_town: Town, remote: RemoteServer
) -> None:
    bob, alice = await federated_town.person("bob"), remote.user("alice")
    room = remote.make_room("12", join_rule="invite")
    room.member(alice, bob.user_id, "ban")
    unban = room.member(alice, bob.user_id, "leave")
    invited = room.member(alice, bob.user_id, "invite")
    assert (await invite(federated_town, remote, room, invited.pdu)).status == 200
    eyes = Eyes(bob)
    await eyes.membership(room.room_id, "invite")
    await remote.send(federated_town.server_name, unban)
    await eyes.look(timeout_ms=0)
    assert eyes.memberships[room.room_id] == "invite"
    await remote.send(federated_town.server_name, room.member(alice, bob.user_id, "leave"))
    await eyes.membership(room.room_id, "leave")
