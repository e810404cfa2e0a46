"""One request from raw bytes to answer: routing, authentication, limits, decoding, errors as JSON.

aiohttp's low-level server is used without its application layer: one lookup in a tree of path segments
replaces its list of regular expressions, and there is nothing between a request and its endpoint.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, cast

from aiohttp import web
from prometheus_client import CollectorRegistry, Histogram

from hs.http.answers import (
    PREFLIGHT,
    Answer,
    HttpDate,
    WiredAnswer,
    WrongMethod,
    answer_crash,
    answer_error,
    answer_result,
)
from hs.http.decoding import MAX_QUERY_FIELDS as MAX_QUERY_FIELDS
from hs.http.decoding import Fields, parse_query
from hs.http.endpoint import MAX_BODY_BYTES as MAX_BODY_BYTES
from hs.http.endpoint import Auth, Caller, ClientInfo, list_endpoints
from hs.http.rate_limit import RateLimiter
from hs.http.router import Route, Router
from hs.http.suspension import check_suspension
from hs.matrix.errors import (
    Forbidden,
    MatrixError,
    MissingToken,
    TooLarge,
    Unknown,
    Unrecognized,
    UserLocked,
)

logger = logging.getLogger(__name__)

# A slow phone sends a full body in this time; who takes longer holds a connection for nothing.
BODY_TIMEOUT_S = 60.0


def make_durations(registry: CollectorRegistry | None = None) -> Histogram:
    """The histogram of request times; endpoints are a fixed set of labels."""
    return Histogram(
        "hs_http_request_seconds",
        "Time to answer a request, long polls included.",
        ["endpoint", "method", "code"],
        buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100),
        registry=registry,
    )


class Authenticator(Protocol):
    """Knows whom an access token stands for."""

    async def authenticate(self, token: str, client: ClientInfo) -> Caller:
        """The token's user and device; UnknownToken where there is none."""


class ServerAuthenticator(Protocol):
    """Knows which server has signed a request."""

    async def authenticate(
        self,
        authorizations: Sequence[str],
        method: str,
        target: str,
        address: str,
        read_body: Callable[[], Awaitable[bytes]],
    ) -> str:
        """The name of the server; Unauthorized where no signature of it is right.

        `authorizations` are the request's Authorization headers, `target` its path and query as they came,
        `address` who has sent it. The body need not be read where the headers are wrong already.
        """


class App:
    """Answers the requests of a listener.

    What is for other servers alone is served only with a `server_authenticator`.
    """

    def __init__(
        self,
        apis: Sequence[object],
        authenticator: Authenticator,
        limiter: RateLimiter,
        trusts_proxy: bool = False,
        durations: Histogram | None = None,
        server_authenticator: ServerAuthenticator | None = None,
    ) -> None:
        self._router = Router()
        for api in apis:
            for declared, handler in list_endpoints(api):
                if declared.auth is not Auth.SERVER or server_authenticator is not None:
                    self._router.add(declared, handler)
        self._authenticator = authenticator
        self._server_authenticator = server_authenticator
        self._limiter = limiter
        self._trusts_proxy = trusts_proxy
        self._durations = durations or make_durations()
        # By endpoint, method and status: as many as the histogram has labels.
        self._observers: dict[tuple[str, str, int], Callable[[float], None]] = {}
        self._date = HttpDate()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to a request; never raises for what a client has done."""
        started = time.perf_counter()
        route: Route | None = None
        try:
            if request.method == "OPTIONS":
                # Spec: no logic of an endpoint runs for it.
                answer = PREFLIGHT
            else:
                target = _origin_form(request.raw_path)
                route, values = self._find_route(request.method, target.partition("?")[0])
                answer = await self._call(request, route, values, target)
        except MatrixError as error:
            answer = answer_error(error)
        except Exception:
            # The last resort of every endpoint: whatever is wrong must not take the server down.
            answer = answer_crash("none" if route is None else route.endpoint.name)
        self._observe(route, request.method, answer, time.perf_counter() - started)
        return cast(web.StreamResponse, WiredAnswer(request, answer, self._date.now()))

    def _observe(self, route: Route | None, method: str, answer: Answer, seconds: float) -> None:
        # What somebody made up must not become a label.
        labels = ("none", "any") if route is None else (route.endpoint.name, route.endpoint.method)
        observe = self._observers.get((*labels, answer.status))
        if observe is None:
            observe = self._durations.labels(*labels, str(answer.status)).observe
            self._observers[*labels, answer.status] = observe
        observe(seconds)
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("%s %s: %d in %.1f ms", method, labels[0], answer.status, seconds * 1000)

    def _find_route(self, method: str, raw_path: str) -> tuple[Route, tuple[str, ...]]:
        match = self._router.find(raw_path)
        if match is None:
            raise Unrecognized("unrecognized request")
        route = match.routes.get("GET" if method == "HEAD" else method)
        if route is None:
            raise WrongMethod([*sorted(match.routes), "OPTIONS"])
        return route, match.values

    async def _call(
        self, request: web.BaseRequest, route: Route, values: tuple[str, ...], target: str
    ) -> Answer:
        endpoint = route.endpoint
        fields = parse_query(target.partition("?")[2])
        client = self._client_of(request)
        arguments: dict[str, Any] = dict(zip(route.names, values, strict=True))
        body = _Body(request, endpoint.max_body)
        if endpoint.auth is Auth.SERVER:
            origin = await self._authenticate_server(request, target, client, body)
            if endpoint.limit is not None:
                self._limiter.check_server(endpoint.limit, origin)
            if endpoint.wants_origin:
                arguments["origin"] = origin
        else:
            caller = await self._authenticate(request, endpoint.auth, fields, client)
            if caller is not None and caller.is_suspended:
                check_suspension(caller, endpoint)
            if endpoint.limit is not None:
                if caller is not None:
                    await self._limiter.check_user(endpoint.limit, caller.user_id, caller.is_appservice)
                else:
                    self._limiter.check_address(endpoint.limit, client.address)
            if endpoint.wants_caller:
                arguments["caller"] = caller
        if endpoint.wants_client:
            arguments["client"] = client
        if endpoint.decode_query is not None:
            arguments["query"] = endpoint.decode_query(fields)
        if endpoint.decode_body is not None:
            arguments["body"] = endpoint.decode_body(await body.read())
        return answer_result(await route.handler(**arguments))

    async def _authenticate_server(
        self, request: web.BaseRequest, target: str, client: ClientInfo, body: "_Body"
    ) -> str:
        assert self._server_authenticator is not None  # there is no route without it
        headers = request.headers.getall("Authorization", [])
        return await self._server_authenticator.authenticate(
            headers, request.method, target, client.address, body.read
        )

    async def _authenticate(
        self, request: web.BaseRequest, auth: Auth, fields: Fields, client: ClientInfo
    ) -> Caller | None:
        if auth is Auth.NONE:
            return None
        token = _token_of(request, fields)
        if token is None:
            if auth is Auth.OPTIONAL_USER:
                return None
            raise MissingToken("missing access token")
        caller = await self._authenticator.authenticate(token, client)
        if caller.is_locked and auth is not Auth.LOCKED_USER:
            raise UserLocked()
        if auth is Auth.ADMIN and not caller.is_admin:
            raise Forbidden("you are not a server administrator")
        return caller

    def _client_of(self, request: web.BaseRequest) -> ClientInfo:
        address, scheme = request.remote or "", request.scheme
        headers = request.headers
        if self._trusts_proxy:
            # The proxy appends the address it has seen: the last one is the only one it vouches for.
            forwarded = headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
            address = forwarded or address
            scheme = headers.get("X-Forwarded-Proto", scheme)
        return ClientInfo(
            address, headers.get("User-Agent", ""), f"{scheme}://{headers.get('Host', 'localhost')}"
        )


def _origin_form(target: str) -> str:
    """The path and query of a request target; what a proxy is asked for starts with scheme and host."""
    if target.startswith("/"):
        return target
    _, _, rest = target.partition("://")
    return "/" + rest.partition("/")[2]


def _token_of(request: web.BaseRequest, fields: Fields) -> str | None:
    header = request.headers.get("Authorization")
    if header is not None:
        scheme, _, token = header.partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            return token.strip()
        raise MissingToken("the Authorization header has no bearer token")
    # Deprecated, still used by old clients.
    tokens = fields.get("access_token")
    return tokens[0] if tokens else None


class _Body:
    """A request's body, which is read once, when it is needed."""

    def __init__(self, request: web.BaseRequest, max_bytes: int) -> None:
        self._request = request
        self._max_bytes = max_bytes
        self._data: bytes | None = None

    async def read(self) -> bytes:
        """All of it; TooLarge beyond the limit."""
        if self._data is None:
            self._data = await _read_body(self._request, self._max_bytes)
        return self._data


async def _read_body(request: web.BaseRequest, max_bytes: int) -> bytes:
    content = request.content
    if content.is_eof():
        # The ordinary case: it came together with the head.
        data = content.read_nowait()
        if len(data) > max_bytes:
            raise TooLarge("the request body is too large")
        return data
    length = request.content_length
    if length is not None and length > max_bytes:
        raise TooLarge("the request body is too large")
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    chunks, size = [], 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in content.iter_any():
                size += len(chunk)
                if size > max_bytes:
                    raise TooLarge("the request body is too large")
                chunks.append(chunk)
    except TimeoutError as error:
        raise Unknown("the request body took too long", http_status=408) from error
    return b"".join(chunks)
