"""/_synapse/admin/v1/register: accounts made by who knows the shared secret.

The client fetches a nonce and sends, with the account it wants, a MAC as hexadecimal digits:

    HMAC-SHA1(secret, nonce NUL username NUL password NUL "admin" | "notadmin" [NUL user_type])
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from typing import Any

import msgspec
from cachetools import TTLCache

from hs.accounts.login import Login
from hs.accounts.profiles import check_name
from hs.accounts.registration import Registration, fold_capitals
from hs.http.endpoint import Auth, ClientInfo, endpoint
from hs.http.rate_limit import RateLimiter
from hs.matrix.errors import Forbidden, InvalidParam, Unknown

_PATH = "/_synapse/admin/v1/register"
_NONCE_LIFETIME_S = 60.0
# Anybody may ask for nonces: the oldest make room for new ones.
_MAX_NONCES = 10_000


class SecretRegisterBody(msgspec.Struct):
    """The account to make, and the MAC."""

    nonce: str
    username: str
    password: str
    mac: str
    admin: bool = False
    user_type: str | None = None
    displayname: str | None = None
    inhibit_login: bool = False


class RegisterApi:
    """Makes accounts, also of administrators, for who knows the secret."""

    def __init__(
        self,
        registration: Registration,
        login: Login,
        limiter: RateLimiter,
        shared_secret: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """An empty secret switches the endpoints off."""
        self._registration = registration
        self._login = login
        self._limiter = limiter
        self._secret = shared_secret.encode()
        self._nonces: TTLCache[str, None] = TTLCache(_MAX_NONCES, _NONCE_LIFETIME_S, clock)

    # Scripts make accounts by the thousand, so only wrong MACs count against a limit.
    @endpoint("GET", _PATH, auth=Auth.NONE, limit=None)
    async def get_nonce(self) -> dict[str, Any]:
        """A nonce, good for one registration within a minute."""
        self._check_enabled()
        nonce = secrets.token_hex(32)
        self._nonces[nonce] = None
        return {"nonce": nonce}

    @endpoint("POST", _PATH, auth=Auth.NONE, limit=None)
    async def post_register(self, client: ClientInfo, body: SecretRegisterBody) -> dict[str, Any]:
        """The new account, with a session."""
        self._check_enabled()
        if body.nonce not in self._nonces:
            raise Unknown("unrecognised nonce")
        del self._nonces[body.nonce]
        if "\x00" in body.username or "\x00" in body.password:
            # Nor could the MAC tell where one ends and the next begins.
            raise InvalidParam("names and passwords hold no NUL characters")
        check_name("displayname", body.displayname)
        if not hmac.compare_digest(self._mac(body).encode(), body.mac.lower().encode()):
            self._limiter.check_address("login", client.address)
            raise Forbidden("the MAC is wrong")
        if body.user_type not in (None, "bot", "support"):
            raise InvalidParam("unknown user_type")
        user_id = await self._registration.register(
            fold_capitals(body.username), body.password, admin=body.admin, display_name=body.displayname
        )
        if body.inhibit_login:
            return {"user_id": user_id, "home_server": user_id.partition(":")[2]}
        session = await self._login.open_session(user_id, None, None)
        return {
            "user_id": user_id,
            "access_token": session.tokens.access_token,
            "device_id": session.device_id,
            "home_server": user_id.partition(":")[2],
        }

    def _mac(self, body: SecretRegisterBody) -> str:
        parts = [body.nonce, body.username, body.password, "admin" if body.admin else "notadmin"]
        if body.user_type:
            parts.append(body.user_type)
        return hmac.new(self._secret, "\x00".join(parts).encode(), hashlib.sha1).hexdigest()

    def _check_enabled(self) -> None:
        if not self._secret:
            raise Unknown("registration.shared_secret is not configured")
