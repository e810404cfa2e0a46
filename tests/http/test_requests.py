"""Who may call, how often, and what browsers are told."""

# ruff: noqa: F401, F811 (fixtures are imported)

import pytest

from hs.accounts.overrides import Limit
from hs.storage.database import Database
from tests.account_server import AccountServer, accounts, town
from tests.http.test_hostile_requests import EchoApi, echo
from tests.people import Town

WHOAMI = "/_matrix/client/v3/account/whoami"


async def whoami(town: Town, **headers: str) -> tuple[int, str | None]:
    return (await town.visitor.raw("GET", WHOAMI, headers=headers)).error


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic abc", "nonsense"])
async def test_headers_without_a_token(town: Town, header: str) -> None:
    assert await whoami(town, Authorization=header) == (401, "M_MISSING_TOKEN")


async def test_tokens(town: Town) -> None:
    alice = await town.person("alice")
    assert await whoami(town) == (401, "M_MISSING_TOKEN")
    assert await whoami(town, Authorization="Bearer nobodys") == (401, "M_UNKNOWN_TOKEN")
    assert await whoami(town, Authorization="Bearer ünï") == (401, "M_UNKNOWN_TOKEN")
    assert await whoami(town, Authorization=f"bearer {alice.token}") == (200, None)
    # Deprecated, and still sent.
    by_query = await town.visitor.raw("GET", f"{WHOAMI}?access_token={alice.token}")
    assert by_query.status == 200
    assert (await town.visitor.raw("GET", f"{WHOAMI}?access_token=")).error == (401, "M_UNKNOWN_TOKEN")


async def test_a_token_is_optional_but_never_wrong(echo: Town) -> None:
    alice = await echo.person("alice")
    assert (await echo.visitor.raw("GET", "/test/maybe")).body == {"user_id": None}
    assert (await alice.raw("GET", "/test/maybe")).body == {"user_id": alice.user_id}
    alice.token = "wrong"
    assert (await alice.raw("GET", "/test/maybe")).error == (401, "M_UNKNOWN_TOKEN")


async def test_administrators_only(accounts: AccountServer, echo: Town, database: Database) -> None:
    alice = await echo.person("alice")
    assert (await echo.visitor.raw("GET", "/test/admin")).error == (401, "M_MISSING_TOKEN")
    assert (await alice.raw("GET", "/test/admin")).error == (403, "M_FORBIDDEN")
    async with database.write() as writer:
        await writer.execute("UPDATE users SET is_admin = true")
    accounts.tokens.forget_user(alice.user_id)
    assert (await alice.raw("GET", "/test/admin")).status == 200


async def test_preflight_and_headers_for_browsers(town: Town) -> None:
    for path in (WHOAMI, "/nothing/here"):
        answer = await town.visitor.raw("OPTIONS", path, headers={"Origin": "https://client.example"})
        assert answer.status in (200, 204)
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert set(answer.headers["Access-Control-Allow-Methods"].split(", ")) == {
            "GET",
            "POST",
            "PUT",
            "DELETE",
            "OPTIONS",
        }
        allowed = answer.headers["Access-Control-Allow-Headers"].split(", ")
        assert {"X-Requested-With", "Content-Type", "Authorization"} <= set(allowed)
    for method, path in (("GET", WHOAMI), ("PATCH", WHOAMI), ("GET", "/nothing")):
        answer = await town.visitor.raw(method, path)
        assert answer.status >= 400
        assert answer.headers["Access-Control-Allow-Origin"] == "*"


async def test_addresses_are_limited(accounts: AccountServer) -> None:
    accounts.limit = Limit(0.5, 2)
    async with accounts.serve() as town:
        assert [(await town.visitor.get("login")).status for _ in range(3)] == [200, 200, 429]
        answer = await town.visitor.get("login")
        assert answer.error == (429, "M_LIMIT_EXCEEDED")
        assert answer.body["retry_after_ms"] == 2000
        assert answer.headers["Retry-After"] == "2"
        # /versions has no limit.
        assert (await town.visitor.raw("GET", "/_matrix/client/versions")).status == 200
        accounts.clock.advance(2)
        assert (await town.visitor.get("login")).status == 200
        assert (await town.visitor.get("login")).status == 429


async def test_users_are_limited_each_for_themselves(accounts: AccountServer) -> None:
    accounts.limit = Limit(1, 3)
    async with accounts.serve() as town:
        alice, bob = await town.people("alice", "bob")
        statuses = [(await alice.get("account", "whoami")).status for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        assert (await bob.get("account", "whoami")).status == 200


async def test_a_users_own_limit(accounts: AccountServer, database: Database) -> None:
    accounts.limit = Limit(1, 2)
    async with accounts.serve() as town:
        alice, bob = await town.people("alice", "bob")
        async with database.write() as writer:
            await writer.execute("INSERT INTO ratelimit_override VALUES ($1, 0, 0)", alice.user_id)
            await writer.execute("INSERT INTO ratelimit_override VALUES ($1, 1, 4)", bob.user_id)
        assert {(await alice.get("account", "whoami")).status for _ in range(10)} == {200}
        statuses = [(await bob.get("account", "whoami")).status for _ in range(5)]
        assert statuses == [200, 200, 200, 200, 429]


async def test_guessing_one_password_from_many_addresses_is_limited(accounts: AccountServer) -> None:
    accounts.limit = Limit(1, 3)
    accounts.trusts_proxy = True
    async with accounts.serve() as town:

        async def guess(number: int, user: str) -> int:
            body = b'{"type": "m.login.password", "user": "%s", "password": "guess"}' % user.encode()
            headers = {"X-Forwarded-For": f"10.0.0.{number}"}
            return (await town.visitor.raw("POST", "/_matrix/client/v3/login", body, headers=headers)).status

        statuses = [await guess(number, "alice") for number in range(5)]
        assert statuses == [403, 403, 403, 429, 429]
        assert await guess(6, "@alice:test.example") == 429
        assert await guess(7, "bob") == 403


async def test_only_a_trusted_proxy_says_where_a_request_comes_from(accounts: AccountServer) -> None:
    accounts.more_apis = [EchoApi()]
    headers = {
        "X-Forwarded-For": "203.0.113.9, 192.0.2.5",
        "X-Forwarded-Proto": "https",
        "Host": "hs.example",
    }
    async with accounts.serve() as town:
        answer = await town.visitor.raw("GET", "/test/client", headers=headers)
        assert answer.body == {"address": "127.0.0.1", "base_url": "http://hs.example"}
    trusting = AccountServer(accounts.database, more_apis=[EchoApi()], trusts_proxy=True)
    async with trusting.serve() as town:
        answer = await town.visitor.raw("GET", "/test/client", headers=headers)
        assert answer.body == {"address": "192.0.2.5", "base_url": "https://hs.example"}
