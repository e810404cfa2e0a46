"""Logging in: passwords against accounts, devices into sessions. Spec: client-server-api "Login"."""

import secrets
import string
from dataclasses import dataclass

from hs.accounts.passwords import Passwords
from hs.accounts.tokens import AccessTokens, IssuedTokens
from hs.matrix.errors import Forbidden, InvalidParam, UserDeactivated
from hs.matrix.ids import is_user_id
from hs.storage.users import UserRow, UserStore

MAX_DEVICE_ID_LENGTH = 255
MAX_DEVICE_NAME_LENGTH = 255


@dataclass(frozen=True, slots=True)
class Session:
    """A device that has just been logged in."""

    user_id: str
    device_id: str
    tokens: IssuedTokens


class Login:
    """Checks passwords and opens sessions."""

    def __init__(
        self, users: UserStore, passwords: Passwords, tokens: AccessTokens, server_name: str
    ) -> None:
        self._users = users
        self._passwords = passwords
        self._tokens = tokens
        self._server_name = server_name

    def user_id_of(self, user: str) -> str:
        """The user id that `user`, an id or the localpart of one, stands for; not checked."""
        return user if user.startswith("@") else f"@{user}:{self._server_name}"

    async def check_password(self, user: str, password: str) -> str:
        """The user id of who has this password; `user` is a user id or its localpart.

        Raises Forbidden, alike for an unknown user and a wrong password. A closed account is told of whatever the
        password is, UserDeactivated: nothing is kept that could be compared.
        """
        row = await self._find(user)
        if row is not None and row.is_deactivated:
            raise UserDeactivated("this account has been deactivated")
        if not await self._passwords.verify(None if row is None else row.password_hash, password):
            raise Forbidden("invalid user name or password")
        assert row is not None  # nobody's password is never right
        return row.user_id

    async def check_open(self, user_id: str) -> None:
        """UserDeactivated where the account is closed."""
        row = await self._users.find_user(user_id)
        if row is None or row.is_deactivated:
            raise UserDeactivated("this account has been deactivated")

    async def open_session(
        self, user_id: str, device_id: str | None, device_name: str | None, is_refreshable: bool = False
    ) -> Session:
        """A session on the device, a new one where `device_id` is None; InvalidParam for an odd one.

        `is_refreshable` where the client can refresh its tokens, which end after a while then.
        """
        check_device(device_id, device_name)
        if device_id is None:
            device_id = "".join(secrets.choice(string.ascii_uppercase) for _ in range(10))
        tokens = await self._tokens.issue(user_id, device_id, device_name, is_refreshable)
        return Session(user_id, device_id, tokens)

    async def _find(self, user: str) -> UserRow | None:
        user_id = self.user_id_of(user)
        if not is_user_id(user_id):
            return None
        row = await self._users.find_user(user_id)
        if row is None and user_id != user_id.lower():
            # People write their names with capitals; new ones have none.
            row = await self._users.find_user(user_id.lower())
        return row


def check_device(device_id: str | None, name: str | None) -> None:
    """InvalidParam for a device that cannot be made; None lets us choose."""
    if device_id is not None and (not 0 < len(device_id) <= MAX_DEVICE_ID_LENGTH or "\x00" in device_id):
        raise InvalidParam(f"a device id has 1 to {MAX_DEVICE_ID_LENGTH} characters")
    check_device_name(name)


def check_device_name(name: str | None) -> None:
    """InvalidParam for a display name of a device that is too long or no text."""
    if name is not None and (len(name) > MAX_DEVICE_NAME_LENGTH or "\x00" in name):
        raise InvalidParam(f"a device name has at most {MAX_DEVICE_NAME_LENGTH} characters")
