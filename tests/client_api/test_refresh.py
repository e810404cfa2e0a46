"""Sessions that are renewed with refresh tokens."""

# ruff: noqa: F401, F811 (fixtures are imported)

import asyncio
from typing import Any

import pytest

from hs.accounts.tokens import TokenLifetimes
from hs.storage.database import Database
from tests.account_server import AccountServer, accounts, town
from tests.people import Answer, Town

PASSWORD = "correct horse battery staple"
HOUR_S = 3600


@pytest.fixture
async def alice(accounts: AccountServer) -> str:
    """A registered user id."""
    return await accounts.registration.register("alice", PASSWORD)


async def log_in(town: Town, **more: Any) -> Any:
    body = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": "alice"},
        "password": PASSWORD,
        "refresh_token": True,
        **more,
    }
    answer = await town.visitor.post("login", body=body)
    assert answer.status == 200, answer
    return answer.body


async def refresh(town: Town, tokens: Any) -> Answer:
    return await town.visitor.post("refresh", body={"refresh_token": tokens["refresh_token"]})


async def whoami(town: Town, tokens: Any) -> Answer:
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    return await town.visitor.raw("GET", "/_matrix/client/v3/account/whoami", headers=headers)


async def test_clients_that_cannot_refresh_are_given_nothing_to_refresh(town: Town, alice: str) -> None:
    for more in ({"refresh_token": False}, {"refresh_token": False, "device_id": "PHONE"}):
        body = await log_in(town, **more)
        assert "refresh_token" not in body
        assert "expires_in_ms" not in body


async def test_a_token_ends_and_is_renewed(accounts: AccountServer, town: Town, alice: str) -> None:
    first = await log_in(town, device_id="PHONE")
    assert first["expires_in_ms"] == HOUR_S * 1000
    accounts.clock.advance(HOUR_S - 1)
    assert (await whoami(town, first)).status == 200
    accounts.clock.advance(1)
    for _ in range(2):
        ended = await whoami(town, first)
        assert ended.error == (401, "M_UNKNOWN_TOKEN")
        assert ended.body["soft_logout"] is True
    second = (await refresh(town, first)).body
    assert second["expires_in_ms"] == HOUR_S * 1000
    assert (await whoami(town, second)).body["device_id"] == "PHONE"


async def test_a_token_that_has_ended_is_refused_after_a_restart(
    accounts: AccountServer, town: Town, alice: str
) -> None:
    first = await log_in(town)
    accounts.clock.advance(HOUR_S)
    accounts.tokens.forget_user(alice)
    assert (await whoami(town, first)).body["soft_logout"] is True


async def test_a_registration_can_be_renewed(town: Town) -> None:
    body = {
        "username": "bob",
        "password": PASSWORD,
        "refresh_token": True,
        "auth": {"type": "m.login.dummy"},
    }
    first = (await town.visitor.post("register", body=body)).body
    assert first["expires_in_ms"] == HOUR_S * 1000
    assert (await whoami(town, (await refresh(town, first)).body)).status == 200


@pytest.mark.parametrize("use", ["access token", "refresh token"])
async def test_old_tokens_end_with_the_first_use_of_the_new_ones(town: Town, alice: str, use: str) -> None:
    first = await log_in(town)
    second = (await refresh(town, first)).body
    # The answer might have been lost: nothing has ended yet.
    assert (await whoami(town, first)).status == 200
    if use == "access token":
        assert (await whoami(town, second)).status == 200
        newest = second
    else:
        newest = (await refresh(town, second)).body
    assert (await whoami(town, first)).error == (401, "M_UNKNOWN_TOKEN")
    gone = await refresh(town, first)
    assert gone.error == (401, "M_UNKNOWN_TOKEN")
    assert gone.body["soft_logout"] is False
    assert (await whoami(town, newest)).status == 200
    assert (await refresh(town, newest)).status == 200


async def test_a_refresh_can_be_repeated_until_its_answer_is_used(town: Town, alice: str) -> None:
    first = await log_in(town)
    lost = (await refresh(town, first)).body
    second = (await refresh(town, first)).body
    # What was given before has ended, so that nobody else can have it.
    assert (await whoami(town, lost)).error == (401, "M_UNKNOWN_TOKEN")
    assert (await refresh(town, lost)).error == (401, "M_UNKNOWN_TOKEN")
    assert (await whoami(town, second)).status == 200
    assert (await refresh(town, first)).error == (401, "M_UNKNOWN_TOKEN")


async def test_refreshes_at_the_same_time_leave_one_pair(
    accounts: AccountServer, town: Town, alice: str
) -> None:
    first = await log_in(town)
    pairs = [answer.body for answer in await asyncio.gather(*(refresh(town, first) for _ in range(8)))]
    statuses = [(await whoami(town, pair)).status for pair in pairs]
    assert sorted(statuses) == [200] + [401] * 7
    for table in ("access_tokens", "refresh_tokens"):
        assert await accounts.database.fetchval(f"SELECT count(*) FROM {table}") == 1


async def test_a_new_token_is_used_by_many_requests_at_once(town: Town, alice: str) -> None:
    second = (await refresh(town, await log_in(town))).body
    answers = await asyncio.gather(*(whoami(town, second) for _ in range(8)))
    assert [answer.status for answer in answers] == [200] * 8


@pytest.mark.parametrize("end", ["logout", "login", "password", "deactivate"])
async def test_refresh_tokens_end_with_their_session(
    accounts: AccountServer, town: Town, alice: str, end: str
) -> None:
    first = await log_in(town, device_id="PHONE")
    second = (await refresh(town, first)).body
    if end == "logout":
        headers = {"Authorization": f"Bearer {first['access_token']}"}
        assert (await town.visitor.raw("POST", "/_matrix/client/v3/logout", headers=headers)).status == 200
    elif end == "login":
        await log_in(town, device_id="PHONE")
    elif end == "password":
        await accounts.tokens.revoke(alice, accounts.users.set_password(alice, "hash", "OTHER"))
    else:
        await accounts.tokens.deactivate(alice)
    for pair in (first, second):
        assert (await refresh(town, pair)).error == (401, "M_UNKNOWN_TOKEN")
        assert (await whoami(town, pair)).error == (401, "M_UNKNOWN_TOKEN")


async def test_a_locked_user_cannot_refresh(accounts: AccountServer, town: Town, alice: str) -> None:
    first = await log_in(town)
    async with accounts.database.write() as writer:
        await writer.execute("UPDATE users SET is_locked = true")
    assert (await refresh(town, first)).error == (401, "M_USER_LOCKED")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({}, (400, "M_BAD_JSON")),
        ({"refresh_token": 1}, (400, "M_BAD_JSON")),
        ({"refresh_token": ""}, (401, "M_UNKNOWN_TOKEN")),
        ({"refresh_token": "a\x00b"}, (401, "M_UNKNOWN_TOKEN")),
        ({"refresh_token": "hsr_nobody"}, (401, "M_UNKNOWN_TOKEN")),
    ],
)
async def test_wrong_refreshes(town: Town, body: dict[str, Any], error: tuple[int, str]) -> None:
    assert (await town.visitor.post("refresh", body=body)).error == error


async def test_the_two_kinds_of_tokens_are_not_mixed_up(town: Town, alice: str) -> None:
    first = await log_in(town)
    swapped = {"access_token": first["refresh_token"], "refresh_token": first["access_token"]}
    assert (await whoami(town, swapped)).error == (401, "M_UNKNOWN_TOKEN")
    assert (await refresh(town, swapped)).error == (401, "M_UNKNOWN_TOKEN")


async def test_lifetimes_are_configured(database: Database) -> None:
    lifetimes = TokenLifetimes(access_s=60, refresh_s=120, unrefreshable_s=30)
    accounts = AccountServer(database, lifetimes=lifetimes)
    async with accounts.serve() as town:
        await accounts.registration.register("alice", PASSWORD)
        plain = await log_in(town, refresh_token=False)
        assert plain["expires_in_ms"] == 30_000
        first = await log_in(town)
        assert first["expires_in_ms"] == 60_000
        accounts.clock.advance(30)
        assert (await whoami(town, plain)).body["soft_logout"] is True
        assert (await whoami(town, first)).status == 200
        accounts.clock.advance(89)
        second = (await refresh(town, first)).body
        accounts.clock.advance(119)
        third = (await refresh(town, second)).body
        accounts.clock.advance(120)
        late = await refresh(town, third)
        assert late.error == (401, "M_UNKNOWN_TOKEN")
        # The device is still there: the password brings its session back.
        assert late.body["soft_logout"] is True


async def test_tokens_may_last(database: Database) -> None:
    accounts = AccountServer(database, lifetimes=TokenLifetimes(access_s=0))
    async with accounts.serve() as town:
        await accounts.registration.register("alice", PASSWORD)
        first = await log_in(town)
        assert "expires_in_ms" not in first
        accounts.clock.advance(10**9)
        assert (await whoami(town, first)).status == 200
        assert (await refresh(town, first)).status == 200
