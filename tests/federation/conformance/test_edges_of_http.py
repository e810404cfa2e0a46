"""Paths, methods, headers: what a suite asks before it asks anything else."""

from typing import Any

import pytest

from tests.people import Town
from tests.remote_server import FEDERATION, RemoteServer


@pytest.mark.parametrize(
    "path",
    [
        "/_matrix/federation/unknown",
        "/_matrix/federation/v1/unknown",
        "/_matrix/key/unknown",
        "/_matrix/key/v2/unknown",
    ],
)
async def test_unknown_paths(federated_town: Town, remote: RemoteServer, path: str) -> None:
    for signed in (False, True):
        answer = await remote.ask_path(federated_town.server_name, "GET", path, signed=signed)
        assert answer.error == (404, "M_UNRECOGNIZED")


@pytest.mark.parametrize(
    "path", ["/_matrix/federation/v1/version", "/_matrix/key/v2/query", "/_matrix/key/v2/server"]
)
async def test_methods_that_are_not_served(federated_town: Town, remote: RemoteServer, path: str) -> None:
    answer = await remote.ask_path(federated_town.server_name, "PUT", path, body={}, signed=False)
    assert answer.error == (405, "M_UNRECOGNIZED")


async def test_unknown_paths_on_the_client_listener(federated_town: Town) -> None:
    person = await federated_town.person("alice")
    unknown = [
        "unknown",
        "client/unknown",
        "client/v1/unknown",
        "client/v3/room/unknown",
        "federation/unknown",
    ]
    unknown += ["federation/v1/unknown", "key/unknown", "key/v2/unknown", "media/unknown", "media/v3/unknown"]
    for part in unknown:
        answer = await person.ask_raw("GET", f"/_matrix/{part}")
        assert answer.error == (404, "M_UNRECOGNIZED"), part
    assert (await person.ask_raw("PUT", "/_matrix/client/v3/login", b"{}")).error == (405, "M_UNRECOGNIZED")


async def test_the_version(federated_town: Town, remote: RemoteServer) -> None:
    answer = await remote.ask(federated_town.server_name, "GET", "v1", "version", signed=False)
    assert answer.status == 200
    assert {type(answer.body["server"][key]) for key in ("name", "version")} == {str}


async def test_keys_under_all_their_paths(federated_town: Town, remote: RemoteServer) -> None:
    documents = []
    for end in ("", "/", "/ed25519:any"):
        path = f"/_matrix/key/v2/server{end}"
        answer = await remote.ask_path(federated_town.server_name, "GET", path, signed=False)
        assert answer.status == 200, (end, answer)
        documents.append(answer.body)
    assert documents[0]["server_name"] == federated_town.server_name
    assert documents[0]["verify_keys"]
    assert documents[0]["old_verify_keys"] == {}
    assert documents[0]["signatures"].keys() == {federated_town.server_name}
    assert documents[0]["signatures"][federated_town.server_name].keys() == documents[0]["verify_keys"].keys()


async def ask_as(town: Town, remote: RemoteServer, header: str, path: str) -> Any:
    return await remote.ask_path(
        town.server_name, "GET", path, signed=False, headers={"Authorization": header}
    )


async def test_headers_as_servers_write_them(federated_town: Town, remote: RemoteServer) -> None:
    person = await federated_town.person("alice")
    path = f"{FEDERATION}/v1/query/profile?user_id={person.user_id.replace('@', '%40').replace(':', '%3A')}"
    right = remote.authorization(federated_town.server_name, "GET", path)
    fields = dict(part.split("=", 1) for part in right.removeprefix("X-Matrix ").split(","))
    bare = ",".join(
        f"{key}={value}" if key in ("sig",) else f"{key}={value.strip(chr(34))}"
        for key, value in fields.items()
    )
    for header in (
        right,
        right.replace("X-Matrix", "x-matrix"),
        "X-Matrix " + bare,
        "X-Matrix " + ", ".join(f"{key}={value}" for key, value in fields.items()),
        "X-Matrix " + ",".join(f"{key}={value}" for key, value in reversed(fields.items())),
    ):
        assert (await ask_as(federated_town, remote, header, path)).status == 200, header
    # Servers of old say no destination, and still sign it.
    short = ",".join(f"{key}={value}" for key, value in fields.items() if key != "destination")
    assert (await ask_as(federated_town, remote, "X-Matrix " + short, path)).status == 200
    for header in (
        "X-Matrix ",
        "Bearer x",
        "X-Matrix origin=x",
        right.replace(fields["sig"], '"' + "a" * 86 + '"'),
    ):
        assert (await ask_as(federated_town, remote, header, path)).status == 401, header


async def test_people_of_servers_that_are_none(federated_town: Town, remote: RemoteServer) -> None:
    path = f"{FEDERATION}/v1/query/profile?user_id=%40user1%3Alocalhost%3Ahttp&field=displayname"
    answer = await remote.ask_path(federated_town.server_name, "GET", path)
    assert answer.status == 400, answer


async def test_a_path_ends_with_a_slash(federated_town: Town, remote: RemoteServer) -> None:
    """Servers have sent transactions so, and suites do."""
    for end in ("", "/"):
        path = f"{FEDERATION}/v1/send/txn{len(end)}{end}"
        body = {"origin": remote.name, "origin_server_ts": 1, "pdus": [], "edus": []}
        answer = await remote.ask_path(federated_town.server_name, "PUT", path, body=body)
        assert (answer.status, answer.body) == (200, {"pdus": {}})


async def test_parts_of_paths_are_decoded_once(federated_town: Town, remote: RemoteServer) -> None:
    person, bob = await federated_town.person("alice"), remote.user("b%2Fob")
    room_id = await person.create_room(preset="public_chat")
    answer = await remote.ask(
        federated_town.server_name, "GET", "v1", "make_join", room_id, bob, query={"ver": "12"}
    )
    assert answer.body["event"]["state_key"] == bob
    # Unescaped, as some clients send them.
    path = f"{FEDERATION}/v1/make_join/{room_id}/{remote.user('carol')}?ver=12"
    answer = await remote.ask_path(federated_town.server_name, "GET", path)
    assert answer.body["event"]["state_key"] == remote.user("carol")


async def test_answers_are_json(federated_town: Town, remote: RemoteServer) -> None:
    for path in (
        "/_matrix/key/v2/server",
        "/_matrix/federation/v1/version",
        "/_matrix/federation/v1/nothing",
    ):
        url = f"https://{federated_town.server_name}{path}"
        async with remote._session.get(url) as response:
            assert response.content_type == "application/json"


async def test_too_many_events_in_one_transaction(federated_town: Town, remote: RemoteServer) -> None:
    answer = await remote.ask(
        federated_town.server_name,
        "PUT",
        "v1",
        "send",
        "many",
        body={"origin": remote.name, "origin_server_ts": 1, "pdus": [{}] * 51},
    )
    assert answer.status == 400
    few = {"origin": remote.name, "origin_server_ts": 1, "pdus": [{}] * 50, "edus": [{}] * 100}
    assert (await remote.ask(federated_town.server_name, "PUT", "v1", "send", "few", body=few)).status == 200
