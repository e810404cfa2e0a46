"""Signing keys of other servers, and the newest answer that each has given about them."""

from collections.abc import Collection, Iterable

from signedjson.key import decode_verify_key_bytes

from hs.matrix.keys import ServerKey
from hs.matrix.server_keys import KeyAnswer, KnownKey
from hs.storage.database import Database


class ServerKeyStore:
    """Keeps keys for ever: old events are checked with old keys, of servers that are long gone."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_keys(self, server_names: Collection[str]) -> list[KnownKey]:
        """All keys that we know of these servers."""
        rows = await self._database.fetch(
            "SELECT server_name, key_id, verify_key, valid_until_ts, is_old, is_direct, fetched_ts "
            "FROM server_keys WHERE server_name = ANY($1::text[])",
            list(server_names),
        )
        return [
            KnownKey(
                server_name,
                ServerKey(key_id, decode_verify_key_bytes(key_id, verify_key), valid_until_ts),
                is_old,
                is_direct,
                fetched_ts,
            )
            for server_name, key_id, verify_key, valid_until_ts, is_old, is_direct, fetched_ts in rows
        ]

    async def list_answers(self, server_names: Collection[str]) -> dict[str, KeyAnswer]:
        """The newest answer of each of these servers that has given one; its keys are left out."""
        rows = await self._database.fetch(
            "SELECT server_name, body, valid_until_ts, fetched_ts, is_direct "
            "FROM server_key_answers WHERE server_name = ANY($1::text[])",
            list(server_names),
        )
        return {
            server_name: KeyAnswer(server_name, {}, valid_until_ts, fetched_ts, is_direct, body)
            for server_name, body, valid_until_ts, fetched_ts, is_direct in rows
        }

    async def set_keys(self, changed: Iterable[KnownKey], answers: Iterable[KeyAnswer]) -> None:
        """Keep what has changed, and the answers that said so; a notary's takes no place of the server's own."""
        # Two writers that lock the same rows in one order wait for each other, and do not deadlock.
        keys = sorted(changed, key=lambda known: (known.server_name, known.key.key_id))
        bodies = sorted(answers, key=lambda answer: answer.server_name)
        async with self._database.write() as writer:
            if keys:
                await writer.execute(
                    "INSERT INTO server_keys (server_name, key_id, verify_key, valid_until_ts, is_old, is_direct, "
                    "fetched_ts) SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bigint[], "
                    "$5::boolean[], $6::boolean[], $7::bigint[]) "
                    "ON CONFLICT (server_name, key_id) DO UPDATE SET verify_key = excluded.verify_key, "
                    "valid_until_ts = excluded.valid_until_ts, is_old = excluded.is_old, "
                    "is_direct = excluded.is_direct, fetched_ts = excluded.fetched_ts",
                    [key.server_name for key in keys],
                    [key.key.key_id for key in keys],
                    [bytes(key.key.verify_key) for key in keys],
                    [key.key.valid_until_ts for key in keys],
                    [key.is_old for key in keys],
                    [key.is_direct for key in keys],
                    [key.fetched_ts for key in keys],
                )
            if bodies:
                await writer.execute(
                    "INSERT INTO server_key_answers (server_name, body, valid_until_ts, fetched_ts, is_direct) "
                    "SELECT * FROM unnest($1::text[], $2::bytea[], $3::bigint[], $4::bigint[], $5::boolean[]) "
                    "ON CONFLICT (server_name) DO UPDATE SET body = excluded.body, "
                    "valid_until_ts = excluded.valid_until_ts, fetched_ts = excluded.fetched_ts, "
                    "is_direct = excluded.is_direct WHERE excluded.is_direct OR NOT server_key_answers.is_direct",
                    [answer.server_name for answer in bodies],
                    [answer.body for answer in bodies],
                    [answer.valid_until_ts for answer in bodies],
                    [answer.fetched_ts for answer in bodies],
                    [answer.is_direct for answer in bodies],
                )
