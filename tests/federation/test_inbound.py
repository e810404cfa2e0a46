"""What another server sends into our rooms: taken, refused, put right and waited for, by the specification's checks."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.eyes import Eyes
from tests.people import Person, Town
from tests.remote_room import RemoteRoom, with_bad_hash, with_bad_signature
from tests.remote_scripts import Flood, cut, garbage, hang_up, refuse, reply
from tests.remote_server import RemoteServer

VERSIONS = [str(number) for number in range(1, 13)]


class Door:
    """A room of ours with Alice, who is here, and Bob, who is on the scripted remote."""

    def __init__(self, town: Town, remote: RemoteServer, alice: Person, room: RemoteRoom) -> None:
        self.name = town.server_name
        self.remote = remote
        self.alice = alice
        self.room = room
        self.room_id = room.room_id
        self.bob = remote.user("bob")
        self.eyes = Eyes(alice)

    @classmethod
    async def open(cls, town: Town, remote: RemoteServer, version_id: str = "12", **request: Any) -> "Door":
        alice = await town.person("alice")
        room_id = await alice.create_room(preset="public_chat", room_version=version_id, **request)
        room = await remote.join(town.server_name, room_id, remote.user("bob"))
        return cls(town, remote, alice, room)

    async def send(self, *events: Any) -> dict[str, Any]:
        """The results of a transaction, by event id."""
        answer = await self.remote.send(self.name, *events)
        assert answer.status == 200, answer
        pdus: dict[str, Any] = answer.body["pdus"]
        return pdus

    async def sees(self, event_id: str) -> Any:
        return await self.eyes.event(self.room_id, event_id)

    async def passes_by(self, *event_ids: str) -> None:
        """AssertionError if one of these is shown, when what was sent after them is."""
        marker = self.room.say(self.bob, "marker")
        await self.send(marker)
        await self.sees(marker.event_id)
        for event_id in event_ids:
            found = await self.alice.get("rooms", self.room_id, "event", event_id)
            assert found.error == (404, "M_NOT_FOUND"), found


@pytest.fixture
async def door(federated_town: Town, remote: RemoteServer) -> Door:
    return await Door.open(federated_town, remote)


# --- ordinary ones


@pytest.mark.parametrize("version_id", VERSIONS)
async def test_messages_of_others_are_shown(
    federated_town: Town, remote: RemoteServer, version_id: str
) -> None:
    door = await Door.open(federated_town, remote, version_id)
    hello, again = door.room.say(door.bob, "hello"), door.room.say(door.bob, "again")
    assert await door.send(hello, again) == {hello.event_id: {}, again.event_id: {}}
    await door.sees(again.event_id)
    assert door.eyes.texts(door.room_id) == ["hello", "again"]


async def test_branches_come_together(door: Door) -> None:
    fork = door.room.newest
    left = [door.room.say(door.bob, "left", prev=[fork])]
    right = [door.room.say(door.bob, "right", prev=[fork])]
    left.append(door.room.say(door.bob, "left again", prev=left))
    merged = door.room.say(door.bob, "merged", prev=[left[-1], right[-1]])
    results = await door.send(*left, *right, merged)
    assert all(result == {} for result in results.values())
    await door.sees(merged.event_id)


# --- what is wrong with one of them is no matter of the others


async def test_wrong_signatures_are_refused_and_the_rest_is_taken(door: Door) -> None:
    good = door.room.say(door.bob, "good")
    bad = with_bad_signature(door.room.forge(door.bob))
    bad_id = door.room.parse(bad).event_id
    results = await door.send(good, bad)
    assert results[good.event_id] == {}
    assert results[bad_id].keys() == {"errcode", "error"}
    await door.passes_by(bad_id)


async def test_an_unsigned_event_is_refused(door: Door) -> None:
    bad = door.room.forge(door.bob) | {"signatures": {}}
    await door.send(bad)
    await door.passes_by(door.room.parse(bad).event_id)


async def test_nobody_speaks_for_another_server(door: Door) -> None:
    stolen = door.room.forge(door.bob) | {"sender": door.alice.user_id}
    await door.send(stolen)
    await door.passes_by(door.room.parse(stolen).event_id)


async def test_changed_content_is_shown_redacted(door: Door) -> None:
    event = door.room.say(door.bob, "as it was signed")
    await door.send(with_bad_hash(event.pdu))
    shown = await door.sees(event.event_id)
    assert shown["content"] == {}


async def test_what_the_rules_refuse_is_not_shown(door: Door) -> None:
    mallory = door.remote.user("mallory")
    stranger = door.room.forge(mallory)
    topic = door.room.send(
        "m.room.topic", door.bob, {"topic": "taken over"}, state_key="", prev=[door.room.newest]
    )
    assert topic.rejected is not None
    stranger_id = door.room.parse(stranger).event_id
    results = await door.send(stranger, topic)
    assert set(results) <= {stranger_id, topic.event_id}
    await door.passes_by(stranger_id, topic.event_id)
    assert await door.alice.state(door.room_id, "m.room.topic") is None


async def test_events_of_unknown_rooms_and_malformed_ones_pass_by(door: Door, remote: RemoteServer) -> None:
    elsewhere = remote.make_room().say(remote.user("alice"), "elsewhere")
    good = door.room.say(door.bob, "good")
    malformed = [{}, {"room_id": 5}, {"room_id": door.room_id}, door.room.forge(door.bob, depth="x")]
    results = await door.send(elsewhere, *malformed, good)
    assert results[good.event_id] == {}
    await door.sees(good.event_id)


async def test_more_than_fifty_are_refused_as_a_whole(door: Door) -> None:
    many = [door.room.forge(door.bob, origin_server_ts=number) for number in range(51)]
    answer = await door.remote.send(door.name, *many)
    assert answer.status in (400, 413), answer
    edus = [{"edu_type": "m.typing", "content": {}}] * 101
    assert (await door.remote.send(door.name, edus=edus)).status in (400, 413)


@pytest.mark.parametrize("count", [21, 20_000])
async def test_too_many_previous_events_are_refused(door: Door, count: int) -> None:
    prev = [f"${number:043}" for number in range(count)]
    bad = door.room.forge(door.bob, prev_events=prev)
    answer = await door.remote.send(door.name, bad)
    assert answer.status in (200, 400, 413), answer
    await door.passes_by()
    assert door.remote.received("POST", "/get_missing_events/") == []


async def test_servers_that_are_kept_out_are_not_heard(
    federated_town: Town, make_remote: Callable[..., Awaitable[RemoteServer]]
) -> None:
    # An ACL knows hosts and no ports.
    remote = await make_remote(host="localhost")
    door = await Door.open(federated_town, remote)
    before = door.room.newest
    content = {"allow": ["*"], "deny": ["localhost"], "allow_ip_literals": True}
    assert (await door.alice.set_state(door.room_id, "m.room.server_acl", content)).status == 200
    said = door.room.say(door.bob, "let me in", prev=[before])
    assert (await door.send(said))[said.event_id].keys() == {"errcode", "error"}
    query = {"ver": VERSIONS}
    carol = remote.user("carol")
    joined = await remote.ask(door.name, "GET", "v1", "make_join", door.room_id, carol, query=query)
    assert joined.error == (403, "M_FORBIDDEN")
    found = await door.alice.get("rooms", door.room_id, "event", said.event_id)
    assert found.error == (404, "M_NOT_FOUND")


# --- gaps


async def test_state_at_a_wide_gap_is_asked_for(door: Door) -> None:
    carol = door.remote.user("carol")
    door.room.member(carol, carol, "join")
    for number in range(60):
        door.room.say(door.bob, f"missed {number}")
    newest = door.room.say(carol, "who was not there before")
    await door.send(newest)
    shown = await door.sees(newest.event_id)
    assert shown["sender"] == carol
    assert door.remote.received("GET", "/state")
    members = await door.alice.get("rooms", door.room_id, "joined_members")
    assert carol in members.body["joined"]


@pytest.mark.parametrize(
    "action",
    [
        refuse(500, "M_UNKNOWN"),
        refuse(403, "M_FORBIDDEN"),
        garbage(),
        cut(),
        hang_up(),
        reply({"events": "none"}),
        reply({"events": [{}, 5, {"room_id": "!x:y"}]}),
        reply([]),
    ],
    ids=["500", "403", "no JSON", "cut", "hung up", "no list", "no events", "no object"],
)
async def test_a_gap_that_is_not_filled_hurts_nobody(door: Door, action: Any) -> None:
    door.room.say(door.bob, "missed")
    newest = door.room.say(door.bob, "newest")
    for part in ("/get_missing_events/", "/state_ids/", "/state/", "/event/", "/event_auth/", "/backfill/"):
        door.remote.script("*", part, action)
    assert set(await door.send(newest)) <= {newest.event_id}
    said = await door.alice.say(door.room_id, "all is well here")
    await door.sees(said)


async def test_a_gap_is_filled_when_the_remote_answers_again(door: Door) -> None:
    missed = door.room.say(door.bob, "missed")
    script = door.remote.script("POST", "/get_missing_events/", reply({"events": []}))
    door.remote.script("GET", "/state", refuse(404, "M_NOT_FOUND"))
    await door.send(door.room.say(door.bob, "newest"))
    assert script.seen
    door.remote.behave()
    after = door.room.say(door.bob, "and now it answers")
    await door.send(after)
    await door.sees(after.event_id)
    await door.sees(missed.event_id)


async def test_a_flood_of_missing_events_is_cut_short(door: Door) -> None:
    door.room.say(door.bob, "missed")
    newest = door.room.say(door.bob, "newest")
    flood = Flood()
    for part in ("/get_missing_events/", "/state_ids/", "/state/", "/event/"):
        door.remote.script("*", part, flood)
    await door.send(newest)
    assert flood.sent < flood.size
    await door.sees(await door.alice.say(door.room_id, "all is well here"))


async def test_auth_events_that_cannot_be_had_drop_the_event(door: Door) -> None:
    unknown = door.room.references([door.room.newest])
    fake = ["$" + "x" * 43]
    bad = door.room.forge(door.bob, auth_events=[*unknown, *fake])
    await door.send(bad)
    await door.passes_by(door.room.parse(bad).event_id)


async def test_auth_events_in_circles_end(federated_town: Town, remote: RemoteServer) -> None:
    door = await Door.open(federated_town, remote, "1")
    ids = [f"${name}:{remote.name}" for name in ("round", "about")]
    pdus = [door.room.forge(door.bob, event_id=ids[n], auth_events=[[ids[1 - n], {}]]) for n in range(2)]
    for n in range(2):
        remote.script(
            "GET", f"/event/{ids[n]}", reply({"origin": "", "origin_server_ts": 1, "pdus": [pdus[n]]})
        )
    remote.script("GET", "/event_auth/", reply({"auth_chain": pdus}))
    await door.send(*pdus)
    await door.passes_by(*ids)


# --- soft failures


async def test_a_join_and_a_message_at_once(door: Door) -> None:
    carol = door.remote.user("carol")
    joined, said = door.room.member(carol, carol, "join"), door.room.say(carol, "hello")
    assert await door.send(joined, said) == {joined.event_id: {}, said.event_id: {}}
    await door.sees(said.event_id)
