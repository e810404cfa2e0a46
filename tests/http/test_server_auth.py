"""Endpoints for other servers: what the authenticator is told, limits by origin, bodies of their own size."""

import io
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import aiohttp
from yarl import URL

from hs.http.app import App
from hs.http.endpoint import MAX_BODY_BYTES, Auth, Empty, RawJson, endpoint
from hs.http.rate_limit import Limit, RateLimiter
from hs.matrix.errors import Unauthorized
from tests.account_server import serve_app
from tests.http.test_wire import NoOverrides, NoTokens


class NamedOrigins:
    """Believes who says "Origin NAME"; remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[list[str], str, str, bytes]] = []

    async def authenticate(
        self,
        authorizations: Sequence[str],
        method: str,
        target: str,
        address: str,
        read_body: Callable[[], Awaitable[bytes]],
    ) -> str:
        if not authorizations or not authorizations[0].startswith("Origin "):
            raise Unauthorized("nobody has signed this")
        self.told.append((list(authorizations), method, target, await read_body()))
        return authorizations[0].removeprefix("Origin ")


class PeerApi:
    """Endpoints for servers."""

    @endpoint("GET", "/who/{name}", auth=Auth.SERVER, limit="federation")
    async def get_who(self, origin: str, name: str) -> dict[str, str]:
        """Who asks, and for what."""
        return {"origin": origin, "name": name}

    @endpoint("PUT", "/large", auth=Auth.SERVER, limit=None, max_body=3 * MAX_BODY_BYTES)
    async def put_large(self, body: RawJson) -> dict[str, int]:
        """How long it was."""
        return {"bytes": len(body.body)}

    @endpoint("GET", "/open", auth=Auth.NONE, limit=None)
    async def get_open(self) -> Empty:
        """For everybody."""
        return Empty()


@asynccontextmanager
async def peer_house(
    authenticator: NamedOrigins | None, limit: Limit | None = None
) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    limiter = RateLimiter(limit is not None, lambda _: limit or Limit(1, 1), NoOverrides(), lambda: 0.0)
    app = App([PeerApi()], NoTokens(), limiter, server_authenticator=authenticator)
    async with serve_app(app) as base_url, aiohttp.ClientSession() as session:
        yield base_url, session


async def test_the_target_is_told_as_it_came_with_all_headers() -> None:
    authenticator = NamedOrigins()
    async with peer_house(authenticator) as (base_url, session):
        headers = [("Authorization", "Origin a.example"), ("Authorization", "other")]
        url = f"{base_url}/who/%7euser?b=%20&a=1"
        async with session.request("GET", URL(url, encoded=True), headers=headers, data=b'{"x":1}') as answer:
            assert await answer.json() == {"origin": "a.example", "name": "~user"}
    told = [(["Origin a.example", "other"], "GET", "/who/%7euser?b=%20&a=1", b'{"x":1}')]
    assert authenticator.told == told


async def test_who_has_not_signed_is_refused() -> None:
    async with peer_house(NamedOrigins()) as (url, session), session.get(f"{url}/who/me") as answer:
        assert answer.status == 401
        assert (await answer.json())["errcode"] == "M_UNAUTHORIZED"


async def test_without_an_authenticator_they_are_not_served() -> None:
    async with peer_house(None) as (base_url, session):
        async with session.get(f"{base_url}/who/me", headers={"Authorization": "Origin a"}) as answer:
            assert answer.status == 404
            assert (await answer.json())["errcode"] == "M_UNRECOGNIZED"
        async with session.get(f"{base_url}/open") as answer:
            assert answer.status == 200


async def test_limits_count_by_origin() -> None:
    async with peer_house(NamedOrigins(), Limit(1, 2)) as (base_url, session):

        async def ask(origin: str) -> int:
            headers = {"Authorization": f"Origin {origin}"}
            async with session.get(f"{base_url}/who/me", headers=headers) as answer:
                return answer.status

        assert [await ask(origin) for origin in "aaabab"] == [200, 200, 429, 200, 429, 200]


async def test_a_body_may_be_as_long_as_its_endpoint_says() -> None:
    async with peer_house(NamedOrigins()) as (base_url, session):
        for size, status in ((2 * MAX_BODY_BYTES, 200), (3 * MAX_BODY_BYTES + 1, 413)):
            body = b'{"a":"' + b"x" * (size - 8) + b'"}'
            headers = {"Authorization": "Origin a"}
            async with session.put(f"{base_url}/large", data=io.BytesIO(body), headers=headers) as answer:
                assert answer.status == status
                if status == 200:
                    assert await answer.json() == {"bytes": size}
