"""Databases on the shared PostgreSQL of a test run, cloned from a migrated template."""

import itertools

import asyncpg

from hs.storage.migrate import migrate

_TEMPLATE = "hs_template"
_numbers = itertools.count(1)


async def make_template(admin_url: str) -> None:
    """Make what the databases are cloned from."""
    await _run(admin_url, f"CREATE DATABASE {_TEMPLATE}")
    await migrate(_url_of(admin_url, _TEMPLATE))


async def make_database(admin_url: str, *, is_empty: bool = False) -> str:
    """The address of a new database with our schema and nothing in it, or without even that."""
    name = f"test_{next(_numbers)}"
    await _run(admin_url, f"CREATE DATABASE {name}" + ("" if is_empty else f" TEMPLATE {_TEMPLATE}"))
    return _url_of(admin_url, name)


async def drop_database(admin_url: str, url: str) -> None:
    """Drop it, whoever is still connected."""
    name = url.partition("@/")[2].partition("?")[0]
    await _run(admin_url, f"DROP DATABASE {name} WITH (FORCE)")


async def _run(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _url_of(url: str, name: str) -> str:
    return url.replace("@/hs?", f"@/{name}?")
