"""Whom a reader does not want to hear from. Spec: client-server-api module "Ignoring Users"."""

from cachetools import LRUCache

from hs.matrix.ignored_users import decode_ignored
from hs.storage.user_data import IGNORED_USERS, AccountDataStore

_NOBODY: frozenset[str] = frozenset()
# Most ignore nobody, which takes about 100 bytes.
_REMEMBERED = 50_000


class IgnoredUsers:
    """Reads lists of ignored users; asked at every sync, so they are remembered."""

    def __init__(self, account_data: AccountDataStore) -> None:
        self._account_data = account_data
        self._known: LRUCache[str, frozenset[str]] = LRUCache(_REMEMBERED)
        # Counts changes, so that what was read before one is not remembered after it.
        self._changes = 0

    async def get(self, user_id: str) -> frozenset[str]:
        """The users that this one ignores, never themselves."""
        known = self._known.get(user_id)
        if known is None:
            before = self._changes
            content = await self._account_data.find_account_data(user_id, "", IGNORED_USERS)
            known = _NOBODY if content is None else decode_ignored(content) - {user_id}
            if before == self._changes:
                self._known[user_id] = known
        return known

    def forget(self, user_id: str) -> None:
        """The user may have another list from now on."""
        self._changes += 1
        self._known.pop(user_id, None)
