"""Requests to other servers, signed by us; answers come back as the declared type or as a RemoteError.

    joined = await client.ask("PUT", "a.example", "/_matrix/federation/v2/send_join/...", SendJoin, body=event)

Spec: server-server-api "Request Authentication".
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from hs._fast import canonical_json
from hs.matrix.ids import is_server_name
from hs.matrix.request_auth import sign_request
from hs.net.backoff import Backoff
from hs.net.bounds import Bounds
from hs.net.errors import Unreachable
from hs.net.own_keys import OwnKeys
from hs.net.server_http import ServerHttp, decode_answer

T = TypeVar("T")

Query = Mapping[str, str | int | Sequence[str]]

Method = Literal["GET", "PUT", "POST"]

BOUNDS: Final = Bounds(1024 * 1024, 30.0)


class FederationClient:
    """Asks other servers.

    A server that did not answer is left alone for a while: requests to it fail at once with Unreachable,
    unless they are `forced`, which is for what somebody is waiting for who may know better.
    """

    def __init__(
        self,
        http: ServerHttp,
        own: OwnKeys,
        backoff: Backoff,
        now_ms: Callable[[], int],
        is_enabled: bool = True,
    ) -> None:
        self._http = http
        self._own = own
        self._backoff = backoff
        self._now_ms = now_ms
        self._is_enabled = is_enabled

    @property
    def own_name(self) -> str:
        """Who asks."""
        return self._own.server_name

    async def ask(
        self,
        method: Method,
        destination: str,
        path: str,
        answer: type[T],
        *,
        query: Query | None = None,
        body: Any = None,
        bounds: Bounds = BOUNDS,
        forced: bool = False,
    ) -> T:
        """The server's answer.

        `path` is escaped already (`path_of`), `query` is not; `body` as `canonical_body` takes it. Raises RemoteError.
        """
        self._check(destination, forced)
        content = None if body is None else canonical_body(body)
        target = path + (f"?{urlencode(query, doseq=True)}" if query else "")
        headers = self.sign(method, destination, target, content)
        # Of what is sent to many at once, all is signed first: changing between the curve and the network leaves neither
        # in the processor's cache, and costs a twelfth of the whole.
        await asyncio.sleep(0)
        started_ts = self._now_ms()
        try:
            found = await self._http.request(
                method, destination, target, headers=headers, body=content, bounds=bounds
            )
        except Unreachable:
            await self._backoff.failed(destination, started_ts)
            raise
        if is_answering(found.status):
            await self._backoff.succeeded(destination)
        else:
            wished_ms = read_retry_after(found.headers, self._now_ms())
            await self._backoff.failed(destination, started_ts, wished_ms)
        return decode_answer(found, answer)

    def sign(self, method: str, destination: str, target: str, content: bytes | None) -> dict[str, str]:
        """The headers of a request; `target` is path and query, `content` the body, canonical JSON."""
        own = self._own
        signed = sign_request(method, target, own.server_name, destination, content, own.signing_key)
        headers = {"Authorization": signed}
        if content is not None:
            headers["Content-Type"] = "application/json"
        return headers

    def _check(self, destination: str, forced: bool) -> None:
        """Raise Unreachable where the server is not to be asked."""
        if not self._is_enabled:
            raise Unreachable("federation is disabled")
        if destination == self._own.server_name or not is_server_name(destination):
            raise Unreachable(f"{destination!r} is no other server")
        if not forced:
            self._backoff.check(destination)


def is_answering(status: int) -> bool:
    """Whether a server that answers with this HTTP status is one to go on asking."""
    return status < 500 and status != 429


def read_retry_after(headers: Mapping[str, str], now_ms: int) -> int:
    """How many milliseconds a Retry-After asks for; 0 where there is none, or none of sense. RFC 9110, 10.2.3."""
    said = headers.get("Retry-After", "").strip()
    if said.isascii() and said.isdigit():
        # Whatever is longer is cut to less than this.
        return int(said[:9]) * 1000
    try:
        return max(round(parsedate_to_datetime(said[:64]).timestamp() * 1000) - now_ms, 0)
    except (ValueError, TypeError, OverflowError, IndexError):
        return 0


def path_of(template: str, *values: str) -> str:
    """The path with each `{}` replaced by a value, escaped."""
    return template.format(*(quote(value, safe="") for value in values))


def canonical_body(body: Any) -> bytes:
    """The body of a request as it is signed and sent; bytes must be canonical JSON already."""
    return body if isinstance(body, bytes) else canonical_json.encode(msgspec.to_builtins(body), strict=False)
