"""New accounts. Spec: client-server-api "Account registration"."""

import secrets

from hs.accounts.passwords import Passwords
from hs.matrix.errors import UserInUse
from hs.matrix.ids import make_user_id
from hs.rooms.clock import Clock
from hs.storage.users import UserStore

# Names for those who bring none: no vowels, so no words; 24 bits more than all users of the network need.
_LETTERS = "bcdfghjkmnpqrstvwxz23456789"
_GENERATED_LENGTH = 12


class Registration:
    """Makes accounts of local users."""

    def __init__(self, users: UserStore, passwords: Passwords, server_name: str, clock: Clock) -> None:
        self._users = users
        self._passwords = passwords
        self._server_name = server_name
        self._clock = clock

    async def check_available(self, localpart: str) -> None:
        """InvalidUsername where nobody can have the name, UserInUse where somebody has or had it."""
        user_id = make_user_id(localpart, self._server_name)
        if await self._users.find_user(user_id) is not None:
            raise UserInUse("this user name is taken")

    async def register(
        self,
        localpart: str | None,
        password: str | None,
        admin: bool = False,
        display_name: str | None = None,
    ) -> str:
        """The user id of the new account, with a generated name where `localpart` is None.

        Without a password nobody can log in with one; the display name is the localpart unless given.
        Raises InvalidUsername, UserInUse, and InvalidParam for a password of absurd length.
        """
        name = _generate() if localpart is None else localpart
        # Before the expensive hash; the insert below is what counts.
        await self.check_available(name)
        user_id = make_user_id(name, self._server_name)
        password_hash = None if password is None else await self._passwords.hash(password)
        if not await self._users.insert_user(
            user_id, password_hash, admin, display_name or name, self._clock.now_ms()
        ):
            raise UserInUse("this user name is taken")
        return user_id


def fold_capitals(username: str) -> str:
    """The name with small letters: phones put a capital first, and user ids have none."""
    # Only ASCII: elsewhere lower() turns some letters into others, such as the Kelvin sign into a k.
    return username.lower() if username.isascii() else username


def _generate() -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(_GENERATED_LENGTH))
