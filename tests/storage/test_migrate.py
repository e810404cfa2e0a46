"""Migrations: forward, once, together or not at all, and never over something unknown."""

import asyncio

import asyncpg
import pytest

from hs.storage.database import UnsuitableDatabase
from hs.storage.migrate import (
    ChangedMigration,
    Migration,
    MigrationError,
    UnknownMigration,
    load_migrations,
    migrate,
)

ONE = Migration(1, "one", "CREATE TABLE one (a bigint); INSERT INTO one VALUES (1);")
TWO = Migration(2, "two", "CREATE TABLE two (a bigint); INSERT INTO one VALUES (2);")


async def _fetchval(url: str, query: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_migrations_run_in_order_and_once(empty_database_url: str) -> None:
    told: list[tuple[int, int, str]] = []
    assert await migrate(empty_database_url, [ONE]) == ["0001_one"]
    assert await migrate(empty_database_url, [ONE, TWO], lambda *step: told.append(step)) == ["0002_two"]
    assert await migrate(empty_database_url, [ONE, TWO]) == []
    assert told == [(0, 1, "0002_two")]
    assert await _fetchval(empty_database_url, "SELECT sum(a) FROM one") == 3


async def test_two_starts_at_once_take_turns(empty_database_url: str) -> None:
    slow = Migration(1, "slow", "SELECT pg_sleep(0.2); CREATE TABLE one (a bigint);")
    applied = await asyncio.gather(*(migrate(empty_database_url, [slow, TWO]) for _ in range(4)))
    assert sorted(applied) == [[], [], [], ["0001_slow", "0002_two"]]


async def test_a_failing_migration_leaves_nothing_of_itself(empty_database_url: str) -> None:
    broken = Migration(2, "broken", "CREATE TABLE two (a bigint); SELECT 1 / 0;")
    with pytest.raises(MigrationError, match="0002_broken failed: division by zero"):
        await migrate(empty_database_url, [ONE, broken])
    assert await _fetchval(empty_database_url, "SELECT to_regclass('two')") is None
    assert await _fetchval(empty_database_url, "SELECT array_agg(number) FROM schema_migrations") == [1]
    assert await migrate(empty_database_url, [ONE, TWO]) == ["0002_two"]


async def test_a_database_of_a_newer_version_is_refused(empty_database_url: str) -> None:
    await migrate(empty_database_url, [ONE, TWO])
    with pytest.raises(UnknownMigration, match="0002_two"):
        await migrate(empty_database_url, [ONE])


async def test_a_changed_migration_is_refused(empty_database_url: str) -> None:
    await migrate(empty_database_url, [ONE])
    with pytest.raises(ChangedMigration, match="0001_one"):
        await migrate(empty_database_url, [Migration(1, "one", ONE.sql + " ")])


async def test_a_migration_that_comes_before_applied_ones_is_refused(empty_database_url: str) -> None:
    await migrate(empty_database_url, [Migration(2, "two", "CREATE TABLE two (a bigint)")])
    with pytest.raises(MigrationError, match="0001_one comes before 0002"):
        await migrate(empty_database_url, [ONE, Migration(2, "two", "CREATE TABLE two (a bigint)")])


async def test_a_database_with_another_order_of_text_is_refused(empty_database_url: str) -> None:
    name = "test_other_locale"
    connection = await asyncpg.connect(empty_database_url)
    try:
        await connection.execute(
            f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0",
        )
        own = await connection.fetchval("SELECT current_database()")
        with pytest.raises(UnsuitableDatabase, match="createdb --encoding=UTF8 --locale=C"):
            await migrate(empty_database_url.replace(str(own), name))
    finally:
        await connection.execute(f"DROP DATABASE IF EXISTS {name}")
        await connection.close()


def test_our_migrations_have_their_own_numbers_and_start_at_one() -> None:
    numbers = [migration.number for migration in load_migrations()]
    assert numbers[0] == 1
    assert len(set(numbers)) == len(numbers)
