"""Accounts, their devices and access tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hs.storage.database import Database, Writer
from hs.storage.profiles import insert_untold_change
from hs.storage.refresh_tokens import NewTokens, delete_tokens, insert_tokens


@dataclass(frozen=True, slots=True)
class UserRow:
    """An account."""

    user_id: str
    password_hash: str | None
    is_admin: bool
    is_deactivated: bool
    is_locked: bool
    is_suspended: bool
    display_name: str | None
    avatar_url: str | None


@dataclass(frozen=True, slots=True)
class TokenRow:
    """Whom an access token stands for; `is_new` until the first use after a refresh."""

    user_id: str
    device_id: str
    is_admin: bool
    is_deactivated: bool
    is_locked: bool
    is_suspended: bool
    expires_ts: int | None
    is_new: bool


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """A device of a user."""

    device_id: str
    display_name: str | None
    last_seen_ts: int | None
    last_seen_ip: str | None


_USER_COLUMNS = (
    "user_id, password_hash, is_admin, is_deactivated, is_locked, is_suspended, display_name, avatar_url"
)


class UserStore:
    """Reads and writes accounts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_user(self, user_id: str) -> UserRow | None:
        """The account, or None."""
        row = await self._database.fetchrow(f"SELECT {_USER_COLUMNS} FROM users WHERE user_id = $1", user_id)
        return UserRow(**row) if row is not None else None

    async def insert_user(
        self, user_id: str, password_hash: str | None, is_admin: bool, display_name: str, now_ms: int
    ) -> bool:
        """Whether the account was made; False where the user id is taken."""
        async with self._database.write() as writer:
            tag = await writer.execute(
                "INSERT INTO users (user_id, password_hash, is_admin, display_name, created_ts) "
                "VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
                user_id,
                password_hash,
                is_admin,
                display_name,
                now_ms,
            )
        return tag == "INSERT 0 1"

    async def set_password(
        self, user_id: str, password_hash: str | None, only_device_id: str | None = None
    ) -> list[bytes]:
        """Give the account another password; None lets nobody log in with one.

        With `only_device_id` all other devices are logged out and forgotten; the hashes of their tokens.
        """
        async with self._database.write() as writer:
            await writer.execute(
                "UPDATE users SET password_hash = $2 WHERE user_id = $1", user_id, password_hash
            )
            if only_device_id is None:
                return []
            others = await writer.fetch(
                "SELECT device_id FROM devices WHERE user_id = $1 AND device_id <> $2",
                user_id,
                only_device_id,
            )
            return await _delete_devices(writer, user_id, [row["device_id"] for row in others])

    async def set_deactivated(self, user_id: str) -> list[bytes]:
        """Close the account: no password, no profile, no devices; the hashes of its tokens.

        Rooms have yet to hear of it.
        """
        async with self._database.write() as writer:
            await writer.execute(
                "UPDATE users SET is_deactivated = true, password_hash = NULL, display_name = NULL, "
                "avatar_url = NULL WHERE user_id = $1",
                user_id,
            )
            await writer.execute("DELETE FROM profile_fields WHERE user_id = $1", user_id)
            await insert_untold_change(writer, user_id, "departure")
            return await _delete_devices(writer, user_id, None)

    async def set_mark(self, user_id: str, mark: Literal["suspended", "locked"], is_set: bool) -> None:
        """Suspend or lock an account, or end that."""
        async with self._database.write() as writer:
            await writer.execute(f"UPDATE users SET is_{mark} = $2 WHERE user_id = $1", user_id, is_set)

    async def find_token(self, token_hash: bytes) -> TokenRow | None:
        """Whom the token stands for, or None."""
        row = await self._database.fetchrow(
            "SELECT t.user_id, t.device_id, u.is_admin, u.is_deactivated, u.is_locked, u.is_suspended, "
            "t.expires_ts, t.is_new "
            "FROM access_tokens t JOIN users u USING (user_id) WHERE t.token_hash = $1",
            token_hash,
        )
        return TokenRow(**row) if row is not None else None

    async def insert_device_tokens(
        self, user_id: str, device_id: str, display_name: str | None, tokens: NewTokens, now_ms: int
    ) -> list[bytes]:
        """Log a device in; the hashes of its former access tokens, which no longer count.

        A device that is there already keeps its name. Tokens of deactivated accounts are checked where
        they are used: a login that overtakes the deactivation gives nothing.
        """
        async with self._database.write() as writer:
            await writer.execute(
                # The update changes nothing but locks: of two logins of one device only one token stays.
                "INSERT INTO devices (user_id, device_id, display_name, last_seen_ts) VALUES ($1, $2, $3, $4) "
                "ON CONFLICT (user_id, device_id) DO UPDATE SET display_name = devices.display_name",
                user_id,
                device_id,
                display_name,
                now_ms,
            )
            former = await delete_tokens(writer, user_id, [device_id])
            await insert_tokens(writer, user_id, device_id, tokens, now_ms, is_new=False)
        return former

    async def delete_devices(self, user_id: str, device_ids: Sequence[str] | None) -> list[bytes]:
        """Log devices out and forget them (None: all of them); the hashes of their tokens."""
        async with self._database.write() as writer:
            return await _delete_devices(writer, user_id, device_ids)

    async def list_devices(self, user_id: str) -> list[DeviceRow]:
        """The user's devices, by id."""
        rows = await self._database.fetch(
            "SELECT device_id, display_name, last_seen_ts, last_seen_ip FROM devices WHERE user_id = $1 "
            "ORDER BY device_id",
            user_id,
        )
        return [DeviceRow(**row) for row in rows]

    async def set_device_name(self, user_id: str, device_id: str, display_name: str) -> bool:
        """Whether there is such a device; it has the name now."""
        async with self._database.write() as writer:
            tag = await writer.execute(
                "UPDATE devices SET display_name = $3 WHERE user_id = $1 AND device_id = $2",
                user_id,
                device_id,
                display_name,
            )
        return tag == "UPDATE 1"

    async def set_last_seen(self, rows: Sequence[tuple[str, str, int, str]]) -> None:
        """Note when and where devices were seen: (user_id, device_id, time in ms, address)."""
        async with self._database.write() as writer:
            await writer.execute(
                "UPDATE devices d SET last_seen_ts = n.ts, last_seen_ip = n.ip "
                "FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[]) AS n (user_id, device_id, ts, ip) "
                "WHERE d.user_id = n.user_id AND d.device_id = n.device_id",
                *([row[i] for row in rows] for i in range(4)),
            )

    async def find_override(self, user_id: str) -> tuple[int, int] | None:
        """(messages per second, burst) that an administrator has set for the user; 0 for unlimited."""
        row = await self._database.fetchrow(
            "SELECT messages_per_second, burst_count FROM ratelimit_override WHERE user_id = $1", user_id
        )
        return (row["messages_per_second"] or 0, row["burst_count"] or 0) if row is not None else None


async def _delete_devices(writer: Writer, user_id: str, device_ids: Sequence[str] | None) -> list[bytes]:
    # The devices first: that is the order in which all lock who change tokens.
    await writer.execute(
        "DELETE FROM devices WHERE user_id = $1 AND ($2::text[] IS NULL OR device_id = ANY($2))",
        user_id,
        device_ids,
    )
    return await delete_tokens(writer, user_id, device_ids)
