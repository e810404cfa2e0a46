"""/_matrix/key/v2 over HTTP: our keys, and those of others that we vouch for."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from signedjson.key import generate_signing_key, get_verify_key
from signedjson.sign import verify_signed_json

from hs.federation_api.keys import KeysApi
from hs.http.app import App
from hs.http.rate_limit import Limit, RateLimiter
from hs.matrix.keys import OldKey, key_id_of
from hs.net.notary import MAX_FETCHES, MAX_SERVERS
from hs.net.own_keys import VALID_MS
from tests.account_server import serve_app
from tests.http.test_wire import NoOverrides, NoTokens
from tests.net.house import HERE, KEY, NetHouse
from tests.remote_scripts import hang_up
from tests.remote_server import RemoteServer

Ask = Callable[..., Awaitable[Any]]
DAY_S = 24 * 3600


@pytest.fixture
async def ask(house: NetHouse) -> AsyncIterator[Ask]:
    """Asks the keys endpoints of a house; change its fields before."""
    limiter = RateLimiter(False, lambda _: Limit(1, 1), NoOverrides())
    app = App([KeysApi(house.own, house.notary)], NoTokens(), limiter)
    async with serve_app(app) as base_url, aiohttp.ClientSession(base_url) as session:

        async def ask_it(path: str, body: Any = None, status: int = 200) -> Any:
            method = "GET" if body is None else "POST"
            async with session.request(method, "/_matrix/key/v2" + path, json=body) as answer:
                assert answer.status == status, await answer.text()
                return await answer.json()

        yield ask_it


def query_of(*names: str, **criteria: Any) -> dict[str, Any]:
    return {"server_keys": {name: dict(criteria) for name in names}}


def check_vouched(document: Any, remote: RemoteServer) -> None:
    """Signed by the server itself and by us."""
    assert document["server_name"] == remote.name
    assert set(document["signatures"]) == {remote.name, HERE}
    verify_signed_json(document, remote.name, get_verify_key(remote.world.key))
    verify_signed_json(document, HERE, get_verify_key(KEY))


# --- ours ------------------------------------------------------------------------------------------


async def test_our_keys_are_published_with_our_signature(house: NetHouse, ask: Ask) -> None:
    for path in ("/server", "/server/ed25519:any"):
        document = await ask(path)
        verify_signed_json(document, HERE, get_verify_key(KEY))
        assert set(document["verify_keys"]) == {key_id_of(KEY)}
        assert document["old_verify_keys"] == {}
        assert DAY_S * 500 < document["valid_until_ts"] - house.clock.now_ms() <= DAY_S * 1000


async def test_our_keys_are_signed_again_before_they_age(house: NetHouse, ask: Ask) -> None:
    first = await ask("/server")
    assert await ask("/server") == first
    for hours in (1, 13, 300, -500):
        house.clock.advance(hours * 3600)
        left_ms = (await ask("/server"))["valid_until_ts"] - house.clock.now_ms()
        assert VALID_MS / 2 <= left_ms <= VALID_MS


async def test_keys_that_signed_before_are_published(house: NetHouse) -> None:
    old = generate_signing_key("old")
    house.old_keys = [OldKey(get_verify_key(old), 77)]
    document = json.loads(house.build().own.answer())
    assert document["old_verify_keys"]["ed25519:old"]["expired_ts"] == 77
    known = house.own.server_keys()
    assert known["ed25519:old"].valid_until_ts == 77
    assert known[key_id_of(KEY)].covers(house.clock.now_ms())


# --- others' ---------------------------------------------------------------------------------------


async def test_we_vouch_for_what_a_server_says(ask: Ask, remote: RemoteServer) -> None:
    [document] = (await ask(f"/query/{remote.name}"))["server_keys"]
    check_vouched(document, remote)
    [again] = (await ask("/query", query_of(remote.name)))["server_keys"]
    assert again == document
    assert len(remote.received("GET", "/key/v2/server")) == 1


async def test_many_are_asked_for_at_once(ask: Ask, make_remote: Any) -> None:
    first, second = await make_remote(), await make_remote()
    gone = [f"gone{i}.example" for i in range(9)]
    criteria = {key_id_of(first.world.key): {"minimum_valid_until_ts": 5}}
    query = query_of(HERE, second.name, *gone, "no name!", **criteria)
    query["server_keys"][first.name] = {}
    found = {document["server_name"]: document for document in (await ask("/query", query))["server_keys"]}
    assert set(found) == {HERE, first.name, second.name}
    check_vouched(found[first.name], first)
    check_vouched(found[second.name], second)
    assert set(found[HERE]["signatures"]) == {HERE}


async def test_the_last_answer_stays_for_who_is_gone(
    house: NetHouse,
    ask: Ask,
    remote: RemoteServer,
) -> None:
    [first] = (await ask(f"/query/{remote.name}"))["server_keys"]
    remote.script("GET", "/key/v2/server", hang_up())
    house.clock.advance(9 * DAY_S)
    asked = len(house.finder.found)
    assert (await ask(f"/query/{remote.name}"))["server_keys"] == [first]
    assert len(house.finder.found) == asked + 1


async def test_an_answer_is_asked_for_again_after_half_of_its_life(
    house: NetHouse,
    ask: Ask,
    remote: RemoteServer,
) -> None:
    await ask(f"/query/{remote.name}")
    house.clock.advance(DAY_S / 2 - 60)
    await ask(f"/query/{remote.name}")
    assert len(house.finder.found) == 1
    house.clock.advance(120)
    [document] = (await ask(f"/query/{remote.name}"))["server_keys"]
    check_vouched(document, remote)
    assert len(house.finder.found) == 2


@pytest.mark.parametrize("how", ["time", "key", "time in the query"])
async def test_what_is_wanted_and_not_there_is_asked_for(
    house: NetHouse,
    ask: Ask,
    remote: RemoteServer,
    how: str,
) -> None:
    await ask(f"/query/{remote.name}")
    house.clock.advance(60)
    later_ts = house.clock.now_ms() + 2 * DAY_S * 1000
    for _ in range(3):
        if how == "key":
            await ask("/query", query_of(remote.name, **{"ed25519:fresh": {}}))
        elif how == "time":
            await ask("/query", query_of(remote.name, **{"ed25519:x": {"minimum_valid_until_ts": later_ts}}))
        else:
            await ask(f"/query/{remote.name}?minimum_valid_until_ts={later_ts}")
    # Once: it is left alone then, whatever is wanted.
    assert len(house.finder.found) == 2


async def test_nobody_is_asked_for_more_servers_than_one_may_want(
    house: NetHouse,
    ask: Ask,
) -> None:
    names = [f"made-up-{i}.example" for i in range(3 * MAX_SERVERS)]
    assert await ask("/query", query_of(*names)) == {"server_keys": []}
    assert len(house.finder.found) == MAX_FETCHES
    for i in range(8):
        await ask("/query", query_of(*names[i * 60 :]))
    assert len(house.finder.found) < 250


async def test_strange_questions_have_answers(ask: Ask) -> None:
    assert await ask("/query", {"server_keys": {}}) == {"server_keys": []}
    assert (await ask(f"/query/{HERE}"))["server_keys"][0]["server_name"] == HERE
    await ask("/query/no%20name", status=400)
    await ask(f"/query/{HERE}?minimum_valid_until_ts=x", status=400)
    await ask("/query", {"server_keys": []}, status=400)
    await ask("/query", {}, status=400)
    await ask("/query", {"server_keys": {HERE: {"k": {"minimum_valid_until_ts": "5"}}}}, status=400)
    huge = {"minimum_valid_until_ts": 10**30}
    assert (await ask("/query", {"server_keys": {HERE: {"k": huge}}}))["server_keys"]


async def test_one_flight_for_all_who_ask(house: NetHouse, ask: Ask, remote: RemoteServer) -> None:
    found = await asyncio.gather(*(ask(f"/query/{remote.name}") for _ in range(10)))
    assert all(answer["server_keys"] for answer in found)
    assert len(house.finder.found) == 1
