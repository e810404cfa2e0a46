"""Access tokens and when devices were last seen."""

# ruff: noqa: F401, F811 (fixtures are imported)

import asyncio

import pytest

from hs.accounts.callers import ClientInfo
from hs.matrix.errors import UnknownToken
from hs.storage.database import Database
from tests.account_server import AccountServer, accounts

CLIENT = ClientInfo("192.0.2.7", "test", "https://test.example")


@pytest.fixture
async def alice(accounts: AccountServer) -> str:
    """A user id."""
    return await accounts.registration.register("alice", None)


async def seen(database: Database) -> tuple[int | None, str | None]:
    row = await database.fetchrow("SELECT last_seen_ts, last_seen_ip FROM devices")
    assert row is not None
    return row["last_seen_ts"], row["last_seen_ip"]


async def test_a_token_stands_for_its_user_and_device(accounts: AccountServer, alice: str) -> None:
    token = (await accounts.tokens.issue(alice, "PHONE", None)).access_token
    for _ in range(2):
        caller = await accounts.tokens.authenticate(token, CLIENT)
        assert (caller.user_id, caller.device_id, caller.is_admin) == (alice, "PHONE", False)
    await accounts.tokens.close()


@pytest.mark.parametrize("token", ["", "hs_", "x" * 100_000, "☃", "\udcff", "a\x00b"])
async def test_unknown_tokens(accounts: AccountServer, token: str) -> None:
    with pytest.raises(UnknownToken) as raised:
        await accounts.tokens.authenticate(token, CLIENT)
    assert raised.value.extra == {"soft_logout": False}


async def test_last_seen_is_written_when_the_server_stops(
    accounts: AccountServer, alice: str, database: Database
) -> None:
    token = (await accounts.tokens.issue(alice, "PHONE", None)).access_token
    logged_in = (accounts.clock.ms, None)
    for _ in range(3):
        accounts.clock.advance(1)
        await accounts.tokens.authenticate(token, CLIENT)
    assert await seen(database) == logged_in
    await accounts.tokens.close()
    assert await seen(database) == (accounts.clock.ms, "192.0.2.7")


async def test_last_seen_is_written_once_in_a_while(
    accounts: AccountServer, alice: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hs.accounts.tokens.FLUSH_INTERVAL_S", 0.01)
    token = (await accounts.tokens.issue(alice, "PHONE", None)).access_token
    for _ in range(2):
        accounts.clock.advance(1)
        await accounts.tokens.authenticate(token, CLIENT)
        async with asyncio.timeout(30):
            # Nothing tells when the write is done, and the second round shows that the timer starts again.
            while await seen(database) != (accounts.clock.ms, "192.0.2.7"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    await accounts.tokens.close()


async def test_a_lookup_that_a_logout_overtakes_is_not_remembered(
    accounts: AccountServer, alice: str, database: Database
) -> None:
    """However the two interleave, the token is dead afterwards."""
    for _ in range(20):
        token = (await accounts.tokens.issue(alice, "PHONE", None)).access_token
        await asyncio.gather(
            *(accounts.tokens.authenticate(token, CLIENT) for _ in range(3)),
            accounts.tokens.delete_devices(alice, ["PHONE"]),
            *(accounts.tokens.authenticate(token, CLIENT) for _ in range(3)),
            return_exceptions=True,
        )
        with pytest.raises(UnknownToken):
            await accounts.tokens.authenticate(token, CLIENT)
    await accounts.tokens.close()


async def test_logins_of_one_device_at_the_same_time_leave_one_token(
    accounts: AccountServer, alice: str, database: Database
) -> None:
    logins = await asyncio.gather(*(accounts.tokens.issue(alice, "PHONE", None, True) for _ in range(10)))
    results = await asyncio.gather(
        *(accounts.tokens.authenticate(login.access_token, CLIENT) for login in logins),
        return_exceptions=True,
    )
    assert sum(not isinstance(result, UnknownToken) for result in results) == 1
    assert await database.fetchval("SELECT count(*) FROM access_tokens") == 1
    await accounts.tokens.close()


async def test_a_login_that_a_deactivation_overtakes_gives_nothing(
    accounts: AccountServer, alice: str
) -> None:
    await accounts.tokens.deactivate(alice)
    token = (await accounts.tokens.issue(alice, "PHONE", None)).access_token
    with pytest.raises(UnknownToken):
        await accounts.tokens.authenticate(token, CLIENT)


async def test_a_logout_that_is_cut_off_is_not_half_done(
    accounts: AccountServer, alice: str, database: Database
) -> None:
    """Whenever the client hangs up: what the database says of the token is what counts."""
    for turns in range(12):
        token = (await accounts.tokens.issue(alice, "PHONE", None)).access_token
        await accounts.tokens.authenticate(token, CLIENT)
        logout = asyncio.create_task(accounts.tokens.delete_devices(alice, ["PHONE"]))
        for _ in range(turns):
            await asyncio.sleep(0)
        logout.cancel()
        await asyncio.gather(logout, return_exceptions=True)
        is_stored = await database.fetchval("SELECT count(*) FROM access_tokens") == 1
        results = await asyncio.gather(accounts.tokens.authenticate(token, CLIENT), return_exceptions=True)
        assert isinstance(results[0], UnknownToken) == (not is_stored)
    await accounts.tokens.close()
