"""What happens to an account after it was made. Spec: client-server-api "Account management"."""

from collections.abc import Awaitable, Callable

from hs.accounts.finishing import Finisher
from hs.accounts.passwords import Passwords
from hs.accounts.profiles import Profiles
from hs.accounts.tokens import AccessTokens
from hs.matrix.errors import WeakPassword
from hs.storage.users import UserStore


class AccountManagement:
    """Changes passwords and closes accounts."""

    def __init__(
        self,
        users: UserStore,
        passwords: Passwords,
        tokens: AccessTokens,
        profiles: Profiles,
        on_deactivated: Callable[[str], Awaitable[None]],
    ) -> None:
        """`on_deactivated` is awaited with the id of a user whose account is closed already."""
        self._users = users
        self._passwords = passwords
        self._tokens = tokens
        self._profiles = profiles
        self._on_deactivated = on_deactivated
        self._finisher = Finisher()

    async def set_password(self, user_id: str, password: str, only_device_id: str | None) -> None:
        """Another password; all devices but `only_device_id` are logged out, none where that is None."""
        if not password:
            raise WeakPassword("the password is empty")
        password_hash = await self._passwords.hash(password)
        await self._tokens.revoke(user_id, self._users.set_password(user_id, password_hash, only_device_id))

    async def deactivate(self, user_id: str) -> None:
        """Close the account: nobody can log in, nobody is logged in, and the name stays taken."""
        await self._finisher.finish(self._deactivate(user_id), "deactivation")

    async def _deactivate(self, user_id: str) -> None:
        try:
            await self._tokens.deactivate(user_id)
        finally:
            self._profiles.forget_user(user_id)
        await self._on_deactivated(user_id)
