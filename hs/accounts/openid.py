"""Proofs for other services that somebody is a user of this server. Spec: client-server-api module "OpenID"."""

import hashlib
import secrets

from hs.rooms.clock import Clock
from hs.storage.openid_tokens import OpenIdTokenStore

LIFETIME_S = 3600
# A client asks for one for each widget that it opens.
MAX_OF_USER = 100


class OpenIdTokens:
    """Issues and looks up such proofs."""

    def __init__(self, store: OpenIdTokenStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def issue(self, user_id: str) -> str:
        """A token that stands for the user for LIFETIME_S seconds."""
        token = "hso_" + secrets.token_urlsafe(32)
        now_ms = self._clock.now_ms()
        expires_ts = now_ms + 1000 * LIFETIME_S
        await self._store.insert_token(user_id, _hash(token), expires_ts, now_ms, MAX_OF_USER)
        return token

    async def find_user(self, token: str) -> str | None:
        """Whom the token stands for, or None; for /_matrix/federation/v1/openid/userinfo."""
        return await self._store.find_user(_hash(token), self._clock.now_ms())


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()
