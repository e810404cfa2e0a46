"""Passwords, registration and overrides below HTTP."""

# ruff: noqa: F401, F811 (fixtures are imported)

import asyncio
from collections.abc import Iterator

import pytest

from hs.accounts.overrides import Limit
from hs.accounts.passwords import Passwords
from hs.matrix.errors import InvalidParam, LimitExceeded, UserInUse
from hs.storage.database import Database
from tests.account_server import AccountServer, accounts


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    """A pair of threads."""
    passwords = Passwords()
    yield passwords
    passwords.close()


async def test_a_password_fits_its_hash_only(passwords: Passwords) -> None:
    one, two = await passwords.hash("ünï ☃"), await passwords.hash("ünï ☃")
    assert one != two
    assert one.startswith("$argon2id$")
    assert await passwords.verify(one, "ünï ☃")
    assert not await passwords.verify(one, "ünï")
    assert not await passwords.verify(None, "nobody has this password")
    assert not await passwords.verify("not a hash", "ünï ☃")
    assert not await passwords.verify(one, "x" * 10_000_000)
    with pytest.raises(InvalidParam):
        await passwords.hash("x" * 5000)


async def test_the_queue_is_bounded(passwords: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hs.accounts.passwords.MAX_WAITING", 4)
    results = await asyncio.gather(*(passwords.hash("x") for _ in range(6)), return_exceptions=True)
    assert sum(isinstance(result, LimitExceeded) for result in results) == 2
    # And free again.
    assert await passwords.hash("x")


async def test_one_name_is_given_once(accounts: AccountServer, database: Database) -> None:
    results = await asyncio.gather(
        *(accounts.registration.register("alice", "p") for _ in range(5)), return_exceptions=True
    )
    assert sum(isinstance(result, UserInUse) for result in results) == 4
    assert await database.fetchval("SELECT count(*) FROM users") == 1
    accounts.passwords.close()


async def test_overrides_are_read_again_after_a_while(accounts: AccountServer, database: Database) -> None:
    user_id = "@alice:test.example"
    assert await accounts.overrides.find_override(user_id) is None
    async with database.write() as writer:
        await writer.execute("INSERT INTO ratelimit_override VALUES ($1, 5, 50)", user_id)
    assert await accounts.overrides.find_override(user_id) is None
    accounts.clock.advance(11)
    assert await accounts.overrides.find_override(user_id) == Limit(5, 50)
    async with database.write() as writer:
        await writer.execute("UPDATE ratelimit_override SET messages_per_second = NULL, burst_count = NULL")
    accounts.overrides.forget_user(user_id)
    found = await accounts.overrides.find_override(user_id)
    assert found is not None
    assert found.per_second == 0
