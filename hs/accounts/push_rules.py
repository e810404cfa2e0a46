"""The push rules of users, changed one at a time. Spec: client-server-api module "Push Notifications"."""

from collections.abc import Callable

from cachetools import LRUCache

from hs.matrix.push_rules import PushRules
from hs.storage.user_data import AccountDataStore

# Most users have changed nothing and share one object.
_CACHED = 20_000


class UserPushRules:
    """Reads and changes what users made of the push rules."""

    def __init__(self, store: AccountDataStore) -> None:
        self._store = store
        self._cache: LRUCache[str, PushRules] = LRUCache(_CACHED)
        self._changes = 0

    async def get(self, user_id: str) -> PushRules:
        """The user's rules; the defaults are implied."""
        cached = self._cache.get(user_id)
        if cached is not None:
            return cached
        before = self._changes
        rules = await self._store.find_push_rules(user_id)
        # A change that overtook the query must not be overwritten by what was before it.
        if before == self._changes:
            self._cache[user_id] = rules
        return rules

    async def change(self, user_id: str, change: Callable[[PushRules], PushRules]) -> None:
        """Apply a function of `hs.matrix.push_rules`; what it raises is raised and changes nothing."""
        try:
            await self._store.change_push_rules(user_id, change)
        finally:
            self._changes += 1
            self._cache.pop(user_id, None)
