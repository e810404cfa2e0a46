"""Proving again who you are before something dangerous: sessions of stages.

Spec: client-server-api "User-Interactive Authentication API". A request without proof is answered with 401,
the flows to choose from and a session; the client repeats it with `auth`, one stage after the other.
"""

import asyncio
import hmac
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from cachetools import TTLCache

from hs.accounts.login import Login
from hs.matrix.errors import BadJson, Forbidden, MatrixError, Unknown, UserDeactivated

DUMMY = "m.login.dummy"
PASSWORD = "m.login.password"
REGISTRATION_TOKEN = "m.login.registration_token"

# Anybody can open sessions of registration: the oldest make room for new ones.
_MAX_SESSIONS = 10_000
# Longer than it takes to find a password, shorter than a forgotten dialog stays open.
_LIFETIME_S = 15 * 60.0


class Identifier(msgspec.Struct, frozen=True):
    """Who somebody says to be. Spec: "Identifier types"."""

    type: str = ""
    user: str | None = None


class AuthData(msgspec.Struct, frozen=True):
    """`auth` of a request: one completed stage, or only the session to ask how far it has come."""

    type: str | None = None
    session: str | None = None
    identifier: Identifier | None = None
    user: str | None = None
    password: str | None = None
    token: str | None = None


class AuthenticationNeeded(MatrixError):
    """401 with the flows, the session and what is done of it; with an errcode after a failed stage only."""

    status = 401

    def __init__(self, fields: dict[str, Any], failure: MatrixError | None) -> None:
        super().__init__("more authentication is needed")
        self._fields = fields
        self._failure = failure

    def to_dict(self) -> dict[str, Any]:
        """The body: flows, params, session, completed; errcode and error of the failure."""
        return self._fields if self._failure is None else self._fields | self._failure.to_dict()


@dataclass(slots=True)
class Wish:
    """The account that a session of registration is for: what one request says, the next may leave out."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    device_id: str | None = None
    device_name: str | None = None
    # Once it is made: a client that missed the answer asks again.
    user_id: str | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(slots=True)
class _Session:
    operation: str
    user_id: str | None
    wish: Wish | None = None
    completed: list[str] = field(default_factory=list)


class InteractiveAuth:
    """Judges the `auth` of requests and remembers the stages that are done."""

    def __init__(
        self,
        login: Login,
        registration_tokens: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """With any registration token, only who has one may register."""
        self._login = login
        self._registration_tokens = [token.encode() for token in registration_tokens]
        self._sessions: TTLCache[str, _Session] = TTLCache(_MAX_SESSIONS, _LIFETIME_S, clock)

    async def check_password(self, operation: str, user_id: str, auth: AuthData | None) -> None:
        """Return if the user has given the account's password; AuthenticationNeeded if not."""
        await self._check(operation, user_id, (PASSWORD,), auth)

    async def check_registration(self, auth: AuthData | None, wish: Wish) -> None:
        """Return if the client may register: with a token where there are any; AuthenticationNeeded if not."""
        stage = REGISTRATION_TOKEN if self._registration_tokens else DUMMY
        await self._check("register", None, (stage,), auth, wish)

    def recall_wish(self, auth: AuthData | None) -> Wish:
        """What the session of registration is for; an empty wish where there is none."""
        session = None if auth is None or auth.session is None else self._sessions.get(auth.session)
        return Wish() if session is None or session.wish is None else session.wish

    def is_registration_token(self, token: str) -> bool:
        """Whether it is one; how long that takes tells nothing of what those that are begin with."""
        given = token.encode(errors="surrogatepass")
        return any(hmac.compare_digest(given, known) for known in self._registration_tokens)

    async def _check(
        self,
        operation: str,
        user_id: str | None,
        flow: Sequence[str],
        auth: AuthData | None,
        wish: Wish | None = None,
    ) -> None:
        session_id, session = self._open(operation, user_id, auth, wish)
        failure: MatrixError | None = None
        if auth is not None and auth.type is not None:
            failure = await self._try_stage(session, flow, auth.type, auth)
        if failure is None and all(stage in session.completed for stage in flow):
            # A session is good for one request; that of a registration is kept for who asks for it again.
            if wish is None or auth is None or auth.session is None:
                self._sessions.pop(session_id, None)
            return
        body: dict[str, Any] = {"flows": [{"stages": list(flow)}], "params": {}, "session": session_id}
        if session.completed:
            body["completed"] = session.completed
        raise AuthenticationNeeded(body, failure)

    def _open(
        self, operation: str, user_id: str | None, auth: AuthData | None, wish: Wish | None
    ) -> tuple[str, _Session]:
        if auth is None or auth.session is None:
            session_id, session = secrets.token_urlsafe(18), _Session(operation, user_id, wish)
            self._sessions[session_id] = session
            return session_id, session
        found = self._sessions.get(auth.session)
        # What was proven for one thing must not be spent on another.
        if found is None or (found.operation, found.user_id) != (operation, user_id):
            raise Unknown("unknown or expired authentication session")
        return auth.session, found

    async def _try_stage(
        self, session: _Session, flow: Sequence[str], stage: str, auth: AuthData
    ) -> MatrixError | None:
        if stage not in flow:
            return Unknown("this kind of authentication is not offered here")
        if stage == PASSWORD:
            try:
                proven_id = await self._prove_password(session, auth)
            except (Forbidden, UserDeactivated) as error:
                return error
            if proven_id != session.user_id:
                # No mistake in typing, so nothing to try again.
                raise Forbidden("this is somebody else's password")
        if stage == REGISTRATION_TOKEN and not self.is_registration_token(auth.token or ""):
            return Forbidden("unknown registration token")
        if stage not in session.completed:
            session.completed.append(stage)
        return None

    async def _prove_password(self, session: _Session, auth: AuthData) -> str:
        user = user_of(auth.identifier, auth.user) or session.user_id
        if user is None or auth.password is None:
            raise BadJson("m.login.password needs an identifier and a password")
        return await self._login.check_password(user, auth.password)


def user_of(identifier: Identifier | None, deprecated_user: str | None) -> str | None:
    """The user id or localpart that was given, None where there is none; Unknown for other identifiers."""
    if identifier is None:
        return deprecated_user
    if identifier.type != "m.id.user":
        raise Unknown("only m.id.user identifies users here")
    return identifier.user
