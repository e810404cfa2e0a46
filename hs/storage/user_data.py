"""What users keep here for their clients: account data with its stream, push rules, filters."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import asyncpg
import msgspec

from hs.matrix.errors import TooLarge
from hs.matrix.push_rules import NO_RULES, PushRules, decode_rules, encode_rules, render
from hs.storage.database import Database, Writer
from hs.storage.streams import StreamIds, load_stream

PUSH_RULES = "m.push_rules"

# All of it goes into each first sync. Somebody in 2,000 rooms has a few short pieces for each of them.
MAX_ENTRIES = 20_000
MAX_BYTES = 16 * 2**20
# Who stores no more than this at a time is counted only for what is new.
_SMALL = 1024
IGNORED_USERS = "m.ignored_user_list"

# Called with the user and the stream id, once everything up to it is committed.
OnAccountData = Callable[[str, int], None]

# Called with a user for whom events are to be judged otherwise from now on, perhaps.
OnRules = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class AccountDataEvent:
    """One piece of account data as clients see it; `room_id` is "" for what belongs to the whole account."""

    room_id: str
    type: str
    content_json: bytes


async def load_account_data_stream(database: Database) -> StreamIds:
    """The stream of account data of all users."""
    return await load_stream(database, "SELECT max(stream_id) FROM account_data")


class AccountDataStore:
    """Reads and writes account data.

    Of push rules only what differs from the defaults is stored; they are rendered here, so that whoever
    lists account data sees the same m.push_rules, the defaults of this version included.
    """

    def __init__(self, database: Database, stream: StreamIds, on_account_data: OnAccountData) -> None:
        self._database = database
        self._stream = stream
        self._on_account_data = on_account_data
        self._rules_listeners: list[OnRules] = []

    def on_rules(self, listener: OnRules) -> None:
        """Tell `listener` of new push rules and ignored users once committed, before the change is answered."""
        self._rules_listeners.append(listener)

    def _on_rules(self, user_id: str) -> None:
        for listener in self._rules_listeners:
            listener(user_id)

    async def list_account_data(self, user_id: str) -> list[AccountDataEvent]:
        """All there is; m.push_rules always among it."""
        rows = await self._database.fetch(
            "SELECT room_id, type, content FROM account_data WHERE user_id = $1 ORDER BY stream_id", user_id
        )
        events = [_event(user_id, row) for row in rows]
        if not any(event.type == PUSH_RULES and not event.room_id for event in events):
            events.append(AccountDataEvent("", PUSH_RULES, _render(NO_RULES, user_id)))
        return events

    async def list_room_account_data(self, user_id: str, room_ids: Sequence[str]) -> list[AccountDataEvent]:
        """All there is of these rooms."""
        rows = await self._database.fetch(
            "SELECT room_id, type, content FROM account_data "
            "WHERE user_id = $1 AND room_id = ANY($2::text[]) AND room_id <> '' ORDER BY stream_id",
            user_id,
            room_ids,
        )
        return [_event(user_id, row) for row in rows]

    async def list_account_data_since(self, user_id: str, since: int, upto: int) -> list[AccountDataEvent]:
        """What has changed after stream id `since`, up to and with `upto`; oldest first."""
        rows = await self._database.fetch(
            "SELECT room_id, type, content FROM account_data "
            "WHERE user_id = $1 AND stream_id > $2 AND stream_id <= $3 ORDER BY stream_id",
            user_id,
            since,
            upto,
        )
        return [_event(user_id, row) for row in rows]

    async def find_account_data(self, user_id: str, room_id: str, type: str) -> bytes | None:
        """The content, or None."""
        if (room_id, type) == ("", PUSH_RULES):
            return _render(await self.find_push_rules(user_id), user_id)
        content: bytes | None = await self._database.fetchval(
            "SELECT content FROM account_data WHERE user_id = $1 AND room_id = $2 AND type = $3",
            user_id,
            room_id,
            type,
        )
        return content

    async def set_account_data(self, user_id: str, room_id: str, type: str, content: bytes) -> None:
        """Store the content, a JSON object."""
        with self._stream.reserve(1) as ids:
            self._announce(ids.on_published, user_id, ids.last)
            self._announce(ids.on_failed, user_id, ids.last)
            async with self._database.write() as writer:
                await _upsert(writer, user_id, room_id, type, content, ids.last)
                if type == IGNORED_USERS and not room_id:
                    ids.on_failed(lambda: self._on_rules(user_id))
                    writer.after_commit(lambda: self._on_rules(user_id))

    async def change_account_data(
        self, user_id: str, room_id: str, type: str, change: Callable[[bytes | None], bytes]
    ) -> None:
        """Store what `change` makes of the content (None: there is none), one change at a time."""
        with self._stream.reserve(1) as ids:
            self._announce(ids.on_published, user_id, ids.last)
            self._announce(ids.on_failed, user_id, ids.last)
            async with self._database.write() as writer:
                # There may be no row to lock yet.
                await writer.execute(
                    "SELECT pg_advisory_xact_lock(hashtextextended($1, $2))", user_id, _CONTENT_LOCK
                )
                stored = await writer.fetchval(
                    "SELECT content FROM account_data WHERE user_id = $1 AND room_id = $2 AND type = $3 "
                    # `set_account_data` takes no advisory lock, but the row's.
                    "FOR UPDATE",
                    user_id,
                    room_id,
                    type,
                )
                await _upsert(writer, user_id, room_id, type, change(stored), ids.last)

    async def find_push_rules(self, user_id: str) -> PushRules:
        """What the user has changed of the push rules."""
        stored = await self._database.fetchval(
            "SELECT content FROM account_data WHERE user_id = $1 AND room_id = '' AND type = $2",
            user_id,
            PUSH_RULES,
        )
        return NO_RULES if stored is None else decode_rules(stored)

    async def change_push_rules(self, user_id: str, change: Callable[[PushRules], PushRules]) -> PushRules:
        """The user's rules after `change`, one change at a time; what it raises leaves them as they are."""
        with self._stream.reserve(1) as ids:
            self._announce(ids.on_published, user_id, ids.last)
            self._announce(ids.on_failed, user_id, ids.last)
            ids.on_failed(lambda: self._on_rules(user_id))
            async with self._database.write() as writer:
                # There may be no row to lock yet.
                await writer.execute(
                    "SELECT pg_advisory_xact_lock(hashtextextended($1, $2))", user_id, _PUSH_RULES_LOCK
                )
                stored = await writer.fetchval(
                    "SELECT content FROM account_data WHERE user_id = $1 AND room_id = '' AND type = $2",
                    user_id,
                    PUSH_RULES,
                )
                changed = change(NO_RULES if stored is None else decode_rules(stored))
                await _upsert(writer, user_id, "", PUSH_RULES, encode_rules(changed), ids.last)
                writer.after_commit(lambda: self._on_rules(user_id))
        return changed

    def _announce(self, register: Callable[[Callable[[], None]], None], user_id: str, stream_id: int) -> None:
        # Also after a failure: where the outcome of a COMMIT is not known, a look too many does no harm.
        register(lambda: self._on_account_data(user_id, stream_id))


class FilterStore:
    """Reads and writes uploaded filters."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_filter(self, user_id: str, filter_id: int) -> bytes | None:
        """The filter as it was uploaded, or None."""
        found: bytes | None = await self._database.fetchval(
            "SELECT filter_json FROM filters WHERE user_id = $1 AND filter_id = $2", user_id, filter_id
        )
        return found

    async def insert_filter(self, user_id: str, filter_json: bytes, at_most: int) -> int | None:
        """The filter's id, the same for the same bytes; None where the user has `at_most` others."""
        async with self._database.write() as writer:
            await writer.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended($1, $2))", user_id, _FILTERS_LOCK
            )
            row = await writer.fetchrow(
                "SELECT (SELECT filter_id FROM filters WHERE user_id = $1 AND md5(filter_json) = md5($2::bytea)) AS known, "
                "(SELECT coalesce(max(filter_id), -1) + 1 FROM filters WHERE user_id = $1) AS next",
                user_id,
                filter_json,
            )
            assert row is not None
            known: int | None = row["known"]
            if known is not None:
                return known
            number: int = row["next"]
            if number >= at_most:
                return None
            await writer.execute(
                "INSERT INTO filters (user_id, filter_id, filter_json) VALUES ($1, $2, $3)",
                user_id,
                number,
                filter_json,
            )
        return number


# Seeds that keep the locks of one user's rules, filters and other data apart.
_PUSH_RULES_LOCK = 0x7075_7368
_FILTERS_LOCK = 0x6669_6C74
_CONTENT_LOCK = 0x636F_6E74


async def _upsert(
    writer: Writer, user_id: str, room_id: str, type: str, content: bytes, stream_id: int
) -> None:
    is_new = await writer.fetchval(
        "INSERT INTO account_data (user_id, room_id, type, content, stream_id) VALUES ($1, $2, $3, $4, $5) "
        # Of two changes at once the one with the lower id may be written last. Ids that tokens have passed must
        # stay stored: after a restart the stream goes on after the newest.
        "ON CONFLICT (user_id, room_id, type) DO UPDATE SET content = $4, "
        "stream_id = greatest(account_data.stream_id, $5) RETURNING xmax = 0",
        user_id,
        room_id,
        type,
        content,
        stream_id,
    )
    if is_new or len(content) > _SMALL:
        await _check_total(writer, user_id)


async def _check_total(writer: Writer, user_id: str) -> None:
    row = await writer.fetchrow(
        "SELECT count(*) AS entries, coalesce(sum(octet_length(content)), 0) AS bytes FROM account_data "
        "WHERE user_id = $1",
        user_id,
    )
    assert row is not None
    if row["entries"] > MAX_ENTRIES or row["bytes"] > MAX_BYTES:
        raise TooLarge(
            f"a user keeps at most {MAX_ENTRIES} pieces of account data, {MAX_BYTES} bytes together"
        )


def _event(user_id: str, row: asyncpg.Record) -> AccountDataEvent:
    content: bytes = row["content"]
    if row["type"] == PUSH_RULES and not row["room_id"]:
        content = _render(decode_rules(content), user_id)
    return AccountDataEvent(row["room_id"], row["type"], content)


def _render(rules: PushRules, user_id: str) -> bytes:
    return msgspec.json.encode(render(rules, user_id))
