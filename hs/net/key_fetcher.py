"""Requests for signing keys, to servers themselves and to notaries. Not signed: who asks does not matter.

Spec: server-server-api "Retrieving server keys", "Querying Keys Through Another Server".
"""

import logging
from collections.abc import Collection
from typing import Any, Final

import msgspec

from hs.net.bounds import Bounds
from hs.net.errors import RemoteError
from hs.net.server_http import ServerHttp, decode_answer
from hs.net.server_keys import Wanted

logger = logging.getLogger(__name__)

BOUNDS: Final = Bounds(64 * 1024, 10.0)
# Each server may have an answer as large as above, but never has.
NOTARY_BOUNDS: Final = Bounds(4 * 1024 * 1024, 20.0)


class _NotaryAnswer(msgspec.Struct):
    server_keys: list[dict[str, Any]] = []


class KeyFetcher:
    """Asks for keys; what goes wrong is logged, not raised."""

    def __init__(self, http: ServerHttp, notaries: Collection[str]) -> None:
        self._http = http
        self._notaries = notaries

    @property
    def notaries(self) -> Collection[str]:
        """Servers that we believe what they say of others."""
        return self._notaries

    async def fetch(self, server_name: str) -> Any:
        """The server's answer about its own keys, decoded JSON; None where there is none."""
        try:
            answer = await self._http.request("GET", server_name, "/_matrix/key/v2/server", bounds=BOUNDS)
            return decode_answer(answer, dict[str, Any])
        except RemoteError as error:
            logger.info("%s does not tell its keys: %s", server_name, error)
            return None

    async def fetch_from(self, notary: str, wanted: Wanted) -> list[Any] | None:
        """What a notary answers about the keys of others, decoded JSON; None where it does not answer."""
        criteria = {
            name: {key_id: {"minimum_valid_until_ts": ts} for key_id, ts in key_ids.items()}
            for name, key_ids in wanted.items()
        }
        try:
            answer = await self._http.request(
                "POST",
                notary,
                "/_matrix/key/v2/query",
                headers={"Content-Type": "application/json"},
                body=msgspec.json.encode({"server_keys": criteria}),
                bounds=NOTARY_BOUNDS,
            )
            told = decode_answer(answer, _NotaryAnswer).server_keys
        except RemoteError as error:
            logger.info("the notary %s does not answer: %s", notary, error)
            return None
        # One server may have several answers, of different ages.
        return told[: 3 * len(wanted) + 10]
