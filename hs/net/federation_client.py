"""Requests to other servers, signed by us; answers come back as the declared type or as a RemoteError.

    joined = await client.put_json("a.example", "/_matrix/federation/v2/send_join/...", SendJoin, body=event)

Spec: server-server-api "Request Authentication".
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from hs._fast import canonical_json
from hs.matrix.ids import is_server_name
from hs.matrix.request_auth import sign_request
from hs.net.backoff import Backoff
from hs.net.errors import Unreachable
from hs.net.own_keys import OwnKeys
from hs.net.server_http import ServerHttp, decode_answer

T = TypeVar("T")

Query = Mapping[str, str | int | Sequence[str]]

MAX_ANSWER_BYTES: Final = 1024 * 1024
TIMEOUT_S: Final = 30.0


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

    async def get_json(
        self,
        destination: str,
        path: str,
        answer: type[T],
        *,
        query: Query | None = None,
        max_bytes: int = MAX_ANSWER_BYTES,
        timeout_s: float = TIMEOUT_S,
        forced: bool = False,
    ) -> T:
        """The answer to a GET. `path` is escaped already (`path_of`), `query` is not."""
        return await self._ask("GET", destination, path, answer, query, None, max_bytes, timeout_s, forced)

    async def put_json(
        self,
        destination: str,
        path: str,
        answer: type[T],
        *,
        body: Any,
        query: Query | None = None,
        max_bytes: int = MAX_ANSWER_BYTES,
        timeout_s: float = TIMEOUT_S,
        forced: bool = False,
    ) -> T:
        """The answer to a PUT; `body` as `canonical_body` takes it."""
        return await self._ask("PUT", destination, path, answer, query, body, max_bytes, timeout_s, forced)

    async def post_json(
        self,
        destination: str,
        path: str,
        answer: type[T],
        *,
        body: Any,
        query: Query | None = None,
        max_bytes: int = MAX_ANSWER_BYTES,
        timeout_s: float = TIMEOUT_S,
        forced: bool = False,
    ) -> T:
        """The answer to a POST."""
        return await self._ask("POST", destination, path, answer, query, body, max_bytes, timeout_s, forced)

    async def _ask(
        self,
        method: str,
        destination: str,
        path: str,
        answer: type[T],
        query: Query | None,
        body: Any,
        max_bytes: int,
        timeout_s: float,
        forced: bool,
    ) -> T:
        content = None if body is None else canonical_body(body)
        target = path + (f"?{urlencode(query, doseq=True)}" if query else "")
        headers = self.sign(method, destination, target, content)
        async with self.attempt(destination, forced) as attempt:
            found = await self._http.request(
                method,
                destination,
                target,
                headers=headers,
                body=content,
                max_bytes=max_bytes,
                timeout_s=timeout_s,
            )
            attempt.status = found.status
        return decode_answer(found, msgspec.json.Decoder(answer))

    def sign(self, method: str, destination: str, target: str, content: bytes | None) -> dict[str, str]:
        """The headers of a request; `target` is path and query, `content` the body, canonical JSON."""
        own = self._own
        signed = sign_request(method, target, own.server_name, destination, content, own.signing_key)
        headers = {"Authorization": signed}
        if content is not None:
            headers["Content-Type"] = "application/json"
        return headers

    @asynccontextmanager
    async def attempt(self, destination: str, forced: bool = False) -> AsyncIterator["Attempt"]:
        """Around one request: raises Unreachable where none may be made, and remembers how it ended."""
        if not self._is_enabled:
            raise Unreachable("federation is disabled")
        if destination == self._own.server_name or not is_server_name(destination):
            raise Unreachable(f"{destination!r} is no other server")
        if not forced:
            self._backoff.check(destination)
        started_ts = self._now_ms()
        attempt = Attempt()
        try:
            yield attempt
        except Unreachable:
            await self._backoff.failed(destination, started_ts)
            raise
        if is_answering(attempt.status):
            await self._backoff.succeeded(destination)
        else:
            await self._backoff.failed(destination, started_ts)


@dataclass(slots=True)
class Attempt:
    """One request; `status` is set once there is an answer."""

    status: int = 200


def is_answering(status: int) -> bool:
    """Whether a server that answers with this HTTP status is one to go on asking."""
    return status < 500 and status != 429


def path_of(template: str, *values: str) -> str:
    """The path with each `{}` replaced by a value, escaped."""
    return template.format(*(quote(value, safe="") for value in values))


def canonical_body(body: Any) -> bytes:
    """The body of a request as it is signed and sent; bytes must be canonical JSON already."""
    return body if isinstance(body, bytes) else canonical_json.encode(msgspec.to_builtins(body), strict=False)
