"""New accounts. Spec: client-server-api "Account registration"."""

from typing import Any

import msgspec

from hs.accounts.login import Login, check_device
from hs.accounts.passwords import check_length
from hs.accounts.registration import Registration, fold_capitals
from hs.accounts.ui_auth import AuthData, InteractiveAuth, Wish
from hs.client_api.login import render_session
from hs.client_api.paths import v3
from hs.http.endpoint import Auth, endpoint
from hs.matrix.errors import (
    AppserviceLoginUnsupported,
    Forbidden,
    GuestAccessForbidden,
    MissingParam,
    Unknown,
)


class RegisterBody(msgspec.Struct):
    """The account to make, and the first device."""

    auth: AuthData | None = None
    username: str | None = None
    password: str | None = None
    device_id: str | None = None
    initial_device_display_name: str | None = None
    inhibit_login: bool = False
    refresh_token: bool = False
    type: str | None = None


class RegisterQuery(msgspec.Struct):
    """What kind of account."""

    kind: str = "user"


class AvailableQuery(msgspec.Struct):
    """Which name."""

    username: str


class TokenQuery(msgspec.Struct):
    """Which registration token."""

    token: str


class RegistrationApi:
    """Makes accounts for whoever asks, where the configuration lets them."""

    def __init__(
        self, registration: Registration, login: Login, auth: InteractiveAuth, is_enabled: bool
    ) -> None:
        self._registration = registration
        self._login = login
        self._auth = auth
        self._is_enabled = is_enabled

    @endpoint("POST", *v3("/register"), auth=Auth.NONE, limit="registration")
    async def post_register(self, query: RegisterQuery, body: RegisterBody) -> dict[str, Any]:
        """A new account, with a session unless the client wants none."""
        if query.kind == "guest":
            raise GuestAccessForbidden("there are no guests here")
        if query.kind != "user":
            raise Unknown("accounts are of kind user or guest")
        if body.type == "m.login.application_service":
            raise AppserviceLoginUnsupported("application services cannot register users here")
        self._check_enabled()
        wish = self._auth.recall_wish(body.auth)
        # Of several requests in one session only the first makes an account.
        async with wish.lock:
            user_id = await self._register(body, wish)
        if body.inhibit_login:
            return {"user_id": user_id}
        session = await self._login.open_session(
            user_id, wish.device_id, wish.device_name, body.refresh_token
        )
        return render_session(session)

    async def _register(self, body: RegisterBody, wish: Wish) -> str:
        username = wish.username if body.username is None else fold_capitals(body.username)
        if wish.user_id is not None:
            if username != wish.username:
                raise Unknown("this session has made an account of another name")
            await self._login.check_open(wish.user_id)
            return wish.user_id
        if username is not None:
            await self._registration.check_available(username)
        password = wish.password if body.password is None else body.password
        if password is not None:
            check_length(password)
        # An account whose first device is then refused would be of no use to who asked for it.
        check_device(body.device_id, body.initial_device_display_name)
        wish.username, wish.password = username, password
        wish.device_id = body.device_id or wish.device_id
        wish.device_name = body.initial_device_display_name or wish.device_name
        await self._auth.check_registration(body.auth, wish)
        if password is None:
            raise MissingParam("a password is needed")
        wish.user_id = await self._registration.register(username, password)
        wish.password = None
        return wish.user_id

    @endpoint("GET", *v3("/register/available"), auth=Auth.NONE, limit="registration")
    async def get_available(self, query: AvailableQuery) -> dict[str, Any]:
        """Whether the name can be had; an error says why not."""
        self._check_enabled()
        await self._registration.check_available(fold_capitals(query.username))
        return {"available": True}

    @endpoint(
        "GET",
        "/_matrix/client/v1/register/m.login.registration_token/validity",
        auth=Auth.NONE,
        limit="registration",
    )
    async def get_token_validity(self, query: TokenQuery) -> dict[str, Any]:
        """Whether somebody may register with the token."""
        self._check_enabled()
        return {"valid": self._auth.is_registration_token(query.token)}

    def _check_enabled(self) -> None:
        if not self._is_enabled:
            raise Forbidden("registration is closed on this server")
