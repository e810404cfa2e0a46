"""Filters that clients upload once and name in each /sync. Spec: client-server-api "Filtering"."""

from hs.matrix.errors import InvalidParam, NotFound, TooLarge, Unknown
from hs.matrix.filters import Filter, parse_filter
from hs.storage.user_data import FilterStore

# Filters are never deleted; the same one is stored once.
MAX_FILTERS = 1_000
MAX_FILTER_BYTES = 64 * 1024


class Filters:
    """Keeps filters of users."""

    def __init__(self, store: FilterStore) -> None:
        self._store = store

    async def add(self, user_id: str, filter_json: bytes) -> str:
        """The id of the filter; BadJson or NotJson where it is none, TooLarge or Unknown beyond the bounds."""
        if len(filter_json) > MAX_FILTER_BYTES:
            raise TooLarge(f"a filter has at most {MAX_FILTER_BYTES} bytes")
        parse_filter(filter_json)
        filter_id = await self._store.insert_filter(user_id, filter_json, MAX_FILTERS)
        if filter_id is None:
            raise Unknown(f"a user has at most {MAX_FILTERS} filters")
        return str(filter_id)

    async def get_json(self, user_id: str, filter_id: str) -> bytes:
        """The filter as it was uploaded; NotFound or InvalidParam where there is none of that id."""
        if not (filter_id.isascii() and filter_id.isdecimal()):
            raise InvalidParam("not the id of a filter")
        # More digits than there are filters; also more than the database's integers have.
        found = await self._store.find_filter(user_id, int(filter_id)) if len(filter_id) < 10 else None
        if found is None:
            raise NotFound("no such filter")
        return found

    async def get_filter(self, user_id: str, filter_id: str) -> Filter:
        """The filter; NotFound or InvalidParam where there is none of that id."""
        return parse_filter(await self.get_json(user_id, filter_id))
