"""Profiles, and which of their changes rooms have yet to hear of."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from hs.storage.database import Database, Writer

_COLUMNS = {"displayname": "display_name", "avatar_url": "avatar_url"}


@dataclass(frozen=True, slots=True)
class ProfileRow:
    """The profile of an account that is open; `has_fields` where there is more in `list_fields`."""

    display_name: str | None
    avatar_url: str | None
    has_fields: bool


@dataclass(frozen=True, slots=True)
class UntoldChange:
    """A change of an account that rooms have yet to hear of; `kind` is "profile" or "departure"."""

    user_id: str
    kind: str
    change: int


class ProfileStore:
    """Reads and writes profiles."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_profile(self, user_id: str) -> ProfileRow | None:
        """The profile; None where there is no such account, or it is closed."""
        row = await self._database.fetchrow(
            "SELECT display_name, avatar_url, "
            "EXISTS (SELECT FROM profile_fields f WHERE f.user_id = u.user_id) AS has_fields "
            "FROM users u WHERE user_id = $1 AND NOT is_deactivated",
            user_id,
        )
        return ProfileRow(**row) if row is not None else None

    async def list_fields(self, user_id: str) -> list[tuple[str, bytes]]:
        """(field, JSON) of all but the display name and the avatar, by field."""
        rows = await self._database.fetch(
            "SELECT field, value FROM profile_fields WHERE user_id = $1 ORDER BY field", user_id
        )
        return [(row["field"], row["value"]) for row in rows]

    async def find_field(self, user_id: str, field: str) -> bytes | None:
        """The JSON of one field that is neither display name nor avatar, or None."""
        found: bytes | None = await self._database.fetchval(
            "SELECT value FROM profile_fields WHERE user_id = $1 AND field = $2", user_id, field
        )
        return found

    async def set_name(self, user_id: str, field: str, value: str | None, max_bytes: int) -> bool:
        """Whether `displayname` or `avatar_url` was set (None takes it away), and rooms are to hear of it.

        False where the profile as JSON would exceed `max_bytes`, or the account is closed.
        """
        async with self._database.write() as writer:
            fits = await _fits(writer, user_id, field, _size_of_text(field, value), max_bytes)
            if fits:
                await writer.execute(
                    f"UPDATE users SET {_COLUMNS[field]} = $2 WHERE user_id = $1", user_id, value
                )
                await insert_untold_change(writer, user_id, "profile")
            return fits

    async def set_field(self, user_id: str, field: str, value: bytes, max_bytes: int) -> bool:
        """Whether another field was set to the JSON; False as for `set_name`."""
        async with self._database.write() as writer:
            fits = await _fits(writer, user_id, field, _size(len(field), len(value)), max_bytes)
            if fits:
                await writer.execute(
                    "INSERT INTO profile_fields (user_id, field, value) VALUES ($1, $2, $3) "
                    "ON CONFLICT (user_id, field) DO UPDATE SET value = excluded.value",
                    user_id,
                    field,
                    value,
                )
            return fits

    async def delete_field(self, user_id: str, field: str) -> None:
        """Take another field away, if it is there."""
        async with self._database.write() as writer:
            await writer.execute(
                "DELETE FROM profile_fields WHERE user_id = $1 AND field = $2", user_id, field
            )

    async def find_untold_change(self, user_id: str) -> UntoldChange | None:
        """What rooms have yet to hear of the user, or None."""
        row = await self._database.fetchrow(
            "SELECT user_id, kind, change FROM untold_changes WHERE user_id = $1", user_id
        )
        return UntoldChange(**row) if row is not None else None

    async def list_untold_users(self, after: str, limit: int) -> Sequence[str]:
        """Users of whom rooms have yet to hear something, by id: the next ones after `after`."""
        rows = await self._database.fetch(
            "SELECT user_id FROM untold_changes WHERE user_id > $1 ORDER BY user_id LIMIT $2", after, limit
        )
        return [row["user_id"] for row in rows]

    async def delete_untold_change(self, told: UntoldChange) -> None:
        """All rooms have heard; a later change of the user stays."""
        async with self._database.write() as writer:
            await writer.execute(
                "DELETE FROM untold_changes WHERE user_id = $1 AND change = $2", told.user_id, told.change
            )


async def insert_untold_change(writer: Writer, user_id: str, kind: str) -> None:
    """Rooms are to hear of a change of the account that this transaction makes."""
    await writer.execute(
        "INSERT INTO untold_changes AS u (user_id, kind, change) VALUES ($1, $2, 1) "
        "ON CONFLICT (user_id) DO UPDATE SET kind = excluded.kind, change = u.change + 1",
        user_id,
        kind,
    )


async def _fits(writer: Writer, user_id: str, field: str, size: int, max_bytes: int) -> bool:
    # The lock makes changes of one profile take turns: two that fit alone may not fit together.
    row = await writer.fetchrow(
        "SELECT display_name, avatar_url FROM users WHERE user_id = $1 AND NOT is_deactivated FOR UPDATE",
        user_id,
    )
    if row is None:
        return False
    others = await writer.fetchrow(
        "SELECT count(*) AS number, coalesce(sum(octet_length(field)), 0) AS names, "
        "coalesce(sum(octet_length(value)), 0) AS contents "
        "FROM profile_fields WHERE user_id = $1 AND field <> $2",
        user_id,
        field,
    )
    assert others is not None
    total = 1 + size + _size(others["names"], others["contents"], others["number"])
    total += sum(_size_of_text(n, row[column]) for n, column in _COLUMNS.items() if n != field)
    return total <= max_bytes


def _size_of_text(field: str, value: str | None) -> int:
    return 0 if value is None else _size(len(field), len(msgspec.json.encode(value)))


def _size(names: int, contents: int, number: int = 1) -> int:
    """Bytes of fields in a JSON object: each has two quotes, a colon and a comma (or the object's end)."""
    return names + contents + 4 * number
