"""`@endpoint`: what a method of an API class answers to, who may call it and how often.

    @endpoint("PUT", "/_matrix/client/v3/rooms/{room_id}/typing/{user_id}", auth=Auth.USER, limit="typing")
    async def put_typing(self, caller: Caller, room_id: str, user_id: str, body: TypingBody) -> Empty:

The annotations are the schema. Parameters are the path's names (always `str`) and, as wanted, `caller`,
`body` (a Struct, a type that msgspec can decode, or RawJson for an object as the client wrote it), `query`
(a Struct), `client` (a ClientInfo) and, with Auth.SERVER, `origin`: the name of the server that has signed the
request. A body may be `max_body` bytes long.
The answer is a Struct, a dict, Empty, RawJson or LargeJson. Mistakes in a declaration raise at import.
"""

import inspect
import mmap
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar, get_type_hints

import msgspec

from hs.accounts.callers import Caller as Caller
from hs.accounts.callers import ClientInfo as ClientInfo
from hs.http.decoding import (
    MAX_DEPTH,
    MAX_SERVER_DEPTH,
    Fields,
    build_body_decoder,
    build_query_decoder,
)

_PARAMETER = re.compile(r"\{([a-z_]+)\}")
_METHODS = frozenset({"GET", "PUT", "POST", "DELETE"})
# An event has at most 64 KiB; device messages and key uploads of a busy client stay below this.
MAX_BODY_BYTES = 1024 * 1024

Handler = TypeVar("Handler", bound=Callable[..., Awaitable[Any]])


class Auth(Enum):
    """Who may call an endpoint."""

    NONE = "anybody"
    OPTIONAL_USER = "anybody; a token, if there is one, must be valid"
    USER = "users with an access token"
    LOCKED_USER = "users with an access token, even while their account is locked"
    ADMIN = "server administrators"
    SERVER = "other servers, by a signature of the request"


class Empty(msgspec.Struct, frozen=True):
    """The answer `{}`."""


@dataclass(frozen=True, slots=True)
class RawJson:
    """An answer that is JSON bytes already; as a body, a JSON object that is checked but not decoded."""

    body: bytes
    status: int = 200


@dataclass(frozen=True, slots=True)
class LargeJson:
    """An answer that is JSON already, in a file where it is large (`hs.net.spool`)."""

    body: bytes | mmap.mmap


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A declaration, as routing and dispatch need it."""

    name: str
    method: str
    paths: tuple[str, ...]
    auth: Auth
    limit: str | None
    path_names: tuple[str, ...]
    wants_caller: bool
    wants_client: bool
    wants_origin: bool
    max_body: int
    body_type: Any
    query_type: Any
    decode_body: Callable[[bytes], Any] | None = field(repr=False)
    decode_query: Callable[[Fields], Any] | None = field(repr=False)


def endpoint(
    method: str,
    path: str,
    *more_paths: str,
    auth: Auth,
    limit: str | None,
    max_body: int = MAX_BODY_BYTES,
) -> Callable[[Handler], Handler]:
    """Declares the method as an endpoint; `limit` names a bucket of the rate limiter, None is no limit."""

    def declare(handler: Handler) -> Handler:
        handler.__endpoint__ = _describe(  # type: ignore[attr-defined]
            handler, method, (path, *more_paths), auth, limit, max_body
        )
        return handler

    return declare


def list_endpoints(api: object) -> list[tuple[Endpoint, Callable[..., Awaitable[Any]]]]:
    """The endpoints of an API object with their bound methods."""
    found = []
    for name, member in inspect.getmembers(type(api), inspect.isfunction):
        declared = getattr(member, "__endpoint__", None)
        if declared is not None:
            found.append((declared, getattr(api, name)))
    return found


def _describe(
    handler: Callable[..., Awaitable[Any]],
    method: str,
    paths: tuple[str, ...],
    auth: Auth,
    limit: str | None,
    max_body: int,
) -> Endpoint:
    if method not in _METHODS:
        raise TypeError(f"{handler.__qualname__}: {method} is no method of the Matrix APIs")
    hints = get_type_hints(handler)
    given = set(inspect.signature(handler).parameters) - {"self"}
    path_names = set(_PARAMETER.findall(paths[0]))
    for path in paths:
        if set(_PARAMETER.findall(path)) != path_names:
            raise TypeError(f"{handler.__qualname__}: {path} has other names than {paths[0]}")
    special = {"caller", "body", "query", "client", "origin"}
    if given - special != path_names:
        raise TypeError(
            f"{handler.__qualname__}: parameters {given - special} are not the path's {path_names}"
        )
    if "caller" in given and auth in (Auth.NONE, Auth.SERVER):
        raise TypeError(f"{handler.__qualname__}: there is no caller without an access token")
    if "origin" in given and auth is not Auth.SERVER:
        raise TypeError(f"{handler.__qualname__}: there is no origin without a signature")
    body_type, query_type = hints.get("body"), hints.get("query")
    max_depth = MAX_SERVER_DEPTH if auth is Auth.SERVER else MAX_DEPTH
    return Endpoint(
        name=handler.__name__,
        method=method,
        paths=paths,
        auth=auth,
        limit=limit,
        path_names=tuple(_PARAMETER.findall(paths[0])),
        wants_caller="caller" in given,
        wants_client="client" in given,
        wants_origin="origin" in given,
        max_body=max_body,
        body_type=body_type,
        query_type=query_type,
        decode_body=None if body_type is None else _build_body_decoder(body_type, max_depth),
        decode_query=None if query_type is None else build_query_decoder(query_type),
    )


def _build_body_decoder(body_type: Any, max_depth: int) -> Callable[[bytes], Any]:
    if body_type is not RawJson:
        return build_body_decoder(body_type, max_depth)
    # Decoding skips nothing: what is stored as it is must be whole and UTF-8 for those who read it.
    check = build_body_decoder(dict[str, Any], max_depth)

    def decode_raw(data: bytes) -> RawJson:
        check(data)
        return RawJson(data or b"{}")

    return decode_raw
