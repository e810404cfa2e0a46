"""The connection pool: plain reads, and writes as one transaction each.

`Database.write()` is the only way to a `Writer`, so code that changes something says so in its
signature, and what it wants to announce waits for the COMMIT.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

logger = logging.getLogger(__name__)

ReadConnection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"

# Each connection is a PostgreSQL process; more than this only queues inside the server instead of here.
DEFAULT_POOL_SIZE = 12

# Every statement of this program, so that each connection plans each one once.
_STATEMENT_CACHE_SIZE = 1000

# Compiling a plan costs more than any of our statements runs.
_SERVER_SETTINGS = {"application_name": "hs", "jit": "off"}


class StorageError(Exception):
    """The database cannot be used as it is; the message says what an operator can do."""


class DatabaseUnavailable(StorageError):
    """No connection to the database: not running, not reachable, or it does not let us in."""


class UnsuitableDatabase(StorageError):
    """The database answers but was not made for us: encoding, collation or age."""


class Writer:
    """One open transaction; exists only inside `async with database.write()`."""

    __slots__ = ("_after_commit", "_connection")

    def __init__(self, connection: ReadConnection) -> None:
        self._connection = connection
        self._after_commit: list[Callable[[], None]] = []

    async def execute(self, query: str, *args: Any) -> str:
        """The command tag of a statement, such as "INSERT 0 3"."""
        return await self._connection.execute(query, *args)

    async def executemany(self, query: str, args: Iterable[Sequence[Any]]) -> None:
        """Run one statement for each row of `args`; prefer arrays and `unnest` where it can be one statement."""
        await self._connection.executemany(query, args)

    async def fetch(self, query: str, *args: Any) -> list[asyncpg.Record]:
        """All rows."""
        return await self._connection.fetch(query, *args)

    async def fetchrow(self, query: str, *args: Any) -> asyncpg.Record | None:
        """The first row, or None."""
        return await self._connection.fetchrow(query, *args)

    async def fetchval(self, query: str, *args: Any) -> Any:
        """The first column of the first row, or None."""
        return await self._connection.fetchval(query, *args)

    async def copy_records_to_table(
        self, table: str, *, records: Iterable[Sequence[Any]], columns: Sequence[str]
    ) -> str:
        """Bulk insert by COPY; the command tag."""
        return await self._connection.copy_records_to_table(table, records=records, columns=list(columns))

    def after_commit(self, announce: Callable[[], None]) -> None:
        """Call `announce` once the COMMIT has succeeded; never if it has not. Several run in the order given."""
        self._after_commit.append(announce)


class _Connection(asyncpg.Connection):
    """A connection that goes back to the pool as it is.

    Nothing here sets anything for a session (locks, listeners, settings), and an open transaction is rolled
    back all the same; the query that would undo it doubled the round trips of every read.
    """

    def get_reset_query(self) -> str:
        """No query at all."""
        return ""


class Database:
    """A pool of connections to one PostgreSQL database."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @classmethod
    async def connect(cls, url: str, pool_size: int = DEFAULT_POOL_SIZE) -> "Database":
        """A pool for `url`; DatabaseUnavailable or UnsuitableDatabase where it cannot serve us.

        `url` is `postgresql://user:password@host:port/name`, or with `?host=/folder` for a Unix socket.
        """
        pool = asyncpg.create_pool(
            url,
            min_size=1,
            max_size=pool_size,
            statement_cache_size=_STATEMENT_CACHE_SIZE,
            max_cached_statement_lifetime=0,
            max_inactive_connection_lifetime=0,
            server_settings=_SERVER_SETTINGS,
            connection_class=_Connection,
        )
        async with _connection_errors(url):
            await pool.__aenter__()
        return cls(pool)

    async def close(self) -> None:
        """Wait for the running statements, then close every connection."""
        await self._pool.close()

    def read(self) -> AbstractAsyncContextManager[ReadConnection]:
        """A connection for several reads; each statement sees its own snapshot."""
        return self._pool.acquire()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Writer]:
        """One transaction: committed when the block ends, rolled back when it raises or is cancelled.

        A cancellation that arrives during the COMMIT takes effect after it, so that the announcements
        and the database never disagree.
        """
        async with self._pool.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            writer = Writer(connection)
            try:
                yield writer
            except BaseException:
                await _roll_back(connection, transaction)
                raise
            cancelled = await _run_to_end(transaction.commit())
            _announce(writer)
            if cancelled is not None:
                raise cancelled

    @asynccontextmanager
    async def write_once(self) -> AsyncIterator[Writer]:
        """A transaction of exactly one statement, which without BEGIN and COMMIT is one round trip.

        Committed when the statement returns; one that is cancelled or loses its connection may be, too.
        """
        async with self._pool.acquire() as connection:
            writer = Writer(connection)
            yield writer
            _announce(writer)

    async def fetch(self, query: str, *args: Any) -> list[asyncpg.Record]:
        """All rows of one read."""
        async with self._pool.acquire() as connection:
            return await connection.fetch(query, *args)

    async def fetchrow(self, query: str, *args: Any) -> asyncpg.Record | None:
        """The first row of one read, or None."""
        async with self._pool.acquire() as connection:
            return await connection.fetchrow(query, *args)

    async def fetchval(self, query: str, *args: Any) -> Any:
        """The first column of the first row of one read, or None."""
        async with self._pool.acquire() as connection:
            return await connection.fetchval(query, *args)


def is_rolled_back(error: BaseException) -> bool:
    """Whether a write that raised this has changed nothing, for certain.

    A lost connection, say, leaves it open whether a COMMIT was carried out, and trying again could do things
    twice. An error of the lesser severity rolls the transaction back.
    """
    if isinstance(error, asyncpg.DataError | asyncpg.IntegrityConstraintViolationError):
        return True
    return isinstance(error, asyncpg.PostgresError) and getattr(error, "severity_en", None) == "ERROR"


async def open_connection(url: str) -> asyncpg.Connection:
    """A single connection outside any pool; DatabaseUnavailable where there is none to be had."""
    async with _connection_errors(url):
        return await asyncpg.connect(url, server_settings=_SERVER_SETTINGS)


@asynccontextmanager
async def _connection_errors(url: str) -> AsyncIterator[None]:
    """Turns what can go wrong while connecting into DatabaseUnavailable."""
    try:
        yield
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        # The URL may hold a password; what follows the @ tells an operator enough.
        place = url.rpartition("@")[2] or url
        raise DatabaseUnavailable(f"cannot connect to the database {place}: {error}") from error


async def _run_to_end(work: Coroutine[Any, Any, None]) -> asyncio.CancelledError | None:
    """The cancellation that arrived while `work` ran; `work` itself is never interrupted by it."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
        except BaseException:
            break
    task.result()
    return cancelled


async def _roll_back(connection: ReadConnection, transaction: asyncpg.transaction.Transaction) -> None:
    try:
        await _run_to_end(transaction.rollback())
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
        # A lost connection has rolled back by itself. Dropping it keeps the pool clean, and the
        # caller gets to see the error that came first.
        logger.warning("rollback failed, dropping the connection: %s", error)
        connection.terminate()


def _announce(writer: Writer) -> None:
    for announce in writer._after_commit:
        try:
            announce()
        except Exception:
            # The transaction stands whatever a listener does, and the next listener must know too.
            logger.exception("an announcement after a commit failed")
