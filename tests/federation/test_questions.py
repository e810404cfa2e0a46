"""What other servers may ask about our rooms and people: answered to who is in the room, as far as they may see."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.eyes import Eyes
from tests.people import Person, Town
from tests.remote_room import RemoteRoom
from tests.remote_server import RemoteServer

MakeRemote = Callable[..., Awaitable[RemoteServer]]
VERSIONS = [str(number) for number in range(1, 13)]


class Inside:
    """A room of ours that Bob of the remote is in, and Alice who made it."""

    def __init__(self, town: Town, remote: RemoteServer, alice: Person, room_id: str) -> None:
        self.name = town.server_name
        self.remote = remote
        self.alice = alice
        self.room_id = room_id
        self.room: RemoteRoom | None = None

    async def join(self) -> RemoteRoom:
        self.room = await self.remote.join(self.name, self.room_id, self.remote.user("bob"))
        return self.room

    async def ask(self, *parts: str, method: str = "GET", **options: Any) -> Any:
        answer = await self.remote.ask(self.name, method, "v1", *parts, **options)
        assert answer.status == 200, answer
        return answer.body

    async def state_ids(self) -> dict[tuple[str, str], str]:
        answer = await self.alice.get("rooms", self.room_id, "state")
        return {(e["type"], e["state_key"]): e["event_id"] for e in answer.body}


async def open_room(town: Town, remote: RemoteServer, **request: Any) -> Inside:
    alice = await town.person("alice")
    room_id = await alice.create_room(**({"preset": "public_chat"} | request))
    return Inside(town, remote, alice, room_id)


@pytest.fixture
async def inside(federated_town: Town, remote: RemoteServer) -> Inside:
    return await open_room(federated_town, remote)


# --- the past of rooms


@pytest.mark.parametrize("version_id", VERSIONS)
async def test_single_events_with_their_signatures(
    federated_town: Town, remote: RemoteServer, version_id: str
) -> None:
    inside = await open_room(federated_town, remote, room_version=version_id)
    said = await inside.alice.say(inside.room_id, "hello")
    room = await inside.join()
    body = await inside.ask("event", said)
    [pdu] = body["pdus"]
    assert (body["origin"], pdu["content"]["body"]) == (inside.name, "hello")
    assert room.parse(pdu).event_id == said
    assert inside.name in pdu["signatures"]
    chain = (await inside.ask("event_auth", inside.room_id, said))["auth_chain"]
    ids = {room.parse(pdu).event_id for pdu in chain}
    current = await inside.state_ids()
    member = current["m.room.member", inside.alice.user_id]
    assert {member, current["m.room.power_levels", ""]} <= ids
    assert said not in ids


async def test_backfill(inside: Inside) -> None:
    said = [await inside.alice.say(inside.room_id, f"{number}") for number in range(8)]
    room = await inside.join()
    query = {"v": said[-1], "limit": "5"}
    pdus = (await inside.ask("backfill", inside.room_id, query=query))["pdus"]
    assert {room.parse(pdu).event_id for pdu in pdus} == set(said[-5:])
    query = {"v": said[-1], "limit": "100000"}
    pdus = (await inside.ask("backfill", inside.room_id, query=query))["pdus"]
    ids = {room.parse(pdu).event_id for pdu in pdus}
    assert set(said) <= ids
    assert (await inside.state_ids())["m.room.create", ""] in ids


async def test_missing_events(inside: Inside) -> None:
    first = await inside.alice.say(inside.room_id, "first")
    said = [await inside.alice.say(inside.room_id, f"{number}") for number in range(8)]
    last = await inside.alice.say(inside.room_id, "last")
    room = await inside.join()
    body = {"latest_events": [last], "earliest_events": [first], "limit": 10, "min_depth": 0}
    found = await inside.ask("get_missing_events", inside.room_id, method="POST", body=body)
    assert [room.parse(pdu).event_id for pdu in found["events"]] == said
    found = await inside.ask("get_missing_events", inside.room_id, method="POST", body=body | {"limit": 3})
    assert [room.parse(pdu).event_id for pdu in found["events"]] == said[-3:]


async def test_state_before_an_event(inside: Inside) -> None:
    before = await inside.state_ids()
    said = await inside.alice.say(inside.room_id, "here")
    await inside.alice.set_state(inside.room_id, "m.room.topic", {"topic": "later"})
    room = await inside.join()
    query = {"event_id": said}
    ids = await inside.ask("state_ids", inside.room_id, query=query)
    assert sorted(ids["pdu_ids"]) == sorted(before.values())
    whole = await inside.ask("state", inside.room_id, query=query)
    assert {room.parse(pdu).event_id for pdu in whole["pdus"]} == set(before.values())
    chain = {room.parse(pdu).event_id for pdu in whole["auth_chain"]}
    assert chain == set(ids["auth_chain_ids"])
    assert chain <= set(before.values())


@pytest.mark.parametrize(
    "part", ["event", "event_auth", "state", "state_ids", "backfill", "get_missing_events"]
)
async def test_who_is_not_in_the_room_is_told_nothing(inside: Inside, part: str) -> None:
    said = await inside.alice.say(inside.room_id, "among us")
    method, body, query, parts = "GET", None, None, [part, inside.room_id]
    if part == "event":
        parts = [part, said]
    elif part == "event_auth":
        parts.append(said)
    elif part == "backfill":
        query = {"v": said, "limit": "5"}
    elif part == "get_missing_events":
        method, body = "POST", {"latest_events": [said], "earliest_events": []}
    else:
        query = {"event_id": said}
    answer = await inside.remote.ask(inside.name, method, "v1", *parts, body=body, query=query)
    assert answer.status in (403, 404), answer
    assert answer.body["errcode"] in ("M_FORBIDDEN", "M_NOT_FOUND")


async def test_what_a_server_may_not_see_is_redacted(federated_town: Town, remote: RemoteServer) -> None:
    visibility = {"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}
    inside = await open_room(federated_town, remote, initial_state=[visibility])
    secret = await inside.alice.say(inside.room_id, "before they came")
    room = await inside.join()
    shown = await inside.alice.say(inside.room_id, "for all")
    query = {"v": shown, "limit": "50"}
    pdus = (await inside.ask("backfill", inside.room_id, query=query))["pdus"]
    by_id = {room.parse(pdu).event_id: pdu for pdu in pdus}
    assert by_id[shown]["content"]["body"] == "for all"
    assert by_id.get(secret, {"content": {}})["content"] == {}
    answer = await remote.ask(inside.name, "GET", "v1", "event", secret)
    assert "before they came" not in str(answer.body)


# --- people and lists


async def test_profiles(inside: Inside) -> None:
    alice = inside.alice
    assert (
        await alice.put("profile", alice.user_id, "displayname", body={"displayname": "Alice"})
    ).status == 200
    profile = await inside.ask("query", "profile", query={"user_id": alice.user_id})
    assert profile["displayname"] == "Alice"
    query = {"user_id": alice.user_id, "field": "displayname"}
    assert await inside.ask("query", "profile", query=query) == {"displayname": "Alice"}
    for user_id in (f"@nobody-at-all:{inside.name}", inside.remote.user("bob")):
        query = {"user_id": user_id}
        answer = await inside.remote.ask(inside.name, "GET", "v1", "query", "profile", query=query)
        assert answer.status in (400, 403, 404), answer


async def test_aliases(federated_town: Town, remote: RemoteServer) -> None:
    alice = await federated_town.person("alice")
    name = alice.user_id[1:].partition(":")[0]
    room_id = await alice.create_room(preset="public_chat", room_alias_name=name)
    alias = f"#{name}:{federated_town.server_name}"
    answer = await remote.ask(
        federated_town.server_name, "GET", "v1", "query", "directory", query={"room_alias": alias}
    )
    assert answer.body == {"room_id": room_id, "servers": [federated_town.server_name]}
    query = {"room_alias": f"#nothing:{federated_town.server_name}"}
    answer = await remote.ask(federated_town.server_name, "GET", "v1", "query", "directory", query=query)
    assert answer.error == (404, "M_NOT_FOUND")


async def test_public_rooms_and_spaces(federated_town: Town, remote: RemoteServer) -> None:
    alice, name = await federated_town.person("alice"), federated_town.server_name
    space = await alice.create_room(
        preset="public_chat", visibility="public", name="A space", creation_content={"type": "m.space"}
    )
    child = await alice.create_room(preset="public_chat", name="A child")
    hidden = await alice.create_room(preset="private_chat", name="Hidden")
    for room_id in (child, hidden):
        await alice.set_state(space, "m.space.child", {"via": [name]}, room_id)
    listed = await remote.ask(name, "GET", "v1", "publicRooms", query={"limit": "1000"})
    ids = [room["room_id"] for room in listed.body["chunk"]]
    assert space in ids
    assert child not in ids
    body = {"filter": {"generic_search_term": "A space"}}
    searched = await remote.ask(name, "POST", "v1", "publicRooms", body=body)
    assert space in [room["room_id"] for room in searched.body["chunk"]]
    tree = await remote.ask(name, "GET", "v1", "hierarchy", space)
    assert tree.body["room"]["room_id"] == space
    assert {event["state_key"] for event in tree.body["room"]["children_state"]} == {child, hidden}
    assert [room["room_id"] for room in tree.body["children"]] == [child]
    assert tree.body["inaccessible_children"] == [hidden]


async def test_events_by_time(inside: Inside) -> None:
    said = await inside.alice.say(inside.room_id, "then")
    event = (await inside.alice.get("rooms", inside.room_id, "event", said)).body
    await inside.join()
    query = {"ts": str(event["origin_server_ts"]), "dir": "f"}
    found = await inside.ask("timestamp_to_event", inside.room_id, query=query)
    assert found == {"event_id": said, "origin_server_ts": event["origin_server_ts"]}


async def test_openid_tokens_and_the_version(inside: Inside) -> None:
    token = await inside.alice.post("user", inside.alice.user_id, "openid", "request_token")
    query = {"access_token": token.body["access_token"]}
    path = "/_matrix/federation/v1/openid/userinfo"
    found = await inside.remote.ask_path(inside.name, "GET", path, query=query, signed=False)
    assert found.body == {"sub": inside.alice.user_id}
    query = {"access_token": "wrong"}
    found = await inside.remote.ask_path(inside.name, "GET", path, query=query, signed=False)
    assert found.error == (401, "M_UNKNOWN_TOKEN")
    path = "/_matrix/federation/v1/version"
    found = await inside.remote.ask_path(inside.name, "GET", path, signed=False)
    assert isinstance(found.body["server"]["name"], str)


# --- what our people are told of others


async def test_our_people_ask_about_others(federated_town: Town, remote: RemoteServer) -> None:
    bob = await federated_town.person("bob")
    alice = remote.user("alice")
    remote.world.profiles[alice] = {"displayname": "Alice", "avatar_url": "mxc://x/y"}
    found = await bob.get("profile", alice)
    assert found.body == {"displayname": "Alice", "avatar_url": "mxc://x/y"}
    unknown = await bob.get("profile", remote.user("nobody"))
    assert unknown.error == (404, "M_NOT_FOUND")
    room = remote.make_room()
    room.send("m.room.name", alice, {"name": "Far away"}, state_key="")
    listed = await bob.get("publicRooms", server=remote.name)
    assert [(room["room_id"], room["name"]) for room in listed.body["chunk"]] == [(room.room_id, "Far away")]
    negative = await bob.get("publicRooms", server=remote.name, limit="-1")
    assert negative.error == (400, "M_INVALID_PARAM")


async def test_what_passes_of_others_is_seen(inside: Inside) -> None:
    room, bob = await inside.join(), inside.remote.user("bob")
    typing = {"room_id": inside.room_id, "user_id": bob, "typing": True}
    eyes = Eyes(inside.alice)
    await inside.remote.send(inside.name, edus=[{"edu_type": "m.typing", "content": typing}])
    await eyes.ephemeral(inside.room_id, "m.typing", lambda content: content["user_ids"] == [bob])
    said = await inside.alice.say(inside.room_id, "read this")
    receipt = {inside.room_id: {"m.read": {bob: {"event_ids": [said], "data": {"ts": 1_700_000_000_000}}}}}
    await inside.remote.send(inside.name, edus=[{"edu_type": "m.receipt", "content": receipt}])
    await eyes.ephemeral(inside.room_id, "m.receipt", lambda content: bob in content[said]["m.read"])
    presence = {"push": [{"user_id": bob, "presence": "online", "status_msg": "hi", "last_active_ago": 1}]}
    await inside.remote.send(inside.name, edus=[{"edu_type": "m.presence", "content": presence}])
    await eyes.until(lambda: eyes.presence.get(bob, {}).get("status_msg") == "hi")
    assert room.room_id == inside.room_id
    # Nobody types for users of another server, or for rooms that they are not in.
    stolen = typing | {"user_id": inside.alice.user_id}
    await inside.remote.send(inside.name, edus=[{"edu_type": "m.typing", "content": stolen}])
    await inside.remote.send(
        inside.name, edus=[{"edu_type": "m.typing", "content": typing | {"typing": False}}]
    )
    await eyes.ephemeral(inside.room_id, "m.typing", lambda content: content["user_ids"] == [])
