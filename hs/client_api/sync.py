"""GET /sync.

Spec: client-server-api "Syncing".
"""

from functools import lru_cache
from typing import Literal, Protocol

import msgspec
from cachetools import LRUCache

from hs.http.endpoint import Auth, Caller, RawJson, endpoint
from hs.matrix.filters import NO_FILTER, Filter, SyncFilter, compile_filter, parse_filter
from hs.matrix.tokens import StreamToken
from hs.sync.client_events import Viewer
from hs.sync.sync_request import SyncRequest
from hs.sync.sync_v2 import SyncV2

# A client that waits longer learns nothing more; proxies give up on connections that are silent.
MAX_TIMEOUT_MS = 300_000
_CACHED_FILTERS = 10_000
# Texts of inline filters are remembered up to this length: 10 MB of them at the most.
_LONGEST_REMEMBERED = 1_000
_CACHED_TOKENS = 10_000
_UNSTABLE = "org.matrix.msc4222."
_UNSTABLE_NAME = f"{_UNSTABLE}state_after".encode()


class SyncQuery(msgspec.Struct):
    """The query of GET /sync."""

    filter: str | None = None
    since: str | None = None
    full_state: bool = False
    set_presence: Literal["online", "offline", "unavailable"] = "online"
    timeout: int = 0
    use_state_after: bool = False
    # Its name before it was accepted, which the answer's member has, too.
    unstable_use_state_after: bool = msgspec.field(default=False, name=_UNSTABLE + "use_state_after")


class FilterSource(Protocol):
    """Filters that users have uploaded."""

    async def get_filter(self, user_id: str, filter_id: str) -> Filter:
        """The filter; NotFound or InvalidParam where there is none of that id."""


class SyncApi:
    """Answers syncs."""

    def __init__(self, sync: SyncV2, filters: FilterSource) -> None:
        self._sync = sync
        self._filters = filters
        # Uploaded and inline filters alike: users who filter alike share the compiled filter.
        self._compiled: LRUCache[Filter, SyncFilter] = LRUCache(_CACHED_FILTERS)
        # A filter never changes once it is uploaded, and a client names the same one in each sync.
        self._named: LRUCache[tuple[str, str], SyncFilter] = LRUCache(_CACHED_FILTERS)
        # All who wait in the same rooms come back with the same token.
        self._parse_token = lru_cache(_CACHED_TOKENS)(StreamToken.parse)

    @endpoint(
        "GET",
        "/_matrix/client/v3/sync",
        "/_matrix/client/r0/sync",
        auth=Auth.USER,
        limit="sync",
    )
    async def get_sync(self, caller: Caller, query: SyncQuery) -> RawJson:
        """What the caller's device lacks since its token."""
        uses_unstable_name = query.unstable_use_state_after and not query.use_state_after
        request = SyncRequest(
            Viewer(caller.user_id, caller.device_id),
            await self._find_filter(caller.user_id, query.filter),
            None if query.since is None else self._parse_token(query.since),
            timeout_ms=min(max(query.timeout, 0), MAX_TIMEOUT_MS),
            full_state=query.full_state,
            state_after=query.use_state_after or query.unstable_use_state_after,
            state_after_name=_UNSTABLE_NAME if uses_unstable_name else b"state_after",
            set_presence=query.set_presence,
        )
        return RawJson(await self._sync.sync(request))

    async def _find_filter(self, user_id: str, text: str | None) -> SyncFilter:
        if text is None:
            return self._compile(NO_FILTER)
        is_inline = text.startswith("{")
        # Whose filter an id means depends on the user; a filter itself means the same for all.
        key = ("" if is_inline else user_id, text)
        found = self._named.get(key)
        if found is None:
            definition = parse_filter(text) if is_inline else await self._filters.get_filter(user_id, text)
            found = self._compile(definition)
            if len(text) <= _LONGEST_REMEMBERED:
                self._named[key] = found
        return found

    def _compile(self, definition: Filter) -> SyncFilter:
        compiled = self._compiled.get(definition)
        if compiled is None:
            compiled = self._compiled[definition] = compile_filter(definition)
        return compiled
