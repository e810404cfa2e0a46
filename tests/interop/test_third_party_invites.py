"""Invites by third-party identifiers across servers; the identity server is a key and what is signed with it."""

from typing import Any

import pytest
from signedjson.key import encode_verify_key_base64, generate_signing_key, get_verify_key
from signedjson.sign import sign_json

from tests.certificates import Authority
from tests.eyes import Eyes
from tests.interop.pairs import Pair, SharedRoom, join_by
from tests.people import Person

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]

KEY = generate_signing_key("0")
TOKEN = "token"


async def invite_identifier(person: Person, room_id: str) -> None:
    """An identifier is invited, as the person's server would have said after it had asked the identity server."""
    public_key = encode_verify_key_base64(get_verify_key(KEY))
    # Without a URL to ask, the key is good.
    content = {"display_name": "b...@e...", "public_keys": [{"public_key": public_key}]}
    answer = await person.set_state(room_id, "m.room.third_party_invite", content, TOKEN)
    assert answer.status == 200, answer


async def bind(authority: Authority, person: Person, server_name: str, room_id: str, sender: str) -> None:
    """The identity server tells the person's server that the identifier is theirs."""
    signed = sign_json({"mxid": person.user_id, "sender": sender, "token": TOKEN}, "id.test", KEY)
    given = {"medium": "email", "address": "b@e.test", "mxid": person.user_id}
    invite = given | {"room_id": room_id, "sender": sender, "signed": signed}
    url = f"https://{server_name}/_matrix/federation/v1/3pid/onbind"
    body: dict[str, Any] = given | {"invites": [invite]}
    # The method that identity servers use; Synapse does not know the one of the specification.
    async with person.session.post(url, json=body, ssl=authority.client_context()) as answer:
        assert answer.status == 200, await answer.text()


@pytest.mark.parametrize("version_id", ["6", "10", "12"])
async def test_somebody_there_is_invited_by_an_identifier(
    pair: Pair, authority: Authority, version_id: str
) -> None:
    alice, bob = await pair.people()
    room_id = await alice.create_room(preset="private_chat", room_version=version_id)
    await invite_identifier(alice, room_id)
    await bind(authority, bob, pair.there.server_name, room_id, alice.user_id)
    bob_sees = Eyes(bob)
    await bob_sees.membership(room_id, "invite")
    await join_by(bob, room_id)
    await bob_sees.membership(room_id, "join")
    await Eyes(alice).sees_member(room_id, bob.user_id, "join")


async def test_who_is_in_the_room_invites_in_the_name_of_others(pair: Pair, authority: Authority) -> None:
    """The server there shares the room: it makes the invite itself, and the server here takes it."""
    room: SharedRoom = await pair.shared_room()
    rules = await room.set_state(room.alice, "m.room.join_rules", {"join_rule": "invite"})
    assert rules
    await invite_identifier(room.alice, room.room_id)
    await room.say(room.alice, "everybody has seen the invite now")
    carol = await pair.there.person("carol")
    await bind(authority, carol, pair.there.server_name, room.room_id, room.alice.user_id)
    carol_sees = Eyes(carol)
    await carol_sees.membership(room.room_id, "invite")
    await room.alice_sees.sees_member(room.room_id, carol.user_id, "invite")
    await join_by(carol, room.room_id)
    await room.alice_sees.sees_member(room.room_id, carol.user_id, "join")
    await room.check_same_state()
