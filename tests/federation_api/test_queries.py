"""Small questions of other servers: profiles, aliases, published rooms, spaces, OpenID, the version."""

from typing import Any

import pytest

from tests.federation_api.asking import Asker
from tests.people import Person, Town
from tests.remote_server import RemoteServer


async def test_profiles_of_our_users(federated_town: Town, asker: Asker) -> None:
    alice = await federated_town.person("alice")
    await alice.put("profile", alice.user_id, "displayname", body={"displayname": "Alice"})
    await alice.put("profile", alice.user_id, "m.tz", body={"m.tz": "Europe/Berlin"})
    found = await asker.get("query", "profile", user_id=alice.user_id)
    assert found.body == {"displayname": "Alice", "m.tz": "Europe/Berlin"}
    for field, value in found.body.items():
        one = await asker.get("query", "profile", user_id=alice.user_id, field=field)
        assert one.body == {field: value}
    for query, error in [
        ({"user_id": alice.user_id, "field": "avatar_url"}, (404, "M_NOT_FOUND")),
        ({"user_id": f"@nobody:{federated_town.server_name}"}, (404, "M_NOT_FOUND")),
        ({"user_id": "@alice:elsewhere.example"}, (404, "M_NOT_FOUND")),
        ({"user_id": "alice"}, (400, "M_INVALID_PARAM")),
        ({}, (400, "M_MISSING_PARAM")),
    ]:
        assert (await asker.get("query", "profile", **query)).error == error, query


async def test_where_aliases_lead(federated_town: Town, remote: RemoteServer, asker: Asker) -> None:
    alice, name = await federated_town.person("alice"), federated_town.server_name
    localpart = alice.user_id[1:].partition(":")[0]
    room_id = await alice.create_room(preset="public_chat", room_alias_name=localpart)
    alias = f"#{localpart}:{name}"
    found = await asker.get("query", "directory", room_alias=alias)
    assert found.body == {"room_id": room_id, "servers": [name]}
    await remote.join(name, room_id, remote.user("bob"))
    found = await asker.get("query", "directory", room_alias=alias)
    assert found.body == {"room_id": room_id, "servers": [name, remote.name]}
    for unknown, error in [
        (f"#{localpart}-not:{name}", (404, "M_NOT_FOUND")),
        ("#a:elsewhere.example", (404, "M_NOT_FOUND")),
        ("nothing", (400, "M_INVALID_PARAM")),
    ]:
        assert (await asker.get("query", "directory", room_alias=unknown)).error == error


async def test_other_queries_are_unknown(asker: Asker) -> None:
    assert (await asker.get("query", "weather", where="here")).error == (404, "M_UNRECOGNIZED")


async def test_published_rooms_that_others_may_join(federated_town: Town, asker: Asker) -> None:
    alice = await federated_town.person("alice")
    word = alice.user_id[1:].partition(":")[0]
    options: dict[str, Any] = {"preset": "public_chat", "visibility": "public"}
    shared = await alice.create_room(name=f"{word} shared", **options)
    await alice.create_room(name=f"{word} ours", creation_content={"m.federate": False}, **options)
    await alice.create_room(name=f"{word} not published", preset="public_chat")
    body = {"filter": {"generic_search_term": word}, "limit": 10}
    found = (await asker.post("publicRooms", body=body)).body
    assert [room["room_id"] for room in found["chunk"]] == [shared]
    assert (found["chunk"][0]["num_joined_members"], found["total_room_count_estimate"]) == (1, 1)
    everything = (await asker.get("publicRooms")).body["chunk"]
    assert shared in [room["room_id"] for room in everything]
    assert f"{word} ours" not in str(everything)
    # Our own clients see both, and nothing that is for us alone.
    own = await alice.post("publicRooms", body=body)
    assert {room["name"] for room in own.body["chunk"]} == {f"{word} shared", f"{word} ours"}
    assert "hs." not in str(own.body["chunk"])
    page = (await asker.get("publicRooms", limit="1")).body
    assert len(page["chunk"]) == 1
    none = (await asker.get("publicRooms", third_party_instance_id="irc")).body
    assert none["chunk"] == []
    for query in ({"since": "x"}, {"limit": "-1"}):
        assert (await asker.get("publicRooms", **query)).error == (400, "M_INVALID_PARAM")
    assert len((await asker.get("publicRooms", limit="0")).body["chunk"]) >= 1


async def test_published_rooms_are_paged_back_and_forth(federated_town: Town, asker: Asker) -> None:
    alice = await federated_town.person("alice")
    word = alice.user_id[1:].partition(":")[0]
    options: dict[str, Any] = {"preset": "public_chat", "visibility": "public"}
    rooms = [await alice.create_room(name=f"{word} {number}", **options) for number in range(3)]
    space = await alice.create_room(name=word, creation_content={"type": "m.space"}, **options)

    async def ask(*room_types: str | None, **more: Any) -> Any:
        wanted = {"generic_search_term": word, "room_types": list(room_types)}
        return (await asker.post("publicRooms", body={"filter": wanted} | more)).body

    def ids(page: Any) -> list[str]:
        return [room["room_id"] for room in page["chunk"]]

    assert ids(await ask("m.space")) == [space]
    assert ids(await ask()) == []
    forth = [await ask(None, limit=2)]
    forth.append(await ask(None, limit=2, since=forth[0]["next_batch"]))
    assert [ids(page) for page in forth] == [rooms[:2], rooms[2:]]
    assert "next_batch" not in forth[1]
    assert "prev_batch" not in forth[0]
    back = await ask(None, limit=2, since=forth[1]["prev_batch"])
    assert (ids(back), back["next_batch"]) == (rooms[:2], forth[0]["next_batch"])
    assert ids(await ask(None, third_party_instance_id="irc")) == []
    everywhere = await ask(None, third_party_instance_id="irc", include_all_networks=True)
    assert ids(everywhere) == rooms


async def make_space(alice: Person, *children: str, **options: Any) -> str:
    space = await alice.create_room(creation_content={"type": "m.space"}, name="A space", **options)
    for child in children:
        await alice.set_state(space, "m.space.child", {"via": ["a.example"]}, child)
    return space


async def test_rooms_of_a_space(federated_town: Town, remote: RemoteServer, asker: Asker) -> None:
    alice, bob, name = await federated_town.person("alice"), remote.user("bob"), federated_town.server_name
    public = await alice.create_room(preset="public_chat")
    invited = await alice.create_room(preset="private_chat", invite=[])
    secret = await alice.create_room(preset="private_chat")
    club = await alice.create_room(preset="public_chat")
    rules = {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": club}]}
    restricted = await alice.create_room(
        initial_state=[{"type": "m.room.join_rules", "state_key": "", "content": rules}]
    )
    rooms = [public, invited, secret, restricted, "!elsewhere:a.example"]
    space = await make_space(alice, *rooms, preset="public_chat")
    hidden = await make_space(alice, public, preset="private_chat")
    found = (await asker.get("hierarchy", space)).body
    assert found["room"]["room_id"] == space
    assert {event["state_key"] for event in found["room"]["children_state"]} == {*rooms}
    assert [room["room_id"] for room in found["children"]] == [public]
    assert {*found["inaccessible_children"]} == {invited, secret, restricted}
    assert (await asker.get("hierarchy", hidden)).error == (404, "M_NOT_FOUND")
    assert (await asker.get("hierarchy", "!unknown:a.example")).error == (404, "M_NOT_FOUND")
    assert (await asker.get("hierarchy", space, suggested_only="true")).body["children"] == []
    # What the server's users are in, or invited to, it may know.
    await remote.join(name, club, bob)
    await alice.invite(invited, bob)
    await alice.invite(hidden, bob)
    found = (await asker.get("hierarchy", space)).body
    assert {room["room_id"] for room in found["children"]} == {public, invited, restricted}
    assert found["inaccessible_children"] == [secret]
    assert (await asker.get("hierarchy", hidden)).status == 200


async def test_openid_tokens_stand_for_users(
    federated_town: Town, asker: Asker, remote: RemoteServer
) -> None:
    alice = await federated_town.person("alice")
    token = (await alice.post("user", alice.user_id, "openid", "request_token", body={})).body["access_token"]
    found = await asker.get("openid", "userinfo", access_token=token)
    assert found.body == {"sub": alice.user_id}
    path = "/_matrix/federation/v1/openid/userinfo"
    unsigned = await remote.ask_path(
        asker.server_name, "GET", path, query={"access_token": token}, signed=False
    )
    assert unsigned.body == {"sub": alice.user_id}
    wrong = await asker.get("openid", "userinfo", access_token=token + "x")
    assert wrong.error == (401, "M_UNKNOWN_TOKEN")
    assert (await asker.get("openid", "userinfo")).error == (401, "M_MISSING_TOKEN")


@pytest.mark.parametrize("signed", [True, False])
async def test_the_version_is_told_to_everybody(asker: Asker, remote: RemoteServer, signed: bool) -> None:
    path = "/_matrix/federation/v1/version"
    answer = await remote.ask_path(asker.server_name, "GET", path, signed=signed)
    assert answer.body["server"]["name"] == "hs"
    assert answer.body["server"]["version"]
