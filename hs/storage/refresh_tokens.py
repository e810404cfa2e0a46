"""Pairs of an access token and a refresh token, and how one takes the place of the other.

Whoever changes the tokens of a device locks the device first, so that such changes take turns.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from hs.storage.database import Database, Writer


@dataclass(frozen=True, slots=True)
class NewTokens:
    """What is stored of tokens that are handed out; expiry in milliseconds since 1970, None for never."""

    access_hash: bytes
    access_expires_ts: int | None
    refresh_hash: bytes | None
    refresh_expires_ts: int | None


@dataclass(frozen=True, slots=True)
class RefreshTokenRow:
    """Whom a refresh token stands for."""

    user_id: str
    device_id: str
    expires_ts: int | None
    is_new: bool
    is_locked: bool


class RefreshTokenStore:
    """Replaces tokens by others."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_token(self, refresh_hash: bytes) -> RefreshTokenRow | None:
        """Whom the refresh token stands for, or None."""
        row = await self._database.fetchrow(
            "SELECT r.user_id, r.device_id, r.expires_ts, r.is_new, u.is_locked "
            "FROM refresh_tokens r JOIN users u USING (user_id) "
            "WHERE r.token_hash = $1 AND NOT u.is_deactivated",
            refresh_hash,
        )
        return RefreshTokenRow(**row) if row is not None else None

    async def replace(
        self, user_id: str, device_id: str, used: bytes, new: NewTokens, now_ms: int
    ) -> Sequence[bytes] | None:
        """Store a new pair beside the one of the refresh token `used`; hashes of access tokens that end by it.

        None where that token has ended meanwhile. What an earlier use of it gave ends; where it is new
        itself, its pair is in use now and the one before it ends.
        """
        async with self._database.write() as writer:
            await _lock_device(writer, user_id, device_id)
            is_new = await writer.fetchval("SELECT is_new FROM refresh_tokens WHERE token_hash = $1", used)
            if is_new is None:
                return None
            ended = await _delete_pair(writer, user_id, device_id, is_new=not is_new)
            if is_new:
                await _set_in_use(writer, user_id, device_id)
            await insert_tokens(writer, user_id, device_id, new, now_ms, is_new=True)
            return ended

    async def confirm(self, user_id: str, device_id: str, access_hash: bytes) -> Sequence[bytes] | None:
        """The new pair of this access token is in use: hashes of access tokens that end by it.

        None where the token has ended meanwhile.
        """
        async with self._database.write() as writer:
            await _lock_device(writer, user_id, device_id)
            is_new = await writer.fetchval(
                "SELECT is_new FROM access_tokens WHERE token_hash = $1", access_hash
            )
            if is_new is None:
                return None
            if not is_new:
                return []
            ended = await _delete_pair(writer, user_id, device_id, is_new=False)
            await _set_in_use(writer, user_id, device_id)
            return ended


async def insert_tokens(
    writer: Writer, user_id: str, device_id: str, tokens: NewTokens, now_ms: int, *, is_new: bool
) -> None:
    """Store tokens of a device; `is_new` where they are to take the place of others."""
    await writer.execute(
        "INSERT INTO access_tokens (token_hash, user_id, device_id, created_ts, expires_ts, is_new) "
        "VALUES ($1, $2, $3, $4, $5, $6)",
        tokens.access_hash,
        user_id,
        device_id,
        now_ms,
        tokens.access_expires_ts,
        is_new,
    )
    if tokens.refresh_hash is not None:
        await writer.execute(
            "INSERT INTO refresh_tokens (token_hash, user_id, device_id, expires_ts, is_new) "
            "VALUES ($1, $2, $3, $4, $5)",
            tokens.refresh_hash,
            user_id,
            device_id,
            tokens.refresh_expires_ts,
            is_new,
        )


async def delete_tokens(writer: Writer, user_id: str, device_ids: Sequence[str] | None) -> list[bytes]:
    """End all tokens of devices (None: of all); the hashes of the access tokens among them."""
    await writer.execute(
        "DELETE FROM refresh_tokens WHERE user_id = $1 AND ($2::text[] IS NULL OR device_id = ANY($2))",
        user_id,
        device_ids,
    )
    rows = await writer.fetch(
        "DELETE FROM access_tokens WHERE user_id = $1 AND ($2::text[] IS NULL OR device_id = ANY($2)) "
        "RETURNING token_hash",
        user_id,
        device_ids,
    )
    return _hashes(rows)


async def _lock_device(writer: Writer, user_id: str, device_id: str) -> None:
    await writer.execute(
        "SELECT FROM devices WHERE user_id = $1 AND device_id = $2 FOR UPDATE", user_id, device_id
    )


async def _delete_pair(writer: Writer, user_id: str, device_id: str, *, is_new: bool) -> list[bytes]:
    await writer.execute(
        "DELETE FROM refresh_tokens WHERE user_id = $1 AND device_id = $2 AND is_new = $3",
        user_id,
        device_id,
        is_new,
    )
    rows = await writer.fetch(
        "DELETE FROM access_tokens WHERE user_id = $1 AND device_id = $2 AND is_new = $3 RETURNING token_hash",
        user_id,
        device_id,
        is_new,
    )
    return _hashes(rows)


async def _set_in_use(writer: Writer, user_id: str, device_id: str) -> None:
    for table in ("access_tokens", "refresh_tokens"):
        await writer.execute(
            f"UPDATE {table} SET is_new = false WHERE user_id = $1 AND device_id = $2 AND is_new",
            user_id,
            device_id,
        )


def _hashes(rows: Sequence[asyncpg.Record]) -> list[bytes]:
    return [row["token_hash"] for row in rows]
