"""Invites by third-party identifiers: an identity server has said whose they are, and the room's keys say it is so."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from signedjson.key import encode_verify_key_base64, generate_signing_key, get_verify_key
from signedjson.sign import sign_json

from tests.eyes import Eyes
from tests.federation_town import FederationTown
from tests.people import Person, Town
from tests.remote_room import RemoteRoom
from tests.remote_room_answers import stripped_state
from tests.remote_scripts import Received, Reply, refuse, reply
from tests.remote_server import Answer, RemoteServer

ONBIND = "/_matrix/federation/v1/3pid/onbind"
TOKEN = "some-token"


class Identity:
    """An identity server: it signs, and `at` answers for it whether its key is good."""

    def __init__(self, at: RemoteServer) -> None:
        self.key = generate_signing_key("0")
        self.public_key = encode_verify_key_base64(get_verify_key(self.key))
        self.url = f"https://{at.name}/_matrix/identity/v2/pubkey/isvalid"
        at.script("GET", "/pubkey/isvalid", reply({"valid": True}))

    def invite(self, **changes: Any) -> dict[str, Any]:
        """The content of an m.room.third_party_invite."""
        entry = {"public_key": self.public_key, "key_validity_url": self.url}
        return {"display_name": "b...@e...", **entry, "public_keys": [entry], **changes}

    def signed(self, sender: str, mxid: str, token: str = TOKEN) -> dict[str, Any]:
        """What it gives to whom the identifier belongs to."""
        return dict(sign_json({"mxid": mxid, "sender": sender, "token": token}, "id.test", self.key))


@pytest.fixture
def identity(remote: RemoteServer) -> Identity:
    return Identity(remote)


async def invited_room(alice: Person, identity: Identity, **request: Any) -> str:
    """A room of Alice's to which an identifier is invited."""
    content = identity.invite()
    room_id = await alice.create_room(**({"preset": "private_chat"} | request))
    answer = await alice.set_state(room_id, "m.room.third_party_invite", content, TOKEN)
    assert answer.status == 200, answer
    return room_id


def bound(user_id: str, *invites: dict[str, Any]) -> dict[str, Any]:
    given = {"medium": "email", "address": "b@e.test", "mxid": user_id}
    return given | {"invites": [given | invite for invite in invites]}


def exchange(room_id: str, signed: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The body by which a server asks for an invite."""
    return {
        "type": "m.room.member",
        "room_id": room_id,
        "sender": signed["sender"],
        "state_key": signed["mxid"],
        "content": {
            "membership": "invite",
            "third_party_invite": {"display_name": "whatever", "signed": signed},
        },
        **changes,
    }


async def ask_exchange(remote: RemoteServer, town: Town, room_id: str, body: Any) -> Answer:
    path = ("v1", "exchange_third_party_invite", room_id)
    return await remote.ask(town.server_name, "PUT", *path, body=body)


async def tell_bound(remote: RemoteServer, town: Town, body: Any) -> Answer:
    """As an identity server does: without any signature."""
    return await remote.ask_path(town.server_name, "PUT", ONBIND, body=body, signed=False)


@pytest.mark.parametrize("version_id", ["2", "9", "12"])
async def test_who_binds_an_identifier_is_invited(
    federated_town: Town, remote: RemoteServer, identity: Identity, version_id: str
) -> None:
    alice, bob = await federated_town.people("alice", "bob")
    room_id = await invited_room(alice, identity, room_version=version_id)
    signed = identity.signed(alice.user_id, bob.user_id)
    body = bound(bob.user_id, {"room_id": room_id, "sender": alice.user_id, "signed": signed})
    answer = await tell_bound(remote, federated_town, body)
    assert (answer.status, answer.body) == (200, {})
    await Eyes(bob).membership(room_id, "invite")
    member = await alice.state(room_id, "m.room.member", bob.user_id)
    assert member["third_party_invite"] == {"display_name": "b...@e...", "signed": signed}
    assert remote.received("GET", "/pubkey/isvalid")[0].first("public_key") == identity.public_key
    await bob.join(room_id)
    # Told again, it does not take him out.
    assert (await tell_bound(remote, federated_town, body)).status == 200
    assert (await alice.state(room_id, "m.room.member", bob.user_id))["membership"] == "join"


def invite_there(remote: RemoteServer, room: RemoteRoom) -> Any:
    """How the remote answers to an exchange: it makes the invite and has it signed."""

    async def act(request: Received) -> Reply:
        body = request.body
        event = room.send(body["type"], body["sender"], body["content"], state_key=body["state_key"])
        assert event.rejected is None, event.rejected
        invite = {
            "room_version": room.version_id,
            "event": event.pdu,
            "invite_room_state": stripped_state(room),
        }
        path = ("v2", "invite", room.room_id, event.event_id)
        answer = await remote.ask(str(request.origin), "PUT", *path, body=invite)
        return Reply(answer.status, {} if answer.status == 200 else answer.body)

    return act


def invite_identifier(remote: RemoteServer, room: RemoteRoom, identity: Identity) -> Any:
    """An invite of an identifier by the remote's Alice."""
    return room.send("m.room.third_party_invite", remote.user("alice"), identity.invite(), state_key=TOKEN)


async def test_the_server_of_who_has_invited_is_asked(
    federated_town: Town, remote: RemoteServer, identity: Identity
) -> None:
    bob, room = await federated_town.person("bob"), remote.make_room(join_rule="invite")
    invite_identifier(remote, room, identity)
    remote.script("PUT", "/exchange_third_party_invite/", invite_there(remote, room))
    signed = identity.signed(remote.user("alice"), bob.user_id)
    invite = {"room_id": room.room_id, "sender": remote.user("alice"), "signed": signed}
    unknown = {"room_id": "!none:nowhere.test", "sender": "@x:nowhere.test", "signed": signed}
    answer = await tell_bound(remote, federated_town, bound(bob.user_id, unknown, invite))
    assert answer.status == 200, answer
    [asked] = remote.received("PUT", "/exchange_third_party_invite/")
    assert asked.body["content"]["third_party_invite"]["signed"] == signed
    await Eyes(bob).membership(room.room_id, "invite")
    assert (await bob.ask("POST", "join", room.room_id, body={})).status == 200
    assert room.membership(bob.user_id) == "join"


async def test_a_claim_can_come_with_a_join(
    federated_town: Town, remote: RemoteServer, identity: Identity
) -> None:
    bob, room = await federated_town.person("bob"), remote.make_room(join_rule="invite")
    invite_identifier(remote, room, identity)
    remote.script("PUT", "/exchange_third_party_invite/", invite_there(remote, room))
    signed = identity.signed(remote.user("alice"), bob.user_id)
    answer = await bob.post("join", room.room_id, body={"third_party_signed": signed})
    assert answer.status == 200, answer
    alice = await federated_town.person("alice")
    room_id = await invited_room(alice, identity)
    signed = identity.signed(alice.user_id, bob.user_id)
    answer = await bob.post("rooms", room_id, "join", body={"third_party_signed": signed})
    assert answer.status == 200, answer
    for wrong in ({"token": TOKEN}, "x", signed | {"mxid": alice.user_id}, signed | {"token": 5}):
        refused = await bob.post("rooms", room_id, "join", body={"third_party_signed": wrong})
        assert refused.status == 400, (wrong, refused)


async def test_a_server_that_refuses_is_believed(
    federated_town: Town, remote: RemoteServer, identity: Identity
) -> None:
    bob, room = await federated_town.person("bob"), remote.make_room(join_rule="invite")
    signed = identity.signed(remote.user("alice"), bob.user_id)
    remote.script("PUT", "/exchange_third_party_invite/", refuse(403, "M_FORBIDDEN"))
    answer = await bob.post("join", room.room_id, body={"third_party_signed": signed})
    assert answer.error == (403, "M_FORBIDDEN")
    invite = {"room_id": room.room_id, "sender": remote.user("alice"), "signed": signed}
    assert (await tell_bound(remote, federated_town, bound(bob.user_id, invite))).status == 200
    assert (await bob.sync())["rooms"].get("invite", {}) == {}


async def test_others_are_told_of_an_invite_that_we_make_in_their_name(
    federated_town: Town, remote: RemoteServer, identity: Identity
) -> None:
    """The remote's Alice has invited an identifier to a room that we are in: we need not ask her server."""
    carol, bob = await federated_town.people("carol", "bob")
    room = remote.make_room()
    assert (await carol.ask("POST", "join", room.room_id, query={"via": remote.name})).status == 200
    event = invite_identifier(remote, room, identity)
    await remote.send(federated_town.server_name, event)
    signed = identity.signed(remote.user("alice"), bob.user_id)
    invite = {"room_id": room.room_id, "sender": remote.user("alice"), "signed": signed}
    assert (await tell_bound(remote, federated_town, bound(bob.user_id, invite))).status == 200
    await Eyes(bob).membership(room.room_id, "invite")
    pdu = await remote.wait_for_pdu(lambda pdu: pdu.get("state_key") == bob.user_id)
    assert (pdu["sender"], pdu["content"]["membership"]) == (remote.user("alice"), "invite")
    assert pdu["signatures"].keys() == {federated_town.server_name}
    assert room.membership(bob.user_id) == "invite"


@pytest.mark.parametrize("version_id", ["2", "12"])
async def test_a_server_of_the_invited_asks_for_the_invite(
    federated_town: Town, remote: RemoteServer, identity: Identity, version_id: str
) -> None:
    alice, bob = await federated_town.person("alice"), remote.user("bob")
    room_id = await invited_room(alice, identity, room_version=version_id)
    signed = identity.signed(alice.user_id, bob)
    answer = await ask_exchange(remote, federated_town, room_id, exchange(room_id, signed))
    assert (answer.status, answer.body) == (200, {})
    [pdu] = remote.world.invites
    assert (pdu["sender"], pdu["state_key"]) == (alice.user_id, bob)
    assert pdu["content"]["third_party_invite"] == {"display_name": "b...@e...", "signed": signed}
    assert (await alice.state(room_id, "m.room.member", bob))["membership"] == "invite"
    room = await remote.join(federated_town.server_name, room_id, bob)
    assert room.membership(bob) == "join"
    again = await ask_exchange(remote, federated_town, room_id, exchange(room_id, signed))
    assert again.status == 200
    assert (await alice.state(room_id, "m.room.member", bob))["membership"] == "join"


async def test_claims_that_are_none(federated_town: Town, remote: RemoteServer, identity: Identity) -> None:
    alice, bob = await federated_town.person("alice"), remote.user("bob")
    room_id = await invited_room(alice, identity)
    other_id = await alice.create_room()
    signed = identity.signed(alice.user_id, bob)
    stranger = Identity(remote).signed(alice.user_id, bob)
    mallory = await federated_town.person("mallory")
    forbidden, wrong = (403, "M_FORBIDDEN"), (400, "M_INVALID_PARAM")
    cases = [
        (exchange(room_id, stranger), forbidden),
        (exchange(room_id, signed | {"token": "another"}), forbidden),
        (exchange(room_id, signed | {"token": "a\x00b"}), wrong),
        (exchange(room_id, signed | {"token": 5}), wrong),
        (exchange(room_id, {**signed, "signatures": {}}), forbidden),
        (exchange(room_id, {**signed, "signatures": "x"}), forbidden),
        (exchange(room_id, identity.signed(mallory.user_id, bob)), forbidden),
        (exchange(room_id, identity.signed(remote.user("eve"), bob)), forbidden),
        (exchange(room_id, signed, state_key=remote.user("eve")), wrong),
        (exchange(room_id, signed, type="m.room.message"), wrong),
        (exchange(room_id, signed, content={"membership": "join"}), (400, "M_BAD_JSON")),
        (exchange(other_id, signed), wrong),
        ({}, (400, "M_BAD_JSON")),
    ]
    for body, error in cases:
        answer = await ask_exchange(remote, federated_town, room_id, body)
        assert answer.error == error, (body, answer)
    answer = await ask_exchange(remote, federated_town, other_id, exchange(other_id, signed))
    assert answer.error == forbidden
    answer = await ask_exchange(remote, federated_town, "!none:x", exchange("!none:x", signed))
    assert answer.error == (404, "M_NOT_FOUND")
    assert not remote.world.invites
    await alice.set_state(room_id, "m.room.member", {"membership": "ban"}, bob)
    assert (await ask_exchange(remote, federated_town, room_id, exchange(room_id, signed))).error == forbidden


@pytest.mark.parametrize(
    "action",
    [reply({"valid": False}), reply({"valid": "yes"}), reply([]), refuse(404, "M_NOT_FOUND"), reply({})],
    ids=["revoked", "no answer", "no object", "404", "empty"],
)
async def test_keys_that_are_not_good_any_more(
    federated_town: Town, remote: RemoteServer, identity: Identity, action: Any
) -> None:
    alice, bob = await federated_town.person("alice"), remote.user("bob")
    room_id = await invited_room(alice, identity)
    signed = identity.signed(alice.user_id, bob)
    remote.script("GET", "/pubkey/isvalid", action)
    answer = await ask_exchange(remote, federated_town, room_id, exchange(room_id, signed))
    assert answer.error == (403, "M_FORBIDDEN")
    assert not remote.world.invites


@pytest.mark.parametrize(
    "changes",
    [
        {"key_validity_url": "http://127.0.0.1/valid"},
        {"key_validity_url": "no URL"},
        {"key_validity_url": "https://" + "x" * 5000},
        {"public_key": 5, "public_keys": "x"},
        {"public_key": None, "public_keys": [5, {}, {"public_key": []}]},
    ],
    ids=["plain", "no URL", "long", "no keys", "odd keys"],
)
async def test_odd_third_party_invites(
    federated_town: Town, remote: RemoteServer, identity: Identity, changes: dict[str, Any]
) -> None:
    alice, bob = await federated_town.person("alice"), remote.user("bob")
    room_id = await alice.create_room()
    set_one = await alice.set_state(room_id, "m.room.third_party_invite", identity.invite(**changes), TOKEN)
    assert set_one.status == 200, set_one
    signed = identity.signed(alice.user_id, bob)
    answer = await ask_exchange(remote, federated_town, room_id, exchange(room_id, signed))
    assert answer.error == (403, "M_FORBIDDEN")


async def test_a_key_without_a_url_is_good(
    federated_town: Town, remote: RemoteServer, identity: Identity
) -> None:
    alice, bob = await federated_town.person("alice"), remote.user("bob")
    room_id = await alice.create_room()
    content = {"display_name": 5, "public_keys": [{"public_key": identity.public_key}]}
    await alice.set_state(room_id, "m.room.third_party_invite", content, TOKEN)
    signed = identity.signed(alice.user_id, bob)
    answer = await ask_exchange(remote, federated_town, room_id, exchange(room_id, signed))
    assert answer.status == 200, answer
    assert not remote.received("GET", "/pubkey/isvalid")


async def test_what_strangers_say_is_bounded(
    federated_town: Town, remote: RemoteServer, identity: Identity
) -> None:
    bob = await federated_town.person("bob")
    # Nobody listens there: to ask takes no time.
    signed = identity.signed("@x:127.0.0.1:1", bob.user_id)
    invite = {"room_id": "!none:x", "sender": "@x:127.0.0.1:1", "signed": signed}

    async def tell(body: Any) -> tuple[int, str | None]:
        return (await tell_bound(remote, federated_town, body)).error

    assert await tell({}) == (400, "M_BAD_JSON")
    assert await tell(bound(remote.user("bob"), invite)) == (400, "M_INVALID_PARAM")
    assert await tell(bound("no user", invite)) == (400, "M_INVALID_PARAM")
    assert await tell(bound(bob.user_id, *[invite] * 101)) == (400, "M_INVALID_PARAM")
    assert await tell(bound(bob.user_id, invite | {"address": "x" * 200_000})) == (413, "M_TOO_LARGE")
    odd = [invite | {"room_id": "\x00"}, invite | {"sender": "x"}, invite | {"signed": {}}]
    assert await tell(bound(bob.user_id, *odd)) == (200, None)


async def test_what_is_new_from_one_address_is_asked_for_a_few_hundred_times(
    make_federation: Callable[..., Awaitable[FederationTown]], remote: RemoteServer, identity: Identity
) -> None:
    [town] = (await make_federation(1, rate_limits={"enabled": True})).towns
    bob = await town.person("bob")
    signed = identity.signed("@x:127.0.0.1:1", bob.user_id)
    invite = {"room_id": "!none:x", "sender": "@x:127.0.0.1:1", "signed": signed}
    body = bound(bob.user_id, *[invite] * 100)
    found = [(await tell_bound(remote, town, body)).error for _ in range(4)]
    assert found[0] == (200, None)
    assert found[-1] == (429, "M_LIMIT_EXCEEDED")
