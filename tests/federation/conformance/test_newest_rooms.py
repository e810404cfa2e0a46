"""Rooms of version 12: creators above all levels, room ids that are hashes, states resolved from nothing."""

from typing import Any

import pytest

from tests.federation.conformance.probing import in_ours
from tests.people import Person, Town
from tests.remote_server import RemoteServer

MOST = 2**53 - 1


@pytest.mark.parametrize("level", [100, 949_342, MOST])
async def test_creators_are_above_every_level(federated_town: Town, level: int) -> None:
    alice, bob = await federated_town.people("alice", "bob")
    room_id = await alice.create_room(room_version="12", invite=[bob.user_id])
    levels = await alice.state(room_id, "m.room.power_levels")
    assert (levels["users"], levels["events"]["m.room.tombstone"]) == ({}, 150)
    await bob.join(room_id)
    own = await alice.set_state(room_id, "m.room.power_levels", {"users": {alice.user_id: 100}})
    assert own.status == 400
    assert (
        await alice.set_state(room_id, "m.room.power_levels", {"users": {bob.user_id: level}})
    ).status == 200
    kicked = await bob.post("rooms", room_id, "kick", body={"user_id": alice.user_id})
    assert kicked.error == (403, "M_FORBIDDEN")
    assert (await alice.post("rooms", room_id, "kick", body={"user_id": bob.user_id})).status == 200
    beyond = await alice.set_state(room_id, "m.room.power_levels", {"users": {bob.user_id: MOST + 1}})
    assert beyond.status == 400


async def test_more_creators(federated_town: Town) -> None:
    alice, bob, charlie = await federated_town.people("alice", "bob", "charlie")
    body = {
        "room_version": "12",
        "preset": "public_chat",
        "creation_content": {"additional_creators": [bob.user_id]},
    }
    room_id = await alice.create_room(**body)
    await bob.join(room_id)
    kicked = await alice.post("rooms", room_id, "kick", body={"user_id": bob.user_id})
    assert kicked.error == (403, "M_FORBIDDEN")
    assert (await bob.set_state(room_id, "m.room.name", {"name": "Bob's"})).status == 200
    levels = await alice.set_state(room_id, "m.room.power_levels", {"users": {bob.user_id: 100}})
    assert levels.status == 400
    trusted: dict[str, Any] = {
        "room_version": "12",
        "preset": "trusted_private_chat",
        "is_direct": True,
        "invite": [bob.user_id],
    }
    room_id = await alice.create_room(**trusted)
    assert (await alice.state(room_id, "m.room.create"))["additional_creators"] == [bob.user_id]
    trusted["creation_content"] = {"additional_creators": [charlie.user_id]}
    room_id = await alice.create_room(**trusted)
    assert set((await alice.state(room_id, "m.room.create"))["additional_creators"]) == {
        bob.user_id,
        charlie.user_id,
    }


@pytest.mark.parametrize(
    ("creators", "status"),
    [
        ("not-an-array", 400),
        (["@foo:example.com", 42], 400),
        (["@foo:example.com", "not-a-user-id"], 400),
        (["@invalid:dom$ain$.com"], 400),
        (["@foo:example.com", "@bar:baz.code"], 200),
    ],
)
async def test_who_can_be_a_creator(federated_town: Town, creators: Any, status: int) -> None:
    alice = await federated_town.person("alice")
    body = {
        "room_version": "12",
        "preset": "public_chat",
        "creation_content": {"additional_creators": creators},
    }
    assert (await alice.post("createRoom", body=body)).status == status


async def test_levels_that_a_new_room_is_to_have(federated_town: Town) -> None:
    alice, bob = await federated_town.people("alice", "bob")
    body = {
        "room_version": "12",
        "invite": [bob.user_id],
        "power_level_content_override": {"users": {bob.user_id: 100}},
    }
    room_id = await alice.create_room(**body)
    assert (await alice.state(room_id, "m.room.power_levels"))["users"] == {bob.user_id: 100}
    body["power_level_content_override"] = {"users": {alice.user_id: 100}}
    assert (await alice.post("createRoom", body=body)).status == 400


UPGRADES: list[tuple[str, dict[str, int], str, list[str] | None, list[str], dict[str, int]]] = [
    ("11", {"bob": 100}, "bob", None, [], {}),
    ("11", {"bob": 100, "charlie": 100}, "bob", None, [], {"charlie": 100}),
    ("12", {"bob": 150}, "bob", ["charlie"], ["charlie"], {}),
    ("12", {"bob": 150, "charlie": 50}, "bob", ["charlie"], ["charlie"], {}),
    ("11", {"alice": 100, "bob": 100}, "alice", ["bob"], ["bob"], {}),
    ("11", {"alice": 100, "bob": 100, "charlie": 50}, "alice", ["bob"], ["bob"], {"charlie": 50}),
]


@pytest.mark.parametrize(("version", "levels", "who", "added", "creators", "left"), UPGRADES)
async def test_creators_after_an_upgrade(
    federated_town: Town,
    version: str,
    levels: dict[str, int],
    who: str,
    added: list[str] | None,
    creators: list[str],
    left: dict[str, int],
) -> None:
    names = ("alice", "bob", "charlie")
    people = dict(zip(names, await federated_town.people(*names), strict=True))
    room_id = await people["alice"].create_room(room_version=version, preset="public_chat")
    for name in names[1:]:
        await people[name].join(room_id)
    content = {"users": {people[name].user_id: level for name, level in levels.items()}}
    assert (await people["alice"].set_state(room_id, "m.room.power_levels", content)).status == 200
    body: dict[str, Any] = {"new_version": "12"}
    if added is not None:
        body["additional_creators"] = [people[name].user_id for name in added]
    answer = await people[who].post("rooms", room_id, "upgrade", body=body)
    assert answer.status == 200, answer
    new = answer.body["replacement_room"]
    create = await people[who].state(new, "m.room.create")
    assert create["room_version"] == "12"
    wanted = [people[name].user_id for name in creators]
    assert create.get("additional_creators") == (wanted or None)
    users = (await people[who].state(new, "m.room.power_levels"))["users"]
    assert users == {people[name].user_id: level for name, level in left.items()}
    assert create["predecessor"]["room_id"] == room_id
    assert "event_id" not in create["predecessor"]
    assert (await people[who].state(room_id, "m.room.tombstone"))["replacement_room"] == new


@pytest.mark.parametrize("version", ["11", "12"])
async def test_nobody_sends_a_create_event(federated_town: Town, version: str) -> None:
    alice = await federated_town.person("alice")
    room_id = await alice.create_room(room_version=version)
    content = {"room_version": version, "entropy": 100}
    assert (await alice.set_state(room_id, "m.room.create", content)).status == 400


async def create_events(person: Person, room_id: str, said: str) -> dict[str, Any]:
    """The room's create event as each way to read it shows it."""
    create_id = "$" + room_id[1:]
    shown = {
        "state": (await person.get("rooms", room_id, "state")).body,
        "messages": (await person.get("rooms", room_id, "messages", dir="b", limit="100")).body["chunk"],
        "event": [(await person.get("rooms", room_id, "event", create_id)).body],
        "context": [(await person.get("rooms", room_id, "context", create_id)).body["event"]],
        "before": (await person.get("rooms", room_id, "context", said, limit="100")).body["events_before"],
        "context state": (await person.get("rooms", room_id, "context", said, limit="100")).body["state"],
        "one state": [
            (await person.get("rooms", room_id, "state", "m.room.create", "", format="event")).body
        ],
    }
    return {where: next(e for e in events if e["type"] == "m.room.create") for where, events in shown.items()}


async def test_create_events_are_shown_with_the_room_that_they_name(federated_town: Town) -> None:
    alice = await federated_town.person("alice")
    room_id = await alice.create_room(room_version="12")
    said = await alice.say(room_id, "hello")
    for where, event in (await create_events(alice, room_id, said)).items():
        assert (event["room_id"], event["event_id"]) == (room_id, "$" + room_id[1:]), where


async def test_no_event_names_the_create_event(federated_town: Town, remote: RemoteServer) -> None:
    probe = await in_ours(federated_town, remote)
    create = probe.room.current["m.room.create", ""]
    assert probe.room_id == "!" + create.event_id[1:]
    await probe.person.say(probe.room_id, "hello")
    said = await remote.wait_for_pdu(lambda pdu: pdu["type"] == "m.room.message")
    for pdu in (said, *(event.pdu for event in probe.room.events if event is not create)):
        assert create.event_id not in pdu["auth_events"]
        assert pdu["room_id"] == probe.room_id


async def test_who_has_a_level_comes_after_the_creator(federated_town: Town, remote: RemoteServer) -> None:
    """Two rules at once: the creator's is replayed first, so the other's stands."""
    probe = await in_ours(federated_town, remote)
    levels = {"users": {probe.guest: 9_493_420}}
    await probe.person.set_state(probe.room_id, "m.room.power_levels", levels)
    seen = await remote.wait_for_pdu(lambda pdu: pdu["content"].get("users") == levels["users"])
    at = probe.room.by_id[probe.room.parse(seen).event_id]
    await probe.person.set_state(probe.room_id, "m.room.join_rules", {"join_rule": "invite"})
    ours = probe.room.send("m.room.join_rules", probe.guest, {"join_rule": "knock"}, state_key="", prev=[at])
    await probe.send(ours)
    await probe.sees(ours)
    assert await probe.person.state(probe.room_id, "m.room.join_rules") == {"join_rule": "knock"}
