"""Members come and go across servers; what is not what it says it is stays outside."""

from typing import Any
from urllib.parse import quote

import pytest

from tests.eyes import Eyes
from tests.people import Person, Town
from tests.remote_room import Pdu, with_bad_signature
from tests.remote_room_answers import stripped_state
from tests.remote_scripts import refuse
from tests.remote_server import RemoteServer

pytestmark = pytest.mark.timeout(120)

VERSIONS = [str(number) for number in range(1, 13)]


@pytest.mark.parametrize("version_id", VERSIONS)
async def test_a_remote_user_joins_and_talks(
    federated_town: Town, remote: RemoteServer, version_id: str
) -> None:
    alice, bob = await federated_town.person("alice"), remote.user("bob")
    room_id = await alice.create_room(preset="public_chat", room_version=version_id)
    room = await remote.join(federated_town.server_name, room_id, bob)
    assert room.membership(alice.user_id) == room.membership(bob) == "join"
    hello = room.say(bob, "hello")
    answer = await remote.send(federated_town.server_name, hello)
    assert answer.body == {"pdus": {hello.event_id: {}}}
    eyes = Eyes(alice)
    await eyes.event(room_id, hello.event_id)
    assert eyes.member(room_id, bob) == "join"


@pytest.mark.parametrize("version_id", VERSIONS)
async def test_one_of_us_joins_and_reads_the_past(
    federated_town: Town, remote: RemoteServer, version_id: str
) -> None:
    bob, room = await federated_town.person("bob"), remote.make_room(version_id)
    room.say(remote.user("alice"), "before the join")
    answer = await bob.ask("POST", "join", room.room_id, query={"via": remote.name})
    assert answer.status == 200, answer
    assert room.membership(bob.user_id) == "join"
    page = await bob.get("rooms", room.room_id, "messages", dir="b", limit="50")
    assert [event["type"] for event in page.body["chunk"]] == [
        event.pdu["type"] for event in reversed(room.events)
    ]


async def invite(remote: RemoteServer, room: Any, town: Town, user_id: str) -> tuple[Any, Any]:
    """An invite of the remote's, and what our server answered."""
    event = room.member(remote.user("alice"), user_id, "invite")
    body = {
        "room_version": room.version_id,
        "event": event.pdu,
        "invite_room_state": stripped_state(room),
    }
    path = ("v2", "invite", room.room_id, event.event_id)
    return event, await remote.ask(town.server_name, "PUT", *path, body=body)


async def test_an_invite_is_withdrawn(federated_town: Town, remote: RemoteServer) -> None:
    bob, room = await federated_town.person("bob"), remote.make_room(join_rule="invite")
    _, answer = await invite(remote, room, federated_town, bob.user_id)
    assert answer.status == 200, answer
    assert federated_town.server_name in answer.body["event"]["signatures"]
    eyes = Eyes(bob)
    await eyes.membership(room.room_id, "invite")
    gone = room.member(remote.user("alice"), bob.user_id, "leave")
    await remote.send(federated_town.server_name, gone)
    await eyes.membership(room.room_id, "leave")


async def test_nobody_elsewhere_is_invited_to_a_room_that_does_not_federate(
    federated_town: Town, remote: RemoteServer
) -> None:
    alice = await federated_town.person("alice")
    bob, carol = remote.user("bob"), await federated_town.person("carol")
    room_id = await alice.create_room(creation_content={"m.federate": False}, invite=[bob])
    answer = await alice.post("rooms", room_id, "invite", body={"user_id": bob})
    assert answer.error == (403, "M_FORBIDDEN")
    assert await alice.state(room_id, "m.room.member", bob) is None
    assert not remote.world.invites
    await alice.invite(room_id, carol.user_id)


async def prepared_join(remote: RemoteServer, town: Town, alice: Person) -> tuple[str, Pdu]:
    """A room of ours, and a join that our server has prepared and the remote has not signed yet."""
    room_id = await alice.create_room(preset="public_chat")
    bob = remote.user("bob")
    made = await remote.ask(
        town.server_name, "GET", "v1", "make_join", room_id, bob, query={"ver": ["11", "12"]}
    )
    assert made.status == 200, made
    return room_id, made.body["event"]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"type": "m.room.message"}, (400, "M_INVALID_PARAM")),
        ({"content": {"membership": "leave"}}, (400, "M_INVALID_PARAM")),
        ({"content": {"membership": "knock"}}, (400, "M_INVALID_PARAM")),
        ({"content": {}}, (400, "M_INVALID_PARAM")),
        ({"state_key": "@else:where.test"}, (400, "M_INVALID_PARAM")),
        ({"state_key": None}, (400, "M_INVALID_PARAM")),
        ({"sender": "@somebody:else.test", "state_key": "@somebody:else.test"}, (403, "M_FORBIDDEN")),
        ({"prev_events": ["$" + "x" * 43]}, (400, "M_INVALID_PARAM")),
        ({"auth_events": ["$" + "x" * 43]}, (400, "M_INVALID_PARAM")),
        ({"auth_events": []}, (403, "M_FORBIDDEN")),
    ],
)
async def test_send_join_takes_joins_only(
    federated_town: Town, remote: RemoteServer, change: dict[str, Any], error: tuple[int, str]
) -> None:
    alice = await federated_town.person("alice")
    room_id, proto = await prepared_join(remote, federated_town, alice)
    proto = {key: value for key, value in (proto | change).items() if value is not None}
    pdu, event_id = remote.sign(proto, "12")
    answer = await remote.ask(
        federated_town.server_name, "PUT", "v2", "send_join", room_id, event_id, body=pdu
    )
    assert answer.error == error, answer
    members = await alice.get("rooms", room_id, "members")
    assert [event["state_key"] for event in members.body["chunk"]] == [alice.user_id]


async def test_send_join_checks_signature_path_and_room(federated_town: Town, remote: RemoteServer) -> None:
    alice = await federated_town.person("alice")
    room_id, proto = await prepared_join(remote, federated_town, alice)
    other_id = await alice.create_room(preset="public_chat")
    pdu, event_id = remote.sign(proto, "12")
    name = federated_town.server_name
    forged = with_bad_signature(pdu)
    answer = await remote.ask(name, "PUT", "v2", "send_join", room_id, event_id, body=forged)
    assert answer.error == (403, "M_FORBIDDEN"), answer
    for path_room, path_event, body in (
        (other_id, event_id, pdu),
        (room_id, "$" + "x" * 43, pdu),
        (room_id, event_id, pdu | {"room_id": other_id}),
        (room_id, event_id, {}),
    ):
        answer = await remote.ask(name, "PUT", "v2", "send_join", path_room, path_event, body=body)
        assert answer.error == (400, "M_INVALID_PARAM"), answer
    unknown = await remote.ask(name, "PUT", "v2", "send_join", "!unknown:x", event_id, body=pdu)
    assert unknown.error == (404, "M_NOT_FOUND")
    assert (await remote.ask(name, "PUT", "v2", "send_join", room_id, event_id, body=pdu)).status == 200


async def test_make_join_says_why_not(federated_town: Town, remote: RemoteServer) -> None:
    alice, bob, name = await federated_town.person("alice"), remote.user("bob"), federated_town.server_name
    private = await alice.create_room(preset="private_chat")
    public = await alice.create_room(preset="public_chat", room_version="12")

    async def ask(room_id: str, user_id: str, **query: Any) -> Any:
        return await remote.ask(name, "GET", "v1", "make_join", room_id, user_id, query=query)

    assert (await ask(private, bob, ver=["12"])).error == (403, "M_FORBIDDEN")
    assert (await ask(public, "@bob:else.where", ver=["12"])).error == (403, "M_FORBIDDEN")
    assert (await ask("!none:x", bob, ver=["12"])).error == (404, "M_NOT_FOUND")
    wrong = await ask(public, bob, ver=["1", "11"])
    assert wrong.error == (400, "M_INCOMPATIBLE_ROOM_VERSION")
    assert wrong.body["room_version"] == "12"
    await alice.set_state(public, "m.room.server_acl", {"allow": ["*"], "deny": ["127.0.0.1"]})
    assert (await ask(public, bob, ver=["12"])).status == 200  # it would shut ourselves out: not taken
    await alice.set_state(public, "m.room.member", {"membership": "ban"}, bob)
    assert (await ask(public, bob, ver=["12"])).error == (403, "M_FORBIDDEN")


async def test_a_room_seen_from_outside_answers_like_a_room(
    federated_town: Town, remote: RemoteServer
) -> None:
    """All that we have of it is an invite."""
    bob, room = await federated_town.person("bob"), remote.make_room(join_rule="invite")
    event, answer = await invite(remote, room, federated_town, bob.user_id)
    assert answer.status == 200, answer
    await Eyes(bob).membership(room.room_id, "invite")
    remote.script("*", "", refuse(403, "M_FORBIDDEN"))
    requests: list[tuple[str, tuple[str, ...], Any]] = [
        ("GET", ("messages",), None),
        ("GET", ("state",), None),
        ("GET", ("state", "m.room.name", ""), None),
        ("GET", ("members",), None),
        ("GET", ("joined_members",), None),
        ("GET", ("event", event.event_id), None),
        ("GET", ("context", event.event_id), None),
        ("GET", ("aliases",), None),
        ("GET", ("initialSync",), None),
        ("GET", ("threads",), None),
        ("PUT", ("send", "m.room.message", "txn"), {"body": "x"}),
        ("PUT", ("state", "m.room.topic", ""), {"topic": "x"}),
        ("PUT", ("redact", event.event_id, "txn"), {}),
        ("PUT", ("typing", bob.user_id), {"typing": True}),
        ("POST", ("receipt", "m.read", event.event_id), {}),
        ("POST", ("read_markers",), {"m.read": event.event_id}),
        ("POST", ("invite",), {"user_id": bob.user_id}),
        ("POST", ("kick",), {"user_id": remote.user("alice")}),
        ("POST", ("ban",), {"user_id": remote.user("alice")}),
        ("POST", ("unban",), {"user_id": remote.user("alice")}),
        ("POST", ("forget",), {}),
        ("POST", ("upgrade",), {"new_version": "12"}),
        ("POST", ("join",), {}),
    ]
    for method, parts, body in requests:
        refused = await bob.ask(method, "rooms", room.room_id, *parts, body=body)
        assert 400 <= refused.status < 500, (method, parts, refused)
    for url in (
        f"/_matrix/client/v1/room_summary/{quote(room.room_id)}",
        f"/_matrix/client/v1/rooms/{quote(room.room_id)}/hierarchy",
        f"/_matrix/client/v1/rooms/{quote(room.room_id)}/timestamp_to_event?ts=1&dir=f",
        f"/_matrix/client/v1/rooms/{quote(room.room_id)}/relations/{quote(event.event_id)}",
    ):
        refused = await bob.ask_raw("GET", url)
        assert refused.status < 500, (url, refused)
    assert (await bob.get("initialSync")).status == 200
    # Who comes later joins through another server, not into an empty room of ours.
    remote.behave()
    joined = await bob.ask("POST", "join", room.room_id, query={"via": remote.name})
    assert joined.status == 200, joined
