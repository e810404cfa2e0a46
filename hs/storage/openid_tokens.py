"""Tokens that prove to other services who a user is."""

from hs.storage.database import Database


class OpenIdTokenStore:
    """Keeps tokens until they expire."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert_token(
        self, user_id: str, token_hash: bytes, expires_ts: int, now_ms: int, max_of_user: int
    ) -> None:
        """Keep a token; the user's expired ones go, and the oldest beyond `max_of_user`."""
        async with self._database.write() as writer:
            await writer.execute(
                "INSERT INTO openid_tokens (token_hash, user_id, expires_ts) VALUES ($1, $2, $3)",
                token_hash,
                user_id,
                expires_ts,
            )
            await writer.execute(
                "DELETE FROM openid_tokens WHERE user_id = $1 AND (expires_ts <= $2 OR token_hash IN ("
                "SELECT token_hash FROM openid_tokens WHERE user_id = $1 ORDER BY expires_ts DESC OFFSET $3))",
                user_id,
                now_ms,
                max_of_user,
            )

    async def find_user(self, token_hash: bytes, now_ms: int) -> str | None:
        """The user of a token that has not expired, whose account is open; or None."""
        user_id: str | None = await self._database.fetchval(
            "SELECT user_id FROM openid_tokens JOIN users USING (user_id) "
            "WHERE token_hash = $1 AND expires_ts > $2 AND NOT is_deactivated",
            token_hash,
            now_ms,
        )
        return user_id
