"""The pool: what a transaction promises when it ends well, badly, or not at all."""

import asyncio

import asyncpg
import pytest

from hs.storage.database import Database, DatabaseUnavailable


@pytest.fixture
async def numbers(database: Database) -> Database:
    async with database.write() as writer:
        await writer.execute("CREATE TABLE numbers (n bigint PRIMARY KEY)")
    return database


async def _list(database: Database) -> list[int]:
    return [row["n"] for row in await database.fetch("SELECT n FROM numbers ORDER BY n")]


async def test_a_write_is_there_after_its_block_and_announced_in_order(numbers: Database) -> None:
    heard: list[str] = []
    async with numbers.write() as writer:
        writer.after_commit(lambda: heard.append("first"))
        await writer.copy_records_to_table("numbers", records=[(1,), (2,)], columns=["n"])
        writer.after_commit(lambda: heard.append("second"))
        assert heard == []
    assert await _list(numbers) == [1, 2]
    assert heard == ["first", "second"]


async def test_a_block_that_raises_leaves_nothing_and_announces_nothing(numbers: Database) -> None:
    heard: list[str] = []
    with pytest.raises(KeyError):
        async with numbers.write() as writer:
            writer.after_commit(lambda: heard.append("never"))
            await writer.execute("INSERT INTO numbers VALUES (1)")
            raise KeyError("stop")
    assert await _list(numbers) == []
    assert heard == []


async def test_a_commit_that_fails_announces_nothing(numbers: Database) -> None:
    await numbers.fetch("ALTER TABLE numbers ADD CONSTRAINT late UNIQUE (n) DEFERRABLE INITIALLY DEFERRED")
    await numbers.fetch("ALTER TABLE numbers DROP CONSTRAINT numbers_pkey")
    heard: list[str] = []
    with pytest.raises(asyncpg.UniqueViolationError):
        async with numbers.write() as writer:
            writer.after_commit(lambda: heard.append("never"))
            await writer.execute("INSERT INTO numbers VALUES (1), (1)")
    assert heard == []
    assert await _list(numbers) == []


async def test_one_listener_that_fails_does_not_silence_the_next(
    numbers: Database, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []
    async with numbers.write() as writer:
        writer.after_commit(lambda: heard.append([][0]))
        writer.after_commit(lambda: heard.append("told"))
        await writer.execute("INSERT INTO numbers VALUES (1)")
    assert heard == ["told"]
    assert await _list(numbers) == [1]
    assert "announcement" in caplog.text


async def test_cancelled_inside_a_statement_rolls_back_and_frees_the_connection(numbers: Database) -> None:
    inside = asyncio.Event()

    async def write_slowly() -> None:
        async with numbers.write() as writer:
            await writer.execute("INSERT INTO numbers VALUES (1)")
            inside.set()
            await writer.execute("SELECT pg_sleep(60)")

    # More rounds than the pool has connections: one that leaks would starve the last.
    for _ in range(8):
        inside.clear()
        task = asyncio.create_task(write_slowly())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await _list(numbers) == []


async def test_cancelled_during_the_commit_still_announces_what_was_committed(numbers: Database) -> None:
    async with numbers.read() as connection:
        # Runs inside the COMMIT, which makes it last.
        await connection.execute(
            "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END $$; "
            "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON numbers DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION dawdle()"
        )
    heard: list[int] = []

    async def write() -> None:
        async with numbers.write() as writer:
            await writer.execute("INSERT INTO numbers VALUES (1)")
            writer.after_commit(lambda: heard.append(1))

    task = asyncio.create_task(write())
    committing = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COMMIT%' AND state = 'active'"
    while not await numbers.fetchval(committing):
        assert not task.done()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await _list(numbers) == [1]
    assert heard == [1]


async def test_cancelled_at_any_moment_row_and_announcement_agree(numbers: Database) -> None:
    for n in range(1, 60):
        heard: list[int] = []

        async def write(n: int = n, heard: list[int] = heard) -> None:
            async with numbers.write() as writer:
                await writer.execute("INSERT INTO numbers VALUES ($1)", n)
                writer.after_commit(lambda: heard.append(n))

        task = asyncio.create_task(write())
        await asyncio.wait([task], timeout=n * 0.0001)
        task.cancel()
        await asyncio.wait([task])
        assert (n in await _list(numbers)) == (heard == [n])


async def test_a_lost_connection_raises_and_the_next_write_works(numbers: Database) -> None:
    # Which error it is depends on how far the server's farewell has come.
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)):
        async with numbers.write() as writer:
            pid = await writer.fetchval("SELECT pg_backend_pid()")
            await numbers.fetchval("SELECT pg_terminate_backend($1)", pid)
            await writer.execute("INSERT INTO numbers VALUES (1)")
    async with numbers.write() as writer:
        await writer.execute("INSERT INTO numbers VALUES (2)")
    assert await _list(numbers) == [2]


async def test_reads_return_rows_a_row_and_a_value(numbers: Database) -> None:
    async with numbers.write() as writer:
        await writer.executemany("INSERT INTO numbers VALUES ($1)", [(1,), (2,)])
        assert await writer.fetchval("SELECT count(*) FROM numbers") == 2
        assert [r["n"] for r in await writer.fetch("SELECT n FROM numbers ORDER BY n")] == [1, 2]
        assert await writer.fetchrow("SELECT n FROM numbers WHERE n = 3") is None
    row = await numbers.fetchrow("SELECT n FROM numbers WHERE n = 2")
    assert row is not None
    assert row["n"] == 2
    assert await numbers.fetchval("SELECT n FROM numbers WHERE n = 3") is None
    async with numbers.read() as connection:
        assert await connection.fetchval("SELECT max(n) FROM numbers") == 2


async def test_json_and_bytes_come_as_they_are(database: Database) -> None:
    assert await database.fetchval("""SELECT '{"a": 1}'::jsonb""") == '{"a": 1}'


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://hs:secret@127.0.0.1:1/hs",
        "postgresql://hs:secret@/hs?host=/nowhere&port=5432",
        "postgresql://hs:secret@127.0.0.1:no/hs",
    ],
)
async def test_an_unreachable_database_says_where_but_not_the_password(url: str) -> None:
    with pytest.raises(DatabaseUnavailable) as raised:
        await Database.connect(url)
    assert "secret" not in str(raised.value)
    assert "cannot connect" in str(raised.value)
