"""Migrations: the files `schema/NNNN_name.sql`, applied in order, forward only.

What was applied is recorded with the file's checksum in `schema_migrations`. A database that knows a
migration this program does not, or knows it with another text, is refused: running on would guess.
"""

import hashlib
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise

import asyncpg

from hs.storage.database import StorageError, UnsuitableDatabase, open_connection

logger = logging.getLogger(__name__)

_FILE_NAME = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")

# Any constant will do; it only has to be the same for every start of this program.
_LOCK_KEY = 0x6D6174726978

# The oldest version whose planner and syntax we count on.
_OLDEST_SERVER = 140000


class MigrationError(StorageError):
    """The schema cannot be brought up to date."""


class UnknownMigration(MigrationError):
    """The database was made by a newer version of this program."""


class ChangedMigration(MigrationError):
    """The text of an applied migration is not what was applied."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of `schema/`."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, in hex."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    def __str__(self) -> str:
        return f"{self.number:04}_{self.name}"


def load_migrations() -> list[Migration]:
    """The migrations of this package, in order; MigrationError where two have one number."""
    migrations = []
    for file in resources.files("hs.storage").joinpath("schema").iterdir():
        if match := _FILE_NAME.match(file.name):
            migrations.append(Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")))
    migrations.sort(key=lambda migration: migration.number)
    for earlier, later in pairwise(migrations):
        if earlier.number == later.number:
            raise MigrationError(f"{earlier} and {later} have the same number")
    return migrations


async def migrate(
    url: str,
    migrations: Sequence[Migration] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[str]:
    """Names of the migrations applied now; the schema of the database at `url` is up to date afterwards.

    Two programs that start together take turns. `progress(done, total, name)` is called before each
    migration. Raises MigrationError, UnsuitableDatabase or DatabaseUnavailable; each migration is one
    transaction, so those before a failing one stay.
    """
    wanted = load_migrations() if migrations is None else migrations
    connection = await open_connection(url)
    try:
        await _check_suitable(connection)
        # Held by the session, not a transaction: it must span them all. Closing gives it back.
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK_KEY)
        pending = await _list_pending(connection, wanted)
        for done, migration in enumerate(pending):
            if progress is not None:
                progress(done, len(pending), str(migration))
            await _apply(connection, migration)
        return [str(migration) for migration in pending]
    finally:
        await connection.close()


async def _check_suitable(connection: asyncpg.Connection) -> None:
    row = await connection.fetchrow(
        "SELECT current_setting('server_version_num')::int AS version, current_setting('server_encoding') AS encoding, "
        "datcollate AS collation, datname AS name FROM pg_database WHERE datname = current_database()"
    )
    assert row is not None
    if row["version"] < _OLDEST_SERVER:
        raise UnsuitableDatabase(
            f"PostgreSQL {_OLDEST_SERVER // 10000} or newer is needed, this is {row['version']}"
        )
    # Ids are compared byte by byte everywhere else, and an operating system's update may silently
    # change any other order under an index.
    if row["encoding"] != "UTF8" or row["collation"] not in ("C", "C.UTF-8", "C.utf8", "POSIX"):
        raise UnsuitableDatabase(
            f"the database {row['name']} has encoding {row['encoding']} and collation {row['collation']}; make it anew: "
            f"createdb --encoding=UTF8 --locale=C --template=template0 {row['name']}"
        )


async def _list_pending(connection: asyncpg.Connection, wanted: Sequence[Migration]) -> list[Migration]:
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations (number integer PRIMARY KEY, name text NOT NULL, "
        "checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    rows = await connection.fetch("SELECT number, name, checksum FROM schema_migrations ORDER BY number")
    known = {migration.number: migration for migration in wanted}
    for row in rows:
        label = f"{row['number']:04}_{row['name']}"
        if row["number"] not in known:
            raise UnknownMigration(
                f"the database has migration {label}, which this version of hs does not know: "
                "it was made by a newer version; upgrade hs, or restore a backup from before"
            )
        if known[row["number"]].checksum != row["checksum"]:
            raise ChangedMigration(
                f"migration {label} was applied with another text than this version of hs has; "
                "install the version of hs that made the database"
            )
    applied = {row["number"] for row in rows}
    pending = [migration for migration in wanted if migration.number not in applied]
    newest = max(applied, default=0)
    if pending and pending[0].number < newest:
        raise MigrationError(f"migration {pending[0]} comes before {newest:04}, which is applied already")
    return pending


async def _apply(connection: asyncpg.Connection, migration: Migration) -> None:
    try:
        async with connection.transaction():
            await connection.execute(migration.sql)
            await connection.execute(
                "INSERT INTO schema_migrations (number, name, checksum) VALUES ($1, $2, $3)",
                migration.number,
                migration.name,
                migration.checksum,
            )
    except asyncpg.PostgresError as error:
        raise MigrationError(f"migration {migration} failed: {error}") from error
    logger.info("applied migration %s", migration)
