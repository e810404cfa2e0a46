"""Logging in and out. Spec: client-server-api "Login"."""

from typing import Any

import msgspec

from hs.accounts.login import Login, Session
from hs.accounts.login_tokens import LIFETIME_S, LoginTokens
from hs.accounts.tokens import AccessTokens, IssuedTokens
from hs.accounts.ui_auth import PASSWORD, AuthData, Identifier, InteractiveAuth, user_of
from hs.client_api.paths import v3
from hs.http.endpoint import Auth, Caller, ClientInfo, Empty, endpoint
from hs.http.rate_limit import RateLimiter
from hs.matrix.errors import AppserviceLoginUnsupported, MissingParam, Unknown
from hs.matrix.ids import server_of

TOKEN = "m.login.token"


class LoginBody(msgspec.Struct):
    """Who logs in, and on which device."""

    type: str
    identifier: Identifier | None = None
    user: str | None = None
    password: str | None = None
    token: str | None = None
    device_id: str | None = None
    initial_device_display_name: str | None = None
    refresh_token: bool = False


class RefreshBody(msgspec.Struct):
    """What to renew a session with."""

    refresh_token: str


class LoginTokenBody(msgspec.Struct):
    """Proof for letting another device in."""

    auth: AuthData | None = None


class LoginApi:
    """Opens and ends sessions."""

    def __init__(
        self,
        login: Login,
        login_tokens: LoginTokens,
        auth: InteractiveAuth,
        tokens: AccessTokens,
        limiter: RateLimiter,
        public_base_url: str = "",
    ) -> None:
        """Without a base URL it is the one that the client has used."""
        self._public_base_url = public_base_url
        self._login = login
        self._login_tokens = login_tokens
        self._auth = auth
        self._tokens = tokens
        self._limiter = limiter

    @endpoint("GET", *v3("/login"), auth=Auth.NONE, limit="other")
    async def get_login(self) -> dict[str, Any]:
        """The ways to log in."""
        return {"flows": [{"type": PASSWORD}, {"type": TOKEN, "get_login_token": True}]}

    @endpoint("POST", *v3("/login"), auth=Auth.NONE, limit="login")
    async def post_login(self, client: ClientInfo, body: LoginBody) -> dict[str, Any]:
        """A session for who has the password, or was let in by another device."""
        if body.type == PASSWORD:
            user_id = await self._check_password(body)
        elif body.type == TOKEN:
            if body.token is None:
                raise MissingParam("a token is needed")
            user_id = await self._login_tokens.spend(body.token)
        elif body.type == "m.login.application_service":
            raise AppserviceLoginUnsupported("application services cannot log in here")
        else:
            raise Unknown("this way to log in is not offered")
        session = await self._login.open_session(
            user_id, body.device_id, body.initial_device_display_name, body.refresh_token
        )
        return {
            **render_session(session),
            "well_known": {"m.homeserver": {"base_url": self._public_base_url or client.base_url}},
        }

    @endpoint("POST", "/_matrix/client/v1/login/get_token", auth=Auth.USER, limit="login")
    async def post_login_token(self, caller: Caller, body: LoginTokenBody) -> dict[str, Any]:
        """A token with which another device of the caller can log in."""
        await self._auth.check_password("login token", caller.user_id, body.auth)
        return {
            "login_token": self._login_tokens.issue(caller.user_id),
            "expires_in_ms": 1000 * LIFETIME_S,
        }

    @endpoint("POST", *v3("/refresh"), auth=Auth.NONE, limit="other")
    async def post_refresh(self, body: RefreshBody) -> dict[str, Any]:
        """New tokens for who has a refresh token."""
        return _render_tokens(await self._tokens.refresh(body.refresh_token))

    @endpoint("POST", *v3("/logout"), auth=Auth.LOCKED_USER, limit="other")
    async def post_logout(self, caller: Caller) -> Empty:
        """End this session and forget its device."""
        await self._tokens.delete_devices(caller.user_id, [caller.device_id])
        return Empty()

    @endpoint("POST", *v3("/logout/all"), auth=Auth.LOCKED_USER, limit="other")
    async def post_logout_all(self, caller: Caller) -> Empty:
        """End all of the user's sessions."""
        await self._tokens.delete_devices(caller.user_id, None)
        return Empty()

    async def _check_password(self, body: LoginBody) -> str:
        user = user_of(body.identifier, body.user)
        if user is None or body.password is None:
            raise MissingParam("an identifier and a password are needed")
        # By account too: an address is cheap, and many of them may be guessing one password.
        await self._limiter.check_user("login", self._login.user_id_of(user), False)
        return await self._login.check_password(user, body.password)


def render_session(session: Session) -> dict[str, Any]:
    """What clients are told of a new session."""
    return {
        "user_id": session.user_id,
        "device_id": session.device_id,
        # Deprecated; old clients still read it.
        "home_server": server_of(session.user_id),
        **_render_tokens(session.tokens),
    }


def _render_tokens(tokens: IssuedTokens) -> dict[str, Any]:
    fields = {
        "access_token": tokens.access_token,
        "refresh_token": tokens.refresh_token,
        "expires_in_ms": tokens.expires_in_ms,
    }
    return {name: value for name, value in fields.items() if value is not None}
