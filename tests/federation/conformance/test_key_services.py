"""Keys of others as our notary hands them on, and requests of servers that we have never heard of."""

from typing import Any

from signedjson.key import encode_verify_key_base64, generate_signing_key, get_verify_key
from signedjson.sign import sign_json, verify_signed_json

from tests.people import Town
from tests.remote_scripts import refuse, reply
from tests.remote_server import RemoteServer
from tests.remote_world import DAY_MS, now_ms


def document(remote: RemoteServer, version: str, valid_until_ts: int) -> tuple[dict[str, Any], str]:
    """The keys of the remote, all new, and the id of the one there is."""
    key = generate_signing_key(version)
    key_id = f"ed25519:{version}"
    body = {
        "server_name": remote.name,
        "valid_until_ts": valid_until_ts,
        "verify_keys": {key_id: {"key": encode_verify_key_base64(get_verify_key(key))}},
        "old_verify_keys": {},
    }
    return dict(sign_json(body, remote.name, key)), key_id


async def query(town: Town, remote: RemoteServer, key_id: str, until: int = 0) -> list[Any]:
    """What the notary answers about a key of the remote."""
    body = {"server_keys": {remote.name: {key_id: {"minimum_valid_until_ts": until}}}}
    answer = await remote.ask_path(town.server_name, "POST", "/_matrix/key/v2/query", body=body, signed=False)
    assert answer.status == 200, answer
    found: list[Any] = answer.body["server_keys"]
    return found


async def test_a_notary_signs_what_it_hands_on(federated_town: Town, remote: RemoteServer) -> None:
    key_id = f"{remote.world.key.alg}:{remote.world.key.version}"
    path = f"/_matrix/key/v2/query/{remote.name}/{key_id}"
    got = await remote.ask_path(federated_town.server_name, "GET", path, signed=False)
    for keys in (got.body["server_keys"], await query(federated_town, remote, key_id)):
        [found] = [keys for keys in keys if key_id in keys["verify_keys"]]
        assert found["signatures"][federated_town.server_name]
        verify_signed_json(found, remote.name, get_verify_key(remote.world.key))


async def test_an_expired_key_is_better_than_none(federated_town: Town, remote: RemoteServer) -> None:
    expiry = now_ms() - DAY_MS
    old, key_id = document(remote, "key_0", expiry)
    remote.script("GET", "/key/v2/server", reply(old))
    await query(federated_town, remote, key_id)
    [again] = await query(federated_town, remote, key_id, expiry + 1000)
    assert (again["server_name"], again["valid_until_ts"]) == (remote.name, expiry)
    remote.script("GET", "/key/v2/server", refuse(400, "M_UNKNOWN"))
    [last] = await query(federated_town, remote, key_id, expiry + 1000)
    assert (key_id in last["verify_keys"], last["valid_until_ts"]) == (True, expiry)


async def test_a_key_is_kept_when_its_server_forgets_it(federated_town: Town, remote: RemoteServer) -> None:
    expiry = now_ms() - DAY_MS
    first, key_id = document(remote, "key_1", expiry)
    remote.script("GET", "/key/v2/server", reply(first))
    await query(federated_town, remote, key_id)
    second, _ = document(remote, "key_2", expiry + 1000)
    remote.script("GET", "/key/v2/server", reply(second))
    await query(federated_town, remote, key_id, now_ms())
    found = await query(federated_town, remote, key_id, expiry)
    assert any(key_id in keys["verify_keys"] for keys in found)


async def test_the_key_of_a_stranger_is_fetched_once(federated_town: Town, remote: RemoteServer) -> None:
    for _ in range(2):
        answer = await remote.ask(
            federated_town.server_name, "GET", "v1", "query", "directory", query={"room_alias": "#x:y"}
        )
        assert answer.status in (400, 404), answer
    assert len(remote.received("GET", "/key/v2/server")) == 1


async def test_profiles_and_aliases(federated_town: Town, remote: RemoteServer) -> None:
    alice, name = await federated_town.person("alice"), federated_town.server_name
    await alice.put("profile", alice.user_id, "displayname", body={"displayname": "Alice Cooper"})
    for field in ({"field": "displayname"}, {}):
        answer = await remote.ask(
            name, "GET", "v1", "query", "profile", query={"user_id": alice.user_id, **field}
        )
        assert (answer.status, answer.body["displayname"]) == (200, "Alice Cooper")
    remote.world.profiles[remote.user("user")] = {"displayname": "my remote display name", "avatar_url": ""}
    shown = await federated_town.visitor.get("profile", remote.user("user"), "displayname")
    if shown.status == 401:
        shown = await alice.get("profile", remote.user("user"), "displayname")
    assert shown.body["displayname"] == "my remote display name"
    room_id = await alice.create_room()
    alias = f"#\N{CJK UNIFIED IDEOGRAPH-8001}\N{CYRILLIC SMALL LETTER YA}-{alice.user_id[1:8]}:{name}"
    assert (await alice.put("directory", "room", alias, body={"room_id": room_id})).status == 200
    answer = await remote.ask(name, "GET", "v1", "query", "directory", query={"room_alias": alias})
    assert (answer.status, answer.body["room_id"]) == (200, room_id)
    assert answer.body["servers"]
