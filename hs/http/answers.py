"""Answers: JSON with CORS headers, for results and errors alike, and how they go onto the wire."""

import logging
import mmap
import secrets
import time
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from hs.http.endpoint import Empty, LargeJson, RawJson
from hs.matrix.errors import LimitExceeded, MatrixError, MethodNotAllowed

logger = logging.getLogger(__name__)

# Spec: client-server-api "Web Browser Clients".
_CORS = (
    b"Access-Control-Allow-Origin: *\r\n"
    b"Access-Control-Allow-Methods: GET, POST, PUT, DELETE, OPTIONS\r\n"
    b"Access-Control-Allow-Headers: X-Requested-With, Content-Type, Authorization\r\n"
)
_JSON = b"Content-Type: application/json\r\n" + _CORS
_STATUS_LINES = {status.value: f"HTTP/1.1 {status} {status.phrase}\r\n".encode() for status in HTTPStatus}

_encoder = msgspec.json.Encoder()


# Larger bodies are written in pieces, each when the last is gone: what waits to be sent is held several times over.
_BLOCK = 256 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered; `head` is complete but for the status line, the length and the connection's matters."""

    status: int
    head: bytes
    body: bytes | mmap.mmap


# A day spares browsers the question before each request.
PREFLIGHT = Answer(204, _CORS + b"Access-Control-Max-Age: 86400\r\n", b"")
_EMPTY = Answer(200, _JSON, b"{}")


class WrongMethod(MethodNotAllowed):
    """The endpoint exists with `allowed` methods only."""

    def __init__(self, allowed: list[str]) -> None:
        super().__init__("the method is not allowed here")
        self.allowed = allowed


def answer_result(result: Any) -> Answer:
    """What an endpoint returned: a Struct or dict, Empty, RawJson or LargeJson."""
    if isinstance(result, RawJson):
        return Answer(result.status, _JSON, result.body)
    if isinstance(result, LargeJson):
        return Answer(200, _JSON, result.body)
    if isinstance(result, Empty):
        return _EMPTY
    return Answer(200, _JSON, _encoder.encode(result))


def answer_error(error: MatrixError) -> Answer:
    """An error of the specification."""
    head = _JSON
    if isinstance(error, LimitExceeded):
        # Rounded up: who waits that long must not come too early.
        head += b"Retry-After: %d\r\n" % -(-error.retry_after_ms // 1000)
    elif isinstance(error, WrongMethod):
        head += b"Allow: %b\r\n" % ", ".join(error.allowed).encode()
    return Answer(error.status, head, _encoder.encode(error.to_dict()))


def answer_crash(name: str) -> Answer:
    """A mistake of ours; call it while the exception is handled. Only the log says what it was."""
    request_id = secrets.token_hex(8)
    logger.exception("request %s to %s failed", request_id, name)
    body = {"errcode": "M_UNKNOWN", "error": f"internal server error (request {request_id})"}
    return Answer(500, _JSON, _encoder.encode(body))


class HttpDate:
    """The time as HTTP writes it, formatted once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._text = b""

    def now(self) -> bytes:
        """The present time."""
        second = int(time.time())
        if second != self._second:
            self._second, self._text = second, formatdate(second, usegmt=True).encode()
        return self._text


class WiredAnswer:
    """An answer to one request, written in one piece where it is not large.

    It is what aiohttp's server asks of a response (status, keep_alive, prepare, write_eof) without the
    dictionary of headers, which costs more than most of our endpoints do.
    """

    __slots__ = ("_data", "_request", "_rest", "keep_alive", "prepared", "status")

    def __init__(self, request: web.BaseRequest, answer: Answer, date: bytes) -> None:
        self.status = answer.status
        self.prepared = False
        # HTTP/1.0 has no agreed way to keep a connection.
        self.keep_alive = request.keep_alive and request.version >= (1, 1)
        self._request = request
        length = b"" if answer.status == 204 else b"Content-Length: %d\r\n" % len(answer.body)
        self._rest: bytes | mmap.mmap = b""
        body = b"" if request.method == "HEAD" else answer.body
        if isinstance(body, mmap.mmap) or len(body) > _BLOCK:
            self._rest, body = body, b""
        self._data = b"%b%b%bDate: %b\r\n%b\r\n%b" % (
            _STATUS_LINES[answer.status],
            answer.head,
            length,
            date,
            b"" if self.keep_alive else b"Connection: close\r\n",
            body,
        )

    async def prepare(self, request: web.BaseRequest) -> None:
        """Nothing is left to prepare."""
        self.prepared = True

    async def write_eof(self) -> None:
        """Write everything; ConnectionResetError where nobody is there to read it."""
        await self._write(self._data)
        for start in range(0, len(self._rest), _BLOCK):
            await self._write(self._rest[start : start + _BLOCK])
        # A connection keeps its last answer until the next request.
        self._data = self._rest = b""

    async def _write(self, data: bytes) -> None:
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client is gone")
        transport.write(data)
        await self._request.writer.drain()
