"""One HTTP request to a server by its Matrix name: it is found, then asked at one address after the other."""

import asyncio
from collections.abc import Hashable, Mapping, Sequence
from functools import cache
from typing import Any, Final, Protocol, TypeVar

import msgspec

from hs.matrix.json_depth import is_nested_deeper
from hs.net.bounds import Bounds
from hs.net.errors import BadAnswer, RemoteError, RemoteRefused, TimedOut, Unreachable
from hs.net.spool import Body, leave_memory

T = TypeVar("T")

# Events have 512 levels at most (canonical JSON), answers some more around them; Python gives up at 1,000.
MAX_DEPTH: Final = 520
# Addresses of one server that are tried for one request.
MAX_TRIES: Final = 4
_MAX_TEXT: Final = 200


class HttpAnswer(Protocol):
    """An answer, read to its end."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, whatever their case."""

    @property
    def body(self) -> Body:
        """All of it."""


class Finder(Protocol):
    """Finds servers by their names."""

    async def find(self, server_name: str) -> Sequence[Any]:
        """Where the server may be reached, best first. Spec: "Resolving server names"."""

    def forget(self, server_name: str) -> None:
        """It could not be reached: it may be elsewhere by now."""


class Http(Protocol):
    """Makes requests."""

    async def request(
        self,
        method: str,
        target_or_url: Any,
        bounds: Bounds,
        *,
        path: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        is_timed_by_caller: bool = False,
    ) -> HttpAnswer:
        """The answer of one address, or to a URL; RemoteError where there is none."""


class NoServers:
    """Finds and asks nobody: federation is disabled."""

    async def find(self, server_name: str) -> Sequence[Any]:
        """Raises Unreachable."""
        raise Unreachable("federation is disabled")

    def forget(self, server_name: str) -> None:
        """Nothing is known."""

    async def request(self, method: str, target_or_url: Any, bounds: Bounds, **options: Any) -> HttpAnswer:
        """Raises Unreachable."""
        raise Unreachable("federation is disabled")


class ServerHttp:
    """Requests to servers."""

    def __init__(self, http: Http, finder: Finder) -> None:
        self._http = http
        self._finder = finder

    async def request(
        self,
        method: str,
        server_name: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        bounds: Bounds,
    ) -> HttpAnswer:
        """What the server answers, whatever the status. The bounds are for all of it, finding it included.

        Raises Unreachable and its kind, or TooLong. Requests between servers may be repeated, so the next
        address is tried also where a connection broke after the request was sent.
        """
        try:
            async with asyncio.timeout(bounds.timeout_s):
                failure: RemoteError = Unreachable(f"{server_name} has no address")
                for target in (await self._finder.find(server_name))[:MAX_TRIES]:
                    try:
                        return await self._http.request(
                            method,
                            target,
                            bounds,
                            path=path,
                            headers=headers or {},
                            body=body,
                            is_timed_by_caller=True,
                        )
                    except Unreachable as error:
                        failure = error
                self._finder.forget(server_name)
                raise failure
        except TimeoutError as error:
            self._finder.forget(server_name)
            raise TimedOut(f"{server_name} took longer than {bounds.timeout_s:g} s") from error


class _Error(msgspec.Struct):
    errcode: str = "M_UNKNOWN"
    error: str = ""
    room_version: str | None = None


def decode_answer(answer: HttpAnswer, wanted: type[T]) -> T:
    """The body as the wanted type; RemoteRefused for an error status, BadAnswer for what does not fit."""
    if not 200 <= answer.status < 300:
        raise _refusal(answer)
    as_key: Any = wanted
    try:
        decoded: T = _decoder_of(as_key).decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadAnswer(f"the answer does not fit: {error}") from error
    except RecursionError as error:
        raise BadAnswer("the answer is nested too deeply") from error
    leave_memory(answer.body)
    # What is spooled is full of events, each of which is checked on its own; nothing else may be that large.
    if isinstance(answer.body, bytes) and is_nested_deeper(answer.body, MAX_DEPTH):
        raise BadAnswer("the answer is nested too deeply")
    return decoded


@cache
def _decoder_of(wanted: Hashable) -> "msgspec.json.Decoder[Any]":
    """To make one takes longer than to decode most answers."""
    return msgspec.json.Decoder(wanted)


def _refusal(answer: HttpAnswer) -> RemoteRefused:
    try:
        told = msgspec.json.decode(answer.body, type=_Error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        told = _Error()
    version = None if told.room_version is None else told.room_version[:_MAX_TEXT]
    return RemoteRefused(answer.status, told.errcode[:_MAX_TEXT], told.error[:_MAX_TEXT], version)
