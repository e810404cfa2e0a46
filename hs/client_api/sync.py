"""GET /sync.

Spec: client-server-api "Syncing".
"""

from functools import lru_cache
from typing import Literal

import msgspec

from hs.client_api.compiled_filters import CompiledFilters, FilterSource
from hs.http.endpoint import Auth, Caller, RawJson, endpoint
from hs.matrix.tokens import StreamToken
from hs.sync.client_events import Viewer
from hs.sync.sync_request import SyncRequest
from hs.sync.sync_v2 import SyncV2

# A client that waits longer learns nothing more; proxies give up on connections that are silent.
MAX_TIMEOUT_MS = 300_000
_CACHED_TOKENS = 10_000
# Ours are shorter; a hostile one is some kilobytes long.
_LONGEST_CACHED_TOKEN = 200
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


class SyncApi:
    """Answers syncs."""

    def __init__(self, sync: SyncV2, filters: FilterSource) -> None:
        self._sync = sync
        self._filters = CompiledFilters(filters)
        # All who wait in the same rooms come back with the same token.
        self._parse_short_token = lru_cache(_CACHED_TOKENS)(StreamToken.parse)

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
            await self._filters.find(caller.user_id, query.filter),
            None if query.since is None else self._parse_token(query.since),
            timeout_ms=min(max(query.timeout, 0), MAX_TIMEOUT_MS),
            full_state=query.full_state,
            state_after=query.use_state_after or query.unstable_use_state_after,
            state_after_name=_UNSTABLE_NAME if uses_unstable_name else b"state_after",
            set_presence=query.set_presence,
        )
        return RawJson(await self._sync.sync(request))

    def _parse_token(self, text: str) -> StreamToken:
        parse = self._parse_short_token if len(text) <= _LONGEST_CACHED_TOKEN else StreamToken.parse
        return parse(text)
