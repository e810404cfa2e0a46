"""Sockets: each listener serves the APIs that its configuration names, with or without TLS."""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, generate_latest

from hs.http.answers import HttpDate, WiredAnswer, answer_crash, answer_error
from hs.http.app import App, Authenticator, ServerAuthenticator
from hs.http.rate_limit import RateLimiter
from hs.matrix.errors import MatrixError, TooLarge, Unknown

logger = logging.getLogger(__name__)

# Long polls hold a connection; more than this many waiting to be accepted means the process is overloaded.
_BACKLOG = 1024
# After this, requests that still run at shutdown are cut; long polls never end by themselves.
_SHUTDOWN_S = 2.0
# Clients write whole filters into the query of /sync and /messages.
_MAX_REQUEST_LINE = 64 * 1024
# Longer than a client pauses between two long polls.
_KEEPALIVE_S = 120.0

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Listener(Protocol):
    """What is configured for one socket."""

    @property
    def bind(self) -> str:
        """The address."""

    @property
    def port(self) -> int:
        """The port; 0 takes a free one."""

    @property
    def apis(self) -> Sequence[str]:
        """Names of the APIs to serve."""

    @property
    def tls_certificate(self) -> Path | None:
        """PEM file of the certificate chain."""

    @property
    def tls_private_key(self) -> Path | None:
        """PEM file of its key."""

    @property
    def x_forwarded(self) -> bool:
        """Whether a proxy in front says where requests come from."""


async def start_listener(
    listener: Listener,
    apis: Mapping[str, Sequence[object]],
    authenticator: Authenticator,
    limiter: RateLimiter,
    registry: CollectorRegistry,
    durations: Histogram,
    server_authenticator: ServerAuthenticator | None = None,
) -> web.ServerRunner:
    """A listening socket; `cleanup()` of the runner closes it. OSError where the address cannot be used."""
    served = [api for name in listener.apis for api in apis.get(name, ())]
    app = App(served, authenticator, limiter, listener.x_forwarded, durations, server_authenticator)
    handler: Handler = _with_metrics(app.handle, registry) if "metrics" in listener.apis else app.handle
    runner = web.ServerRunner(build_http_server(handler), shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    site = web.TCPSite(
        runner,
        listener.bind,
        listener.port,
        ssl_context=_tls_context(listener),
        backlog=_BACKLOG,
        reuse_address=True,
    )
    try:
        await site.start()
    except BaseException:
        await runner.cleanup()
        raise
    for address in runner.addresses:
        logger.info("listening on %s:%s for %s", address[0], address[1], ", ".join(listener.apis))
    return runner


def build_http_server(handler: Handler) -> web.Server:
    """aiohttp's server around a handler, the way we want it."""
    # A client that hangs up ends its long poll; what must not be cut short shields itself.
    return _Server(handler, handler_cancellation=True)


class _Server(web.Server):
    """Makes a protocol for each connection."""

    def __call__(self) -> web.RequestHandler:
        """The protocol of a new connection."""
        options: dict[str, Any] = {
            # Request lines hold the tokens of clients that send them in the query.
            "access_log": None,
            "logger": _ConnectionLogger(logger),
            "max_line_size": _MAX_REQUEST_LINE,
            "keepalive_timeout": _KEEPALIVE_S,
            # The spec knows no compressed requests; a few kilobytes of them could be gigabytes.
            "auto_decompress": False,
        }
        return _Connection(self, loop=asyncio.get_running_loop(), **options)


class _Connection(web.RequestHandler):
    """aiohttp's protocol, whose own errors are answered in the spec's shape like all others."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is no HTTP. What the parser says of it may quote a token, so it is not told."""
        if not isinstance(exc, HttpProcessingError):
            answer = answer_crash("none")
        else:
            self.log_exception("a request that is no HTTP", exc_info=exc)
            error: MatrixError = Unknown("this is no HTTP request")
            if isinstance(exc, LineTooLong):
                error = TooLarge("the request line or a header is too long", http_status=431)
            answer = answer_error(error)
        return cast(web.StreamResponse, WiredAnswer(request, answer, HttpDate().now()))


class _ConnectionLogger(logging.LoggerAdapter[logging.Logger]):
    """What happens on connections; requests that are no HTTP are no errors of ours, and are not quoted."""

    def log(self, level: int, msg: object, *args: object, **more: Any) -> None:
        """Log a line, with the traceback where the error is one of ours."""
        error = more.get("exc_info")
        if isinstance(error, HttpProcessingError):
            super().log(logging.DEBUG, "a request that is no HTTP: %s", type(error).__name__)
        else:
            super().log(level, msg, *args, **more)


def _tls_context(listener: Listener) -> ssl.SSLContext | None:
    if listener.tls_certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(listener.tls_certificate, listener.tls_private_key)
    return context


def _with_metrics(handle: Handler, registry: CollectorRegistry) -> Handler:
    """Prometheus' text at /metrics, everything else as before."""

    async def handle_metrics(request: web.BaseRequest) -> web.StreamResponse:
        if request.raw_path.partition("?")[0] != "/metrics":
            return await handle(request)
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return handle_metrics
