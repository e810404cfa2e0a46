"""Accounts that an administrator has suspended or locked. Spec: "Account suspension", "Account locking"."""

from typing import Literal

from hs.accounts.tokens import AccessTokens
from hs.matrix.errors import Forbidden, InvalidParam, NotFound
from hs.matrix.ids import parse_user_id, server_of
from hs.storage.users import UserRow, UserStore

Mark = Literal["suspended", "locked"]


class Moderation:
    """Suspends and locks accounts."""

    def __init__(self, users: UserStore, tokens: AccessTokens, server_name: str) -> None:
        self._users = users
        self._tokens = tokens
        self._server_name = server_name

    async def get(self, user_id: str, mark: Mark) -> bool:
        """Whether the account is suspended, or locked; errors as for `set`."""
        row = await self._get_user(user_id)
        return row.is_suspended if mark == "suspended" else row.is_locked

    async def set(self, admin_id: str, user_id: str, mark: Mark, is_set: bool) -> None:
        """Suspend or lock the account, or end that; it counts from the user's next request on.

        Raises InvalidParam for users of other servers, NotFound for unknown and closed accounts, Forbidden
        for administrators, oneself included.
        """
        if user_id == admin_id:
            raise Forbidden("you cannot do this to your own account")
        await self._get_user(user_id)
        await self._users.set_mark(user_id, mark, is_set)
        self._tokens.forget_user(user_id)

    async def _get_user(self, user_id: str) -> UserRow:
        parse_user_id(user_id)
        if server_of(user_id) != self._server_name:
            raise InvalidParam("that user does not belong to this server")
        row = await self._users.find_user(user_id)
        if row is None or row.is_deactivated:
            raise NotFound("no such user")
        if row.is_admin:
            raise Forbidden("that user is an administrator")
        return row
