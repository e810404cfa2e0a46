"""One request from raw bytes to answer: routing, authentication, limits, decoding, errors as JSON.

aiohttp's low-level server is used without its application layer: one lookup in a tree of path segments
replaces its list of regular expressions, and there is nothing between a request and its endpoint.
"""

import logging
import secrets
import time
from collections.abc import Sequence
from typing import Any, Protocol
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, Histogram

from hs.http.endpoint import Auth, Caller, ClientInfo, Empty, RawJson, list_endpoints
from hs.http.rate_limit import RateLimiter
from hs.http.router import Route, Router
from hs.matrix.errors import (
    BadJson,
    Forbidden,
    InvalidParam,
    LimitExceeded,
    MatrixError,
    MethodNotAllowed,
    MissingToken,
    NotJson,
    TooLarge,
    Unrecognized,
    UserLocked,
)

logger = logging.getLogger(__name__)

# An event has at most 64 KiB; device messages and key uploads of a busy client stay below this.
MAX_BODY_BYTES = 1024 * 1024
# More than any client sends; parsing the query of a hostile request costs no more than this.
MAX_QUERY_FIELDS = 100

# Spec: client-server-api "Web Browser Clients".
CORS_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "X-Requested-With, Content-Type, Authorization",
}
_JSON_HEADERS = {"Content-Type": "application/json", **CORS_HEADERS}


def make_durations(registry: CollectorRegistry | None = None) -> Histogram:
    """The histogram of request times; endpoints are a fixed set of labels."""
    return Histogram(
        "hs_http_request_seconds",
        "Time to answer a request, long polls included.",
        ["endpoint", "method", "code"],
        buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100),
        registry=registry,
    )


_encoder = msgspec.json.Encoder()


class Authenticator(Protocol):
    """Knows whom an access token stands for."""

    async def authenticate(self, token: str, client: ClientInfo) -> Caller:
        """The token's user and device; UnknownToken where there is none."""


class App:
    """Answers the requests of a listener."""

    def __init__(
        self,
        apis: Sequence[object],
        authenticator: Authenticator,
        limiter: RateLimiter,
        trusts_proxy: bool = False,
        durations: Histogram | None = None,
    ) -> None:
        self._router = Router()
        for api in apis:
            for declared, handler in list_endpoints(api):
                self._router.add(declared, handler)
        self._authenticator = authenticator
        self._limiter = limiter
        self._trusts_proxy = trusts_proxy
        self._durations = durations or make_durations()
        self._body_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to a request; never raises for what a client has done."""
        started = time.perf_counter()
        name = "none"
        try:
            raw_path, _, raw_query = request.raw_path.partition("?")
            if request.method == "OPTIONS":
                return web.Response(status=204, headers=CORS_HEADERS)
            route, values = self._find_route(request.method, raw_path)
            name = route.endpoint.name
            answer = await self._call(request, route, values, raw_query)
        except MatrixError as error:
            answer = _error_answer(error)
        except Exception:
            # The last resort of every endpoint: whatever is wrong must not take the server down.
            answer = _internal_error(name)
        self._durations.labels(name, request.method if name != "none" else "any", str(answer.status)).observe(
            time.perf_counter() - started
        )
        return answer

    def _find_route(self, method: str, raw_path: str) -> tuple[Route, tuple[str, ...]]:
        match = self._router.find(raw_path)
        if match is None:
            raise Unrecognized("unrecognized request")
        route = match.routes.get("GET" if method == "HEAD" else method)
        if route is None:
            raise MethodNotAllowed("the method is not allowed here")
        return route, match.values

    async def _call(
        self, request: web.BaseRequest, route: Route, values: tuple[str, ...], raw_query: str
    ) -> web.Response:
        endpoint = route.endpoint
        fields = _parse_query(raw_query)
        client = self._client_of(request)
        arguments: dict[str, Any] = dict(zip(route.names, values, strict=True))
        caller = await self._authenticate(request, endpoint.auth, fields, client)
        if endpoint.limit is not None:
            if caller is not None:
                await self._limiter.check_user(endpoint.limit, caller.user_id, caller.is_appservice)
            else:
                self._limiter.check_address(endpoint.limit, client.address)
        if endpoint.wants_caller:
            arguments["caller"] = caller
        if endpoint.wants_client:
            arguments["client"] = client
        if endpoint.query_type is not None:
            arguments["query"] = _convert_query(fields, endpoint.query_type)
        if endpoint.body_type is not None:
            arguments["body"] = self._decode_body(await _read_body(request), endpoint.body_type)
        return _answer(await route.handler(**arguments))

    async def _authenticate(
        self, request: web.BaseRequest, auth: Auth, fields: dict[str, list[str]], client: ClientInfo
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
        if self._trusts_proxy:
            # The proxy appends the address it has seen: the last one is the only one it vouches for.
            forwarded = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
            address = forwarded or address
            scheme = request.headers.get("X-Forwarded-Proto", scheme)
        host = request.headers.get("Host", "localhost")
        return ClientInfo(address, request.headers.get("User-Agent", ""), f"{scheme}://{host}")

    def _decode_body(self, data: bytes, body_type: Any) -> Any:
        if body_type is RawJson:
            # Decoding skips nothing: what is stored as it is must be whole and UTF-8 for those who read it.
            self._decode_body(data, dict[str, Any])
            return RawJson(data or b"{}")
        decoder = self._body_decoders.get(body_type)
        if decoder is None:
            decoder = self._body_decoders[body_type] = msgspec.json.Decoder(body_type)
        try:
            # Many endpoints take an empty object as "all defaults", and clients send nothing instead.
            return decoder.decode(data or b"{}")
        except msgspec.ValidationError as error:
            raise BadJson(str(error)) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise NotJson("the body is not valid JSON") from error
        except RecursionError as error:
            raise NotJson("the body is nested too deeply") from error


def _token_of(request: web.BaseRequest, fields: dict[str, list[str]]) -> str | None:
    header = request.headers.get("Authorization")
    if header is not None:
        scheme, _, token = header.partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            return token.strip()
        raise MissingToken("the Authorization header has no bearer token")
    # Deprecated, still used by old clients.
    tokens = fields.get("access_token")
    return tokens[0] if tokens else None


def _parse_query(raw_query: str) -> dict[str, list[str]]:
    if not raw_query:
        return {}
    try:
        pairs = parse_qsl(raw_query, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS, errors="strict")
    except ValueError as error:
        raise InvalidParam("the query string is malformed") from error
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        if "\x00" in value:
            raise InvalidParam("the query string holds a NUL character")
        fields.setdefault(name, []).append(value)
    return fields


def _convert_query(fields: dict[str, list[str]], query_type: Any) -> Any:
    wanted: dict[str, Any] = {}
    for field in msgspec.structs.fields(query_type):
        if field.encode_name in fields:
            values = fields[field.encode_name]
            is_list = getattr(field.type, "__origin__", field.type) in (list, tuple)
            wanted[field.encode_name] = values if is_list else values[-1]
    try:
        return msgspec.convert(wanted, query_type, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidParam(str(error)) from error


async def _read_body(request: web.BaseRequest) -> bytes:
    length = request.content_length
    if length is not None and length > MAX_BODY_BYTES:
        raise TooLarge("the request body is too large")
    chunks, size = [], 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise TooLarge("the request body is too large")
        chunks.append(chunk)
    return b"".join(chunks)


def _answer(result: Any) -> web.Response:
    if isinstance(result, RawJson):
        return web.Response(body=result.body, status=result.status, headers=_JSON_HEADERS)
    if isinstance(result, Empty):
        return web.Response(body=b"{}", headers=_JSON_HEADERS)
    return web.Response(body=_encoder.encode(result), headers=_JSON_HEADERS)


def _error_answer(error: MatrixError) -> web.Response:
    headers = dict(_JSON_HEADERS)
    if isinstance(error, LimitExceeded):
        headers["Retry-After"] = str(-(-int(error.extra.get("retry_after_ms", 1000)) // 1000))
    return web.Response(body=_encoder.encode(error.to_dict()), status=error.status, headers=headers)


def _internal_error(name: str) -> web.Response:
    request_id = secrets.token_hex(8)
    logger.exception("request %s to %s failed", request_id, name)
    body = {"errcode": "M_UNKNOWN", "error": f"internal server error (request {request_id})"}
    return web.Response(body=_encoder.encode(body), status=500, headers=_JSON_HEADERS)
