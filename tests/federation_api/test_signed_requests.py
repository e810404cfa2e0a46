"""Signed requests over HTTP: another server's signatures against ours, whatever the path and the body."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from hs.http.app import App
from hs.http.endpoint import Auth, RawJson, endpoint
from hs.http.rate_limit import Limit, RateLimiter
from tests.account_server import serve_app
from tests.http.test_wire import NoOverrides, NoTokens
from tests.net.house import HERE, NetHouse
from tests.remote_server import RemoteServer

PATH = "/_matrix/federation/v1/thing/"


class ThingApi:
    """Tells servers what it has understood."""

    @endpoint("GET", PATH + "{name}", auth=Auth.SERVER, limit="federation")
    async def get_thing(self, origin: str, name: str) -> dict[str, str]:
        """Who asks for what."""
        return {"origin": origin, "name": name}

    @endpoint("PUT", PATH + "{name}", auth=Auth.SERVER, limit="federation")
    async def put_thing(self, origin: str, name: str, body: RawJson) -> dict[str, Any]:
        """Who sends how much."""
        return {"origin": origin, "bytes": len(body.body)}


@pytest.fixture
async def peer(house: NetHouse, remote: RemoteServer) -> AsyncIterator[RemoteServer]:
    """A remote that reaches a server with the API above."""
    limiter = RateLimiter(True, lambda _: Limit(50, 30), NoOverrides())
    app = App([ThingApi()], NoTokens(), limiter, server_authenticator=house.check)
    async with serve_app(app) as base_url:
        remote.trust(HERE, base_url)
        yield remote


async def test_paths_and_queries_are_signed_as_they_are_sent(peer: RemoteServer, house: NetHouse) -> None:
    for path in ("%21a%3Ab", "~a", "%7ea", "a?x=1&y=%20", "%E2%98%83", "a%2Fb"):
        answer = await peer.ask_path(HERE, "GET", PATH + path)
        assert (answer.status, answer.body["origin"]) == (200, peer.name), path
    assert house.heard == [peer.name] * 6


async def test_bodies_are_signed_as_json(peer: RemoteServer) -> None:
    for body in ({}, {"b": 1, "a": "☃"}, {"a": "x" * 900_000}, {"a": 1.5, "b": [None, True]}):
        answer = await peer.ask_path(HERE, "PUT", PATH + "x", body=body)
        assert (answer.status, answer.body["origin"]) == (200, peer.name)


async def test_refusals_have_the_shape_of_the_specification(peer: RemoteServer) -> None:
    path = PATH + "x"
    right = peer.authorization(HERE, "GET", path)
    wrong = [
        None,
        "Bearer token",
        "X-Matrix",
        "X-Matrix nonsense",
        right.replace(HERE, "other.example"),
        peer.authorization("other.example", "GET", path),
        peer.authorization(HERE, "PUT", path),
        peer.authorization(HERE, "GET", path + "y"),
        peer.authorization(HERE, "GET", path, {}),
        peer.authorization(HERE, "GET", path, origin="127.0.0.1:1"),
        peer.authorization(HERE, "GET", path, key="ed25519:unknown"),
        peer.authorization(HERE, "GET", path, sig="AAAA"),
        peer.authorization(HERE, "GET", path, sig="\u2603"),
        "X-Matrix " + "a=b," * 1500,
    ]
    for header in wrong:
        headers = {} if header is None else {"Authorization": header}
        answer = await peer.ask_path(HERE, "GET", path, headers=headers, signed=False)
        assert answer.error == (401, "M_UNAUTHORIZED"), str(header)[:200]
        assert set(answer.body) == {"errcode", "error"}
    answer = await peer.ask_path(HERE, "GET", path, headers={"Authorization": right}, signed=False)
    assert answer.status == 200


async def test_nobody_can_use_up_the_limit_of_another_server(peer: RemoteServer) -> None:
    path = PATH + "x"
    forged = {"Authorization": peer.authorization(HERE, "GET", path, sig="A" * 86)}
    for _ in range(60):
        answer = await peer.ask_path(HERE, "GET", path, headers=forged, signed=False)
        assert answer.status == 401
    assert (await peer.ask_path(HERE, "GET", path)).status == 200
    statuses = {(await peer.ask_path(HERE, "GET", path)).status for _ in range(60)}
    assert 429 in statuses
