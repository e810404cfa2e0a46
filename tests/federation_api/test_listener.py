"""The running server's federation listener: keys for everybody, the rest for servers that sign, nothing when disabled."""

from collections.abc import Awaitable, Callable
from typing import Any

from signedjson.key import decode_verify_key_bytes
from signedjson.sign import verify_signed_json
from unpaddedbase64 import decode_base64

from tests.certificates import Authority
from tests.people import Town
from tests.remote_server import RemoteServer

MakeTown = Callable[..., Awaitable[Town]]


async def _get(town: Town, path: str) -> tuple[int, Any]:
    async with town.session.get(town.base_url + path) as answer:
        return answer.status, await answer.json()


async def test_our_keys_are_served(make_local_town: MakeTown) -> None:
    town = await make_local_town()
    status, document = await _get(town, "/_matrix/key/v2/server")
    assert status == 200
    [(key_id, key)] = document["verify_keys"].items()
    verify_key = decode_verify_key_bytes(key_id, decode_base64(key["key"]))
    verify_signed_json(document, town.server_name, verify_key)
    assert (await _get(town, f"/_matrix/key/v2/query/{town.server_name}"))[1]["server_keys"]


async def test_nothing_is_served_while_federation_is_disabled(make_local_town: MakeTown) -> None:
    town = await make_local_town(federation={"enabled": False})
    for path in ("/_matrix/key/v2/server", "/_matrix/federation/v1/version"):
        status, error = await _get(town, path)
        assert (status, error["errcode"]) == (404, "M_UNRECOGNIZED")


async def test_requests_without_a_signature_are_refused(make_local_town: MakeTown) -> None:
    town = await make_local_town()
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "X-Matrix origin=a.example"}):
        async with town.session.put(
            f"{town.base_url}/_matrix/federation/v1/send/t", json={}, headers=headers
        ) as answer:
            assert answer.status in (401, 404)
            assert (await answer.json())["errcode"] in ("M_UNAUTHORIZED", "M_UNRECOGNIZED")


async def test_the_notary_asks_servers_over_https(
    make_local_town: MakeTown, authority: Authority, remote: RemoteServer
) -> None:
    trust = {"ca_file": str(authority.ca_file)}
    town = await make_local_town(federation=trust, network={"ip_range_whitelist": ["127.0.0.0/8"]})
    _, found = await _get(town, f"/_matrix/key/v2/query/{remote.name}")
    assert set(found["server_keys"][0]["signatures"]) == {remote.name, town.server_name}


async def test_a_server_with_a_certificate_of_nobody_is_not_believed(
    make_local_town: MakeTown, remote: RemoteServer
) -> None:
    town = await make_local_town(network={"ip_range_whitelist": ["127.0.0.0/8"]})
    assert (await _get(town, f"/_matrix/key/v2/query/{remote.name}"))[1] == {"server_keys": []}
    assert remote.requests == []


async def test_others_are_told_where_to_go(make_local_town: MakeTown) -> None:
    path = "/.well-known/matrix/server"
    town = await make_local_town(federation={"delegated_to": "matrix.example.org:443"})
    assert await _get(town, path) == (200, {"m.server": "matrix.example.org:443"})
    status, error = await _get(await make_local_town(), path)
    assert (status, error["errcode"]) == (404, "M_NOT_FOUND")
