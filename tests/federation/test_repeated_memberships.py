"""The answer to a membership request was lost on the way: who asks again is answered as before."""

import asyncio
from typing import Any

import aiohttp
import pytest

from tests.federation_town import FederatedProcess
from tests.people import Person, Town
from tests.remote_room import Pdu
from tests.remote_server import Answer, RemoteServer

VERSIONS = [str(number) for number in range(1, 13)]


class Membership:
    """A member event of the remote's Bob in a room of ours, prepared by us and signed by the remote."""

    def __init__(self, remote: RemoteServer, town: str, what: str, room_id: str, version_id: str) -> None:
        self.remote, self.town, self.what = remote, town, what
        self.room_id, self.version_id = room_id, version_id
        self.pdu: Pdu = {}
        self.event_id = ""

    async def make(self) -> "Membership":
        query = None if self.what == "leave" else {"ver": VERSIONS}
        bob = self.remote.user("bob")
        path = ("v1", f"make_{self.what}", self.room_id, bob)
        made = await self.remote.ask(self.town, "GET", *path, query=query)
        assert made.status == 200, made
        self.pdu, self.event_id = self.remote.sign(made.body["event"], self.version_id)
        return self

    async def send(self) -> Answer:
        version = "v1" if self.what == "knock" else "v2"
        path = (version, f"send_{self.what}", self.room_id, self.event_id)
        return await self.remote.ask(self.town, "PUT", *path, body=self.pdu)


async def membership(
    remote: RemoteServer, town: Town, what: str, room_id: str, version_id: str = "12"
) -> Membership:
    return await Membership(remote, town.server_name, what, room_id, version_id).make()


def told(answer: Answer) -> Any:
    """What of an answer to send_join is the same each time: lists in any order."""
    assert answer.status == 200, answer
    body = dict(answer.body)
    for name in ("state", "auth_chain"):
        body[name] = sorted(str(pdu) for pdu in body[name])
    return body


@pytest.mark.parametrize("version_id", ["2", "10", "12"])
async def test_a_join_that_was_sent_twice(
    federated_town: Town, remote: RemoteServer, version_id: str
) -> None:
    alice = await federated_town.person("alice")
    room_id = await alice.create_room(preset="public_chat", room_version=version_id)
    join = await membership(remote, federated_town, "join", room_id, version_id)
    first = told(await join.send())
    # What comes after the join is not in the state before it.
    await alice.set_state(room_id, "m.room.topic", {"topic": "later"})
    assert told(await join.send()) == first
    members = await alice.get("rooms", room_id, "members")
    assert len(members.body["chunk"]) == 2


async def test_a_join_that_is_sent_twice_at_once(federated_town: Town, remote: RemoteServer) -> None:
    alice = await federated_town.person("alice")
    room_id = await alice.create_room(preset="public_chat")
    join = await membership(remote, federated_town, "join", room_id)
    answers = await asyncio.gather(*(join.send() for _ in range(5)))
    assert all(told(answer) == told(answers[0]) for answer in answers)


async def test_a_join_that_somebody_vouched_for(federated_town: Town, remote: RemoteServer) -> None:
    """Also when nobody here could vouch for it any more."""
    alice = await federated_town.person("alice")
    lobby = await alice.create_room(preset="public_chat")
    await remote.join(federated_town.server_name, lobby, remote.user("bob"))
    rule = {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": lobby}]}
    room_id = await alice.create_room(initial_state=[{"type": "m.room.join_rules", "content": rule}])
    join = await membership(remote, federated_town, "join", room_id)
    first = await join.send()
    assert first.status == 200, first
    await alice.set_state(room_id, "m.room.join_rules", {"join_rule": "invite"})
    again = await join.send()
    assert told(again) == told(first)
    assert again.body["event"]["signatures"].keys() == {remote.name, federated_town.server_name}


async def test_leaves_and_knocks_that_were_sent_twice(federated_town: Town, remote: RemoteServer) -> None:
    alice = await federated_town.person("alice")
    public = await alice.create_room(preset="public_chat")
    await remote.join(federated_town.server_name, public, remote.user("bob"))
    knockable = await alice.create_room(
        initial_state=[{"type": "m.room.join_rules", "content": {"join_rule": "knock"}}]
    )
    for what, room_id in (("leave", public), ("knock", knockable)):
        request = await membership(remote, federated_town, what, room_id)
        first, again = await request.send(), await request.send()
        assert first.status == again.status == 200, (first, again)
        assert first.body == again.body
    left = await alice.state(public, "m.room.member", remote.user("bob"))
    assert left["membership"] == "leave"


async def test_a_join_of_somebody_who_was_thrown_out_since(
    federated_town: Town, remote: RemoteServer
) -> None:
    alice = await federated_town.person("alice")
    room_id = await alice.create_room(preset="public_chat")
    join = await membership(remote, federated_town, "join", room_id)
    assert (await join.send()).status == 200
    kick = await alice.post("rooms", room_id, "kick", body={"user_id": remote.user("bob")})
    assert kick.status == 200
    assert (await join.send()).error == (403, "M_FORBIDDEN")


async def test_an_event_that_the_room_has_refused(federated_town: Town, remote: RemoteServer) -> None:
    """It came in a transaction, and is stored as rejected: it is no admission."""
    alice = await federated_town.person("alice")
    room_id = await alice.create_room(preset="public_chat")
    room = await remote.join(federated_town.server_name, room_id, remote.user("carol"))
    join = await membership(remote, federated_town, "join", room_id)
    # Not by a rule of the room's own: without its create event nothing is allowed.
    pdu, event_id = remote.sign(join.pdu | {"auth_events": []}, "12")
    answer = await remote.send(federated_town.server_name, pdu)
    assert answer.status == 200, answer
    path = ("v2", "send_join", room.room_id, event_id)
    refused = await remote.ask(federated_town.server_name, "PUT", *path, body=pdu)
    assert refused.error == (403, "M_FORBIDDEN")
    # The same user comes in by an event that is right.
    assert (await join.send()).status == 200


async def test_an_event_that_is_known_from_outside_is_judged(
    federated_town: Town, remote: RemoteServer
) -> None:
    """Somebody else's event refers to the join: we hold it as an outlier, without a place."""
    alice = await federated_town.person("alice")
    room_id = await alice.create_room(preset="public_chat")
    join = await membership(remote, federated_town, "join", room_id)
    room = await remote.join(federated_town.server_name, room_id, remote.user("carol"))
    carol = room.newest
    [joined] = room.receive(join.pdu)
    assert joined.event_id == join.event_id
    # A message that rests on the join, without being built upon it.
    levels = room.current["m.room.power_levels", ""]
    text = room.forge(
        joined.pdu["sender"],
        auth_events=room.references([levels, joined]),
        prev_events=room.references([carol]),
    )
    await remote.send(federated_town.server_name, text)
    assert remote.received("GET", "/event_auth/")
    assert await alice.state(room_id, "m.room.member", remote.user("bob")) is None
    answer = await join.send()
    assert answer.status == 200, answer
    assert answer.body["state"]
    member = await alice.state(room_id, "m.room.member", remote.user("bob"))
    assert member["membership"] == "join"


async def _enter(person: Person, what: str) -> str:
    rule = {"join": "public", "leave": "public", "knock": "knock"}[what]
    return await person.create_room(
        initial_state=[{"type": "m.room.join_rules", "content": {"join_rule": rule}}]
    )


@pytest.mark.faults
async def test_requests_are_known_after_a_restart(crashing: FederatedProcess, remote: RemoteServer) -> None:
    async with aiohttp.ClientSession() as session:
        town = Town(session, crashing.base_url, crashing.server_name)
        alice = await town.person("alice")
        requests = []
        for what in ("join", "leave", "knock"):
            room_id = await _enter(alice, what)
            if what == "leave":
                await remote.join(town.server_name, room_id, remote.user("bob"))
            request = await membership(remote, town, what, room_id)
            requests.append((request, await request.send()))
        crashing.kill()
        await asyncio.to_thread(crashing.start)
        for request, first in requests:
            again = await request.send()
            assert first.status == again.status == 200, (request.what, first, again)
            if request.what == "join":
                assert told(again) == told(first)
