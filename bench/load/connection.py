"""HTTP/1.1 over one kept-alive connection with as little work as possible: the load must not be the bottleneck."""

import asyncio
from dataclasses import dataclass
from typing import Any

import msgspec


class BadAnswer(Exception):
    """The server refused, or went away."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and body of a response."""

    status: int
    body: bytes

    @property
    def json(self) -> Any:
        """The decoded body."""
        return msgspec.json.decode(self.body)


class Connection(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._waiting: asyncio.Future[Answer] | None = None
        # Of the answer that is on its way, once its head is there:
        self._status = 0
        self._body_from = 0
        self._body_to: int | None = None

    @classmethod
    async def open(cls, port: int) -> "Connection":
        """A connection to 127.0.0.1."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(cls, "127.0.0.1", port)
        return connection

    async def ask(self, request: bytes) -> Answer:
        """The answer to a request, given as it goes over the wire."""
        assert self._transport is not None
        assert self._waiting is None
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiting

    @property
    def is_open(self) -> bool:
        """Whether another request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        """Close it, also in the middle of an answer."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment] # uvloop's is none of asyncio's classes

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(BadAnswer(f"the server closed the connection ({exc})"))

    def data_received(self, data: bytes) -> None:
        """Some bytes of the answer."""
        self._received += data
        if not self._status and not self._read_head():
            return
        if self._body_to is not None:
            if len(self._received) >= self._body_to:
                self._finish(bytes(self._received[self._body_from : self._body_to]))
        elif self._received.endswith(b"0\r\n\r\n"):
            body = join_chunks(self._received, self._body_from)
            if body is not None:
                self._finish(body)

    def _read_head(self) -> bool:
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return False
        lines = self._received[:end].split(b"\r\n")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            headers[bytes(name).lower()] = bytes(value).strip()
        self._status = int(lines[0].split()[1])
        self._body_from = end + 4
        if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
            self._body_to = None
        else:
            self._body_to = self._body_from + int(headers.get(b"content-length", b"0"))
        return True

    def _finish(self, body: bytes) -> None:
        answer = Answer(self._status, body)
        self._received.clear()
        self._status = 0
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)


def join_chunks(received: bytearray, start: int) -> bytes | None:
    """The body that follows in chunks; None where it is not complete."""
    parts: list[bytes] = []
    while True:
        line_end = received.find(b"\r\n", start)
        if line_end < 0:
            return None
        size = int(received[start:line_end].split(b";")[0], 16)
        if size == 0:
            return b"".join(parts)
        start = line_end + 2
        if len(received) < start + size + 2:
            return None
        parts.append(bytes(received[start : start + size]))
        start += size + 2
