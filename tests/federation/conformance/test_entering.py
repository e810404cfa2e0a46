"""Users of another server come into rooms of ours, leave them, knock: each answer and each refusal to the letter."""

from typing import Any
from urllib.parse import quote

import pytest

from tests.eyes import Eyes
from tests.federation.conformance.probing import in_ours
from tests.people import Town
from tests.remote_room import Pdu, with_bad_signature
from tests.remote_server import FEDERATION, Answer, RemoteServer


async def make(
    town: Town, remote: RemoteServer, what: str, room_id: str, user_id: str, *versions: str
) -> Answer:
    """What /make_join and its like answer."""
    query = {"ver": versions} if versions else None
    return await remote.ask(town.server_name, "GET", "v1", f"make_{what}", room_id, user_id, query=query)


async def send(
    town: Town, remote: RemoteServer, what: str, room_id: str, event_id: str, pdu: Pdu, v: str = "v2"
) -> Answer:
    """What /send_join and its like answer."""
    return await remote.ask(town.server_name, "PUT", v, f"send_{what}", room_id, event_id, body=pdu)


PDU_KEYS = {
    "auth_events",
    "content",
    "depth",
    "hashes",
    "origin_server_ts",
    "prev_events",
    "room_id",
    "sender",
    "signatures",
    "type",
}


@pytest.mark.parametrize("v", ["v1", "v2"])
async def test_a_join_in_the_first_room_version(federated_town: Town, remote: RemoteServer, v: str) -> None:
    """A template without `ver` is one of version 1: references are pairs."""
    alice, bob = await federated_town.person("alice"), remote.user("bob")
    room_id = await alice.create_room(preset="public_chat", room_version="1")
    made = await make(federated_town, remote, "join", room_id, bob)
    assert made.status == 200, made
    template = made.body["event"]
    assert template.keys() >= {
        "auth_events",
        "content",
        "depth",
        "room_id",
        "sender",
        "state_key",
        "type",
        "prev_events",
    }
    assert template["content"]["membership"] == "join"
    assert (template["sender"], template["state_key"], template["room_id"]) == (bob, bob, room_id)
    for pair in (*template["auth_events"], *template["prev_events"]):
        assert isinstance(pair[0], str)
        assert isinstance(pair[1], dict)
    keys = ("auth_events", "content", "depth", "prev_events", "room_id", "sender", "state_key", "type")
    proto = {key: template[key] for key in keys} | {"origin_server_ts": 1_700_000_000_000}
    proto["auth_events"], proto["prev_events"] = (
        [pair[0] for pair in proto[key]] for key in ("auth_events", "prev_events")
    )
    pdu, event_id = remote.sign(proto, "1")
    sent = await send(federated_town, remote, "join", room_id, event_id, pdu, v)
    assert sent.status == 200, sent
    if v == "v1":
        assert sent.body[0] == 200
    body = sent.body[1] if v == "v1" else sent.body
    assert body.keys() >= {"auth_chain", "state"}
    assert body["auth_chain"]
    assert body["state"]
    for event in (*body["auth_chain"], *body["state"]):
        assert event.keys() >= PDU_KEYS | {"event_id"}
        assert event["room_id"] == room_id
    assert event_id not in [event["event_id"] for event in body["state"]]
    types = {event["type"] for event in body["state"]}
    assert types >= {"m.room.create", "m.room.member", "m.room.power_levels", "m.room.join_rules"}


async def test_an_answer_to_a_join_is_whole(federated_town: Town, remote: RemoteServer) -> None:
    alice, bob = await federated_town.person("alice"), remote.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    made = await make(federated_town, remote, "join", room_id, bob, "12")
    assert made.body["room_version"] == "12"
    pdu, event_id = remote.sign(made.body["event"], "12")
    path = f"{FEDERATION}/v2/send_join/{quote(room_id)}/{quote(event_id)}"
    sent = await remote.ask_path(
        federated_town.server_name, "PUT", path, body=pdu, query={"omit_members": "true"}
    )
    assert sent.status == 200, sent
    body = sent.body
    assert body["origin"] == federated_town.server_name
    assert body["event"]["state_key"] == bob
    if body["members_omitted"]:
        assert federated_town.server_name in body["servers_in_room"]
    members = [e["state_key"] for e in body["state"] if e["type"] == "m.room.member"]
    assert members == [alice.user_id]


async def test_versions_that_the_other_server_lacks(federated_town: Town, remote: RemoteServer) -> None:
    alice, bob = await federated_town.person("alice"), remote.user("bob")
    for version, asked in (("1", ["2", "abc", "def"]), ("2", []), ("2", ["1"]), ("12", ["11"])):
        room_id = await alice.create_room(preset="public_chat", room_version=version)
        for what in ("join", "knock"):
            made = await make(federated_town, remote, what, room_id, bob, *asked)
            if what == "knock" and version in "12" and len(version) == 1:
                assert made.status in (400, 403), made
                continue
            assert made.error == (400, "M_INCOMPATIBLE_ROOM_VERSION")
            assert made.body["room_version"] == version
    room_id = await alice.create_room(preset="public_chat", room_version="2")
    made = await make(federated_town, remote, "join", room_id, bob, "abc", "2", "def")
    assert (made.status, made.body["room_version"]) == (200, "2")


async def test_who_asks_for_others(federated_town: Town, remote: RemoteServer) -> None:
    alice, other = await federated_town.people("alice", "other")
    room_id = await alice.create_room(preset="public_chat", room_version="1")
    for what, user_id in (("join", other.user_id), ("leave", alice.user_id), ("knock", other.user_id)):
        made = await make(federated_town, remote, what, room_id, user_id)
        assert made.error == (403, "M_FORBIDDEN"), made


async def test_a_room_that_everybody_has_left(federated_town: Town, remote: RemoteServer) -> None:
    alice, bob = await federated_town.person("alice"), remote.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    assert (await make(federated_town, remote, "join", room_id, bob, "12")).status == 200
    await alice.post("rooms", room_id, "leave")
    assert (await make(federated_town, remote, "join", room_id, bob, "12")).error == (404, "M_NOT_FOUND")


@pytest.mark.parametrize("version_id", ["1", "12"])
async def test_joins_that_are_signed_by_nobody(
    federated_town: Town, remote: RemoteServer, version_id: str
) -> None:
    alice, bob = await federated_town.person("alice"), remote.user("bob")
    room_id = await alice.create_room(preset="public_chat", room_version=version_id)
    made = await make(federated_town, remote, "join", room_id, bob, version_id)
    keys = ("auth_events", "content", "depth", "prev_events", "room_id", "sender", "state_key", "type")
    template = {key: made.body["event"][key] for key in keys}
    proto = template | {"origin_server_ts": 1_700_000_000_000}
    if version_id == "1":
        for key in ("auth_events", "prev_events"):
            proto[key] = [pair[0] for pair in proto[key]]
    pdu, event_id = remote.sign(proto, version_id)
    bare = {key: value for key, value in pdu.items() if key != "signatures"} | {"hashes": {}}
    for bad in (pdu | {"signatures": {}}, with_bad_signature(pdu), bare):
        for v in ("v1", "v2"):
            assert (await send(federated_town, remote, "join", room_id, event_id, bad, v)).error == (
                403,
                "M_FORBIDDEN",
            )
    assert (await send(federated_town, remote, "join", room_id, event_id, pdu, "v1")).status == 200


async def test_a_join_of_another_server_is_not_replayed(federated_town: Town, make_remote: Any) -> None:
    one, two = await make_remote(), await make_remote()
    probe = await in_ours(federated_town, two)
    joined = probe.room.newest
    gone = probe.room.member(probe.guest, probe.guest, "leave")
    await probe.send(gone)
    await Eyes(probe.person).sees_member(probe.room_id, probe.guest, "leave")
    for what, event in (("join", joined), ("leave", gone)):
        answer = await send(federated_town, one, what, probe.room_id, event.event_id, event.pdu, "v1")
        assert answer.error == (403, "M_FORBIDDEN"), answer
    assert (await probe.person.state(probe.room_id, "m.room.member", probe.guest))["membership"] == "leave"


async def test_the_banned_do_not_come_in_by_another_template(
    federated_town: Town, remote: RemoteServer
) -> None:
    alice, charlie, other = await federated_town.person("alice"), remote.user("charlie"), remote.user("other")
    room_id = await alice.create_room(preset="public_chat")
    await alice.post("rooms", room_id, "ban", body={"user_id": charlie})
    assert (await make(federated_town, remote, "join", room_id, charlie, "12")).error == (403, "M_FORBIDDEN")
    made = await make(federated_town, remote, "join", room_id, other, "12")
    pdu, event_id = remote.sign(made.body["event"] | {"sender": charlie, "state_key": charlie}, "12")
    assert (await send(federated_town, remote, "join", room_id, event_id, pdu)).error == (403, "M_FORBIDDEN")
    assert (await alice.state(room_id, "m.room.member", charlie))["membership"] == "ban"


@pytest.mark.parametrize(
    ("what", "v"), [("join", "v1"), ("join", "v2"), ("leave", "v1"), ("leave", "v2"), ("knock", "v1")]
)
async def test_only_what_the_path_says_is_taken(
    federated_town: Town, remote: RemoteServer, what: str, v: str
) -> None:
    probe = await in_ours(federated_town, remote)
    guest, room = probe.guest, probe.room
    events = [room.forge(guest), room.forge(guest, "m.room.member", content={"body": "no state"})]
    for membership in {"join", "leave", "knock", "invite"} - {what}:
        events.append(room.forge(guest, "m.room.member", state_key=guest, content={"membership": membership}))
    events.append(
        room.forge(guest, "m.room.member", state_key=remote.user("d"), content={"membership": what})
    )
    for pdu in events:
        answer = await send(federated_town, remote, what, room.room_id, room.parse(pdu).event_id, pdu, v)
        assert answer.status == 400, (answer, pdu)


@pytest.mark.parametrize("what", ["join", "leave"])
async def test_numbers_that_json_of_events_does_not_have(
    federated_town: Town, remote: RemoteServer, what: str
) -> None:
    probe = await in_ours(federated_town, remote, "6")
    made = await make(federated_town, remote, what, probe.room_id, probe.guest, "6")
    pdu, event_id = remote.sign(made.body["event"] | {"origin_server_ts": 1_700_000_000_000}, "6")
    for bad in (pdu | {"contents": {"bad_val": 1.1}}, pdu | {"content": pdu["content"] | {"bad_val": 1.1}}):
        for path_id in (event_id, "xxx", "$xxx"):
            answer = await send(federated_town, remote, what, probe.room_id, path_id, bad)
            assert answer.error == (400, "M_BAD_JSON"), answer


async def test_a_knock_and_what_it_is_told(federated_town: Town, remote: RemoteServer) -> None:
    alice, bob = await federated_town.person("alice"), remote.user("bob")
    state = [
        {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}},
        {"type": "m.room.topic", "state_key": "", "content": {"topic": "secrets"}},
        {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}},
        {"type": "m.room.avatar", "state_key": "", "content": {"url": "mxc://a/b"}},
    ]
    room_id = await alice.create_room(preset="private_chat", name="The room", initial_state=state)
    made = await make(federated_town, remote, "knock", room_id, bob, "12")
    assert made.status == 200, made
    assert made.body["room_version"] == "12"
    assert made.body["event"]["content"]["membership"] == "knock"
    pdu, event_id = remote.sign(made.body["event"], "12")
    sent = await send(federated_town, remote, "knock", room_id, event_id, pdu, "v1")
    assert sent.status == 200, sent
    told = {event["type"]: event for event in sent.body["knock_room_state"]}
    wanted = ("create", "join_rules", "name", "topic", "avatar", "encryption")
    assert told.keys() >= {f"m.room.{name}" for name in wanted}
    # Whole events: who gets them can check them.
    assert all(event.keys() >= {"origin_server_ts", "signatures", "hashes"} for event in told.values())
    await Eyes(alice).sees_member(room_id, bob, "knock")
    # Again, once it was refused.
    await alice.post("rooms", room_id, "kick", body={"user_id": bob})
    made = await make(federated_town, remote, "knock", room_id, bob, "12")
    pdu, event_id = remote.sign(made.body["event"], "12")
    assert (await send(federated_town, remote, "knock", room_id, event_id, pdu, "v1")).status == 200
    await alice.post("rooms", room_id, "ban", body={"user_id": bob})
    assert (await make(federated_town, remote, "knock", room_id, bob, "12")).error == (403, "M_FORBIDDEN")


@pytest.mark.parametrize("version_id", ["7", "12"])
async def test_what_is_badly_signed_is_not_shown_to_who_knocks(
    federated_town: Town, remote: RemoteServer, version_id: str
) -> None:
    bob, alice = await federated_town.person("bob"), remote.user("alice")
    room = remote.make_room(version_id, join_rule="knock")
    for kind, content in (("name", {"name": "Chess"}), ("topic", {"topic": "openings"})):
        room.send(f"m.room.{kind}", alice, content, state_key="")

    def spoil(answer: Any) -> Any:
        for pdu in answer["knock_room_state"]:
            if pdu["type"] == "m.room.topic":
                pdu["signatures"] = {remote.name: dict.fromkeys(pdu["signatures"][remote.name], "A" * 86)}
        return answer

    remote.lie("PUT", "/send_knock/", spoil)
    knocked = await bob.ask("POST", "knock", room.room_id, query={"via": remote.name}, body={})
    assert knocked.status == 200, knocked
    told = await Eyes(bob).knock_state(room.room_id)
    shown = {event["type"]: event["content"] for event in told if event["type"] != "m.room.member"}
    assert shown["m.room.name"] == {"name": "Chess"}
    assert "m.room.create" in shown
    assert "m.room.topic" not in shown
