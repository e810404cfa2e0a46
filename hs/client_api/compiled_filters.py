"""Filters of GET /sync, ready to be used. Spec: client-server-api "Filtering".

A client names the same filter in each sync, and most clients of one kind filter alike.
"""

from typing import Protocol

import msgspec
from cachetools import LRUCache

from hs.matrix.filters import NO_FILTER, Filter, SyncFilter, compile_filter, parse_filter

# What each of the two caches may take. Most filters take two kilobytes, the longest a megabyte.
MAX_BYTES = 32 * 2**20
# Compiled, a filter of many names takes about 20 times the bytes of its JSON.
_BYTES_PER_BYTE = 20
_OVERHEAD = 1_000
# Texts of inline filters are remembered up to this length.
_LONGEST_TEXT = 1_000


class FilterSource(Protocol):
    """Filters that users have uploaded."""

    async def get_filter(self, user_id: str, filter_id: str) -> Filter:
        """The filter; NotFound or InvalidParam where there is none of that id."""


class CompiledFilters:
    """Finds and compiles filters; remembers those that were used last, up to so many bytes."""

    def __init__(self, uploaded: FilterSource, max_bytes: int = MAX_BYTES) -> None:
        self._uploaded = uploaded
        # Uploaded and inline filters alike: users who filter alike share the compiled filter.
        self._compiled: LRUCache[Filter, SyncFilter] = LRUCache(max_bytes, _weigh)
        # A filter never changes once it is uploaded.
        self._named: LRUCache[tuple[str, str], SyncFilter] = LRUCache(max_bytes, _weigh)

    def __len__(self) -> int:
        """How many different filters are remembered."""
        return len({*map(id, self._compiled.values()), *map(id, self._named.values())})

    async def find(self, user_id: str, text: str | None) -> SyncFilter:
        """What the `filter` of a request stands for: an id, or JSON.

        Raises NotFound or InvalidParam for an id that is none, NotJson or BadJson for what is no filter.
        """
        if text is None:
            return self._compile(NO_FILTER)
        is_inline = text.startswith("{")
        # Whose filter an id means depends on the user; a filter itself means the same for all.
        key = ("" if is_inline else user_id, text)
        found = self._named.get(key)
        if found is None:
            definition = parse_filter(text) if is_inline else await self._uploaded.get_filter(user_id, text)
            found = self._compile(definition)
            if len(text) <= _LONGEST_TEXT:
                self._named[key] = found
        return found

    def _compile(self, definition: Filter) -> SyncFilter:
        compiled = self._compiled.get(definition)
        if compiled is None:
            compiled = self._compiled[definition] = compile_filter(definition)
        return compiled


def _weigh(compiled: SyncFilter) -> int:
    """About how many bytes the filter takes."""
    return _OVERHEAD + _BYTES_PER_BYTE * len(msgspec.json.encode(compiled.definition))
