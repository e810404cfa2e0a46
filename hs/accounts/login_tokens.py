"""Tokens with which somebody who is logged in lets another device of theirs in.

Spec: client-server-api "POST /login/get_token" and "Token-based" login. They last for two minutes and are good
once; a restart ends them, which costs no more than asking again.
"""

import hashlib
import secrets
import time
from collections.abc import Callable

from cachetools import TTLCache

from hs.accounts.login import Login
from hs.matrix.errors import Forbidden

LIFETIME_S = 120
# Each takes a password to make: more are not made in two minutes.
_MAX_TOKENS = 10_000


class LoginTokens:
    """Issues such tokens and takes them back."""

    def __init__(self, login: Login, clock: Callable[[], float] = time.monotonic) -> None:
        self._login = login
        self._users: TTLCache[bytes, str] = TTLCache(_MAX_TOKENS, LIFETIME_S, clock)

    def issue(self, user_id: str) -> str:
        """A token for one login of the user within LIFETIME_S seconds."""
        token = "hsl_" + secrets.token_urlsafe(32)
        self._users[_hash(token)] = user_id
        return token

    async def spend(self, token: str) -> str:
        """The user whom the token lets in; Forbidden where it is not good, UserDeactivated as it says."""
        user_id = self._users.pop(_hash(token), None)
        if user_id is None:
            raise Forbidden("invalid login token")
        await self._login.check_open(user_id)
        return user_id


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
