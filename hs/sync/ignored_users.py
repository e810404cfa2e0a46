"""Whom a reader does not want to hear from. Spec: client-server-api module "Ignoring Users"."""

from hs.matrix.ignored_users import decode_ignored
from hs.storage.user_data import IGNORED_USERS, AccountDataStore

_NOBODY: frozenset[str] = frozenset()


class IgnoredUsers:
    """Reads lists of ignored users."""

    def __init__(self, account_data: AccountDataStore) -> None:
        self._account_data = account_data

    async def get(self, user_id: str) -> frozenset[str]:
        """The users that this one ignores, never themselves."""
        content = await self._account_data.find_account_data(user_id, "", IGNORED_USERS)
        return _NOBODY if content is None else decode_ignored(content) - {user_id}
