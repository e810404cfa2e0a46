"""Whose signature a request to us has.

Spec: server-server-api "Request Authentication".
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from hs._fast.canonical_json import CanonicalJsonError
from hs.matrix.errors import BadJson, LimitExceeded, Unauthorized
from hs.matrix.keys import BadSignature, ServerKey, verify_bytes
from hs.matrix.request_auth import (
    RequestSignature,
    canonical_content,
    parse_authorizations,
    request_bytes,
)
from hs.net.fetch_budget import FetchBudget
from hs.net.server_keys import ServerKeys

# A check takes 54 us, and 2 ms more for each megabyte; below this a thread costs more than it spares.
_LARGE_BYTES: Final = 256 * 1024


class RequestCheck:
    """Checks the signatures of requests; `on_heard` is told whose was right."""

    def __init__(
        self,
        server_name: str,
        keys: ServerKeys,
        budget: FetchBudget,
        now_ms: Callable[[], int],
        on_heard: Callable[[str], None],
    ) -> None:
        self._server_name = server_name
        self._keys = keys
        self._budget = budget
        self._now_ms = now_ms
        self._on_heard = on_heard

    async def authenticate(
        self,
        authorizations: Sequence[str],
        method: str,
        target: str,
        address: str,
        read_body: Callable[[], Awaitable[bytes]],
    ) -> str:
        """The name of the server that has signed the request; Unauthorized where none has.

        The body is read once the keys are there: who has none cannot have us read megabytes. LimitExceeded where
        the address has made us ask for too many keys.
        """
        signatures = parse_authorizations(authorizations, self._server_name)
        keys = await self._get_keys(signatures, address)
        body = await read_body()
        if len(body) > _LARGE_BYTES:
            is_right = await asyncio.to_thread(self._is_right, signatures, keys, method, target, body)
        else:
            is_right = self._is_right(signatures, keys, method, target, body)
        if not is_right:
            raise Unauthorized("the signature of the request is wrong")
        origin = signatures[0].origin
        self._on_heard(origin)
        return origin

    async def _get_keys(self, signatures: Sequence[RequestSignature], address: str) -> dict[str, ServerKey]:
        """The origin's keys that are valid now, of those it has signed with; Unauthorized where there is none."""
        origin, now_ms = signatures[0].origin, self._now_ms()
        wanted = {signature.key_id: now_ms for signature in signatures}
        if await self._keys.needs_fetch(origin, wanted) and not self._budget.take(address, 1):
            raise LimitExceeded("too many servers whose keys are not known here", retry_after_ms=5000)
        known = (await self._keys.get_keys({origin: wanted}, for_stranger=True))[origin]
        # Later than above: what was fetched meanwhile may have retired a key just now.
        now_ms = self._now_ms()
        valid = {
            key_id: known[key_id] for key_id in wanted if key_id in known and known[key_id].covers(now_ms)
        }
        if not valid:
            raise Unauthorized(f"no valid key of {origin} is known that has signed the request")
        return valid

    def _is_right(
        self,
        signatures: Sequence[RequestSignature],
        keys: dict[str, ServerKey],
        method: str,
        target: str,
        body: bytes,
    ) -> bool:
        # Most bodies come as the canonical JSON that was signed. What was signed otherwise is decoded for it.
        return self._matches(signatures, keys, method, target, body) or (
            bool(body) and self._matches(signatures, keys, method, target, canonical_content(body))
        )

    def _matches(
        self,
        signatures: Sequence[RequestSignature],
        keys: dict[str, ServerKey],
        method: str,
        target: str,
        content: bytes,
    ) -> bool:
        origin = signatures[0].origin
        try:
            message = request_bytes(method, target, origin, self._server_name, content or None)
        except CanonicalJsonError as error:
            raise BadJson("the request target is no UTF-8") from error
        for signature in signatures:
            key = keys.get(signature.key_id)
            if key is not None:
                try:
                    verify_bytes(message, signature.signature, key.verify_key)
                except BadSignature:
                    continue
                return True
        return False
