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
# Accounts that are made within a minute: a password alone takes some milliseconds.
_MAX_USED = 10_000


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
        self._clock = clock
        # Anybody may ask for nonces, so nothing is kept of those: they are signed, and only used ones are remembered.
        self._nonce_key = secrets.token_bytes(32)
        self._used: TTLCache[str, None] = TTLCache(_MAX_USED, 2 * _NONCE_LIFETIME_S, clock)

    # Scripts make accounts by the thousand, so only wrong MACs count against a limit.
    @endpoint("GET", _PATH, auth=Auth.NONE, limit=None)
    async def get_nonce(self) -> dict[str, Any]:
        """A nonce, good for one registration within a minute."""
        self._check_enabled()
        return {"nonce": self._sign_nonce(f"{int(self._clock() * 1000):x}-{secrets.token_hex(16)}")}

    @endpoint("POST", _PATH, auth=Auth.NONE, limit=None)
    async def post_register(self, client: ClientInfo, body: SecretRegisterBody) -> dict[str, Any]:
        """The new account, with a session."""
        self._check_enabled()
        if not self._is_fresh(body.nonce):
            raise Unknown("unrecognised nonce")
        if "\x00" in body.username or "\x00" in body.password:
            # Nor could the MAC tell where one ends and the next begins.
            raise InvalidParam("names and passwords hold no NUL characters")
        check_name("displayname", body.displayname)
        if not hmac.compare_digest(self._mac(body).encode(), body.mac.lower().encode()):
            self._limiter.check_address("login", client.address)
            raise Forbidden("the MAC is wrong")
        self._used[body.nonce] = None
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

    def _sign_nonce(self, text: str) -> str:
        return f"{text}-{hmac.new(self._nonce_key, text.encode(), hashlib.sha256).hexdigest()}"

    def _is_fresh(self, nonce: str) -> bool:
        """Whether we have given this nonce within the last minute, and it has made no account yet."""
        text = nonce.rpartition("-")[0]
        if not hmac.compare_digest(self._sign_nonce(text).encode(), nonce.encode()):
            return False
        given_ms = int(text.partition("-")[0], 16)
        return nonce not in self._used and self._clock() - given_ms / 1000 < _NONCE_LIFETIME_S

    def _check_enabled(self) -> None:
        if not self._secret:
            raise Unknown("registration.shared_secret is not configured")
