"""Keys: published, fetched and handed on as a notary, by each of two homeservers about the other."""

import time
from typing import Any

import aiohttp
import pytest
from signedjson.key import decode_verify_key_bytes
from signedjson.sign import verify_signed_json
from unpaddedbase64 import decode_base64

from tests.certificates import Authority
from tests.interop.pairs import Pair

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]


async def ask(
    authority: Authority, server_name: str, method: str, path: str, body: object = None
) -> dict[str, Any]:
    """An unsigned request of the federation API."""
    connector = aiohttp.TCPConnector(ssl=authority.client_context())
    url = f"https://{server_name}{path}"
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.request(method, url, json=body) as answer,
    ):
        assert answer.status == 200, await answer.text()
        found: dict[str, Any] = await answer.json()
        return found


def check_signed(document: dict[str, Any], server_name: str, keys: dict[str, Any]) -> None:
    """SignatureVerifyException unless the server has signed with one of the keys."""
    [key_id] = [key_id for key_id in document["signatures"][server_name] if key_id in keys]
    key = decode_verify_key_bytes(key_id, decode_base64(keys[key_id]["key"]))
    verify_signed_json(document, server_name, key)


async def test_keys_are_published_and_signed(authority: Authority, pair: Pair) -> None:
    for name in (pair.here.server_name, pair.there.server_name):
        document = await ask(authority, name, "GET", "/_matrix/key/v2/server")
        assert document["server_name"] == name
        assert document["valid_until_ts"] > time.time() * 1000
        check_signed(document, name, document["verify_keys"])


async def test_each_is_a_notary_of_the_other(authority: Authority, pair: Pair) -> None:
    for notary, asked in ((pair.here, pair.there), (pair.there, pair.here)):
        name = asked.server_name
        direct = await ask(authority, name, "GET", "/_matrix/key/v2/server")
        own = await ask(authority, notary.server_name, "GET", "/_matrix/key/v2/server")
        # Synapse asks further only for keys that are named.
        wanted = {
            key_id: {"minimum_valid_until_ts": int(time.time() * 1000)} for key_id in direct["verify_keys"]
        }
        path, body = "/_matrix/key/v2/query", {"server_keys": {name: wanted}}
        posted = await ask(authority, notary.server_name, "POST", path, body)
        got = await ask(authority, notary.server_name, "GET", f"{path}/{name}")
        for answer in (posted, got):
            [document] = answer["server_keys"]
            assert document["server_name"] == name
            assert document["verify_keys"] == direct["verify_keys"]
            check_signed(document, name, direct["verify_keys"])
            check_signed(document, notary.server_name, own["verify_keys"])


async def test_each_says_what_it_is(authority: Authority, pair: Pair) -> None:
    for name in (pair.here.server_name, pair.there.server_name):
        answer = await ask(authority, name, "GET", "/_matrix/federation/v1/version")
        assert answer["server"].keys() >= {"name", "version"}
