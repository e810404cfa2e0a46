"""Bytes on the connection: what aiohttp's server and our answers make of each other."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from email.utils import parsedate_to_datetime

import pytest
from aiohttp import web

from hs.http.app import App
from hs.http.endpoint import Auth, Caller, ClientInfo, Empty, LargeJson, RawJson, endpoint
from hs.http.listeners import build_http_server
from hs.http.rate_limit import Limit, RateLimiter
from hs.matrix.errors import UnknownToken
from hs.net.spool import Spool


class NoTokens:
    """Knows nobody."""

    async def authenticate(self, token: str, client: ClientInfo) -> Caller:
        raise UnknownToken("nobody has this token")


class NoOverrides:
    """Nobody has a limit of their own."""

    async def find_override(self, user_id: str) -> Limit | None:
        return None


class WaitingApi:
    """Endpoints that wait until they are told."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @endpoint("GET", "/wait", auth=Auth.NONE, limit=None)
    async def get_wait(self) -> Empty:
        """Never, unless it is cancelled."""
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.ended.set_result("cancelled")
            raise
        return Empty()

    @endpoint("GET", "/name/{name}", auth=Auth.NONE, limit=None)
    async def get_name(self, name: str) -> dict[str, str]:
        """The name."""
        return {"name": name}

    @endpoint("PUT", "/name/{name}", auth=Auth.NONE, limit=None)
    async def put_name(self, name: str, body: RawJson) -> RawJson:
        """The body."""
        return body

    @endpoint("GET", "/large/{size}", auth=Auth.NONE, limit=None)
    async def get_large(self, size: str) -> LargeJson:
        """A string of so many characters."""
        with closing(Spool()) as spool:
            await spool.add(b'"')
            for _ in range(int(size) // 1000):
                await spool.add(b"0123456789" * 100)
            await spool.add(b'"')
            return LargeJson(await spool.finish())


class Line:
    """One connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def head(self) -> tuple[bytes, dict[str, str]]:
        """Status line and headers of the next answer; a header comes once."""
        lines = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 30)).split(b"\r\n")[:-2]
        pairs = [line.decode().split(": ", 1) for line in lines[1:]]
        assert len(pairs) == len({name for name, _ in pairs}), pairs
        return lines[0], dict(pairs)

    async def answer(self, request: bytes) -> tuple[bytes, dict[str, str], bytes]:
        """Status line, headers and body of the answer to a request."""
        self.writer.write(request)
        status, headers = await self.head()
        body = await self.reader.readexactly(int(headers.get("Content-Length", 0)))
        return status, headers, body

    async def is_closed(self) -> bool:
        """Whether the server has hung up, and said nothing before."""
        return await asyncio.wait_for(self.reader.read(), 30) == b""


class House:
    """A server with the endpoints above."""

    def __init__(self, api: WaitingApi, port: int) -> None:
        self.api = api
        self.port = port

    @asynccontextmanager
    async def call(self) -> AsyncIterator[Line]:
        """A connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Line(reader, writer)
        finally:
            writer.close()
            await writer.wait_closed()


@pytest.fixture
async def house() -> AsyncIterator[House]:
    api = WaitingApi()
    app = App([api], NoTokens(), RateLimiter(False, lambda _: Limit(1, 1), NoOverrides()))
    runner = web.ServerRunner(build_http_server(app.handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield House(api, runner.addresses[0][1])
    await runner.cleanup()


GET = b"GET /name/alice HTTP/1.1\r\nHost: a\r\n\r\n"


async def test_a_connection_carries_many_requests(house: House) -> None:
    async with house.call() as line:
        for _ in range(3):
            status, headers, body = await line.answer(GET)
            assert status == b"HTTP/1.1 200 OK"
            assert body == b'{"name":"alice"}'
            assert headers["Content-Type"] == "application/json"
            assert "Connection" not in headers
            parsedate_to_datetime(headers["Date"])
        # Without waiting for the first answer.
        line.writer.write(GET)
        assert (await line.answer(GET))[2] == b'{"name":"alice"}'


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /name/alice HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /name/alice HTTP/1.0\r\n\r\n",
        b"GET /name/alice HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    ],
)
async def test_connections_that_are_not_to_stay_are_closed(house: House, request_bytes: bytes) -> None:
    async with house.call() as line:
        _, headers, body = await line.answer(request_bytes)
        assert headers["Connection"] == "close"
        assert body == b'{"name":"alice"}'
        assert await line.is_closed()


async def test_head_tells_the_length_of_the_body_that_get_has(house: House) -> None:
    async with house.call() as line:
        line.writer.write(b"HEAD /name/alice HTTP/1.1\r\nHost: a\r\n\r\n")
        status, headers = await line.head()
        assert (status, headers["Content-Length"]) == (b"HTTP/1.1 200 OK", "16")
        assert (await line.answer(GET))[2] == b'{"name":"alice"}'


async def test_a_preflight_has_no_body(house: House) -> None:
    async with house.call() as line:
        for target in (b"/name/alice", b"/unknown", b"*"):
            status, headers, _ = await line.answer(b"OPTIONS " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
            assert status == b"HTTP/1.1 204 No Content"
            assert "Content-Length" not in headers
            assert headers["Access-Control-Allow-Origin"] == "*"


async def test_a_wrong_method_is_told_the_right_ones(house: House) -> None:
    async with house.call() as line:
        status, headers, _ = await line.answer(b"DELETE /name/alice HTTP/1.1\r\nHost: a\r\n\r\n")
        assert status == b"HTTP/1.1 405 Method Not Allowed"
        assert headers["Allow"] == "GET, PUT, OPTIONS"


async def test_a_target_may_name_the_host(house: House) -> None:
    async with house.call() as line:
        assert (await line.answer(b"GET http://a/name/alice?x=1 HTTP/1.1\r\nHost: a\r\n\r\n"))[
            2
        ] == b'{"name":"alice"}'
        assert (await line.answer(b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n"))[0].startswith(
            b"HTTP/1.1 404 "
        )


async def test_a_client_that_waits_to_be_asked_is_asked(house: House) -> None:
    async with house.call() as line:
        head = b"PUT /name/alice HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\nExpect: 100-continue\r\n\r\n"
        line.writer.write(head)
        assert (await line.head())[0] == b"HTTP/1.1 100 Continue"
        assert (await line.answer(b'{"a":1}'))[2] == b'{"a":1}'


async def test_a_body_may_come_in_pieces(house: House) -> None:
    async with house.call() as line:
        line.writer.write(
            b'PUT /name/alice HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{"a\r\n'
        )
        await line.writer.drain()
        assert (await line.answer(b'4\r\n":1}\r\n0\r\n\r\n'))[2] == b'{"a":1}'


@pytest.mark.parametrize("size", [1000, 300_000, 9_000_000])
async def test_large_answers_are_whole(house: House, size: int) -> None:
    async with house.call() as line:
        for _ in range(2):
            status, headers, body = await line.answer(b"GET /large/%d HTTP/1.1\r\nHost: a\r\n\r\n" % size)
            assert status == b"HTTP/1.1 200 OK"
            assert int(headers["Content-Length"]) == size + 2
            assert body == b'"%b"' % (b"0123456789" * (size // 10))
        line.writer.write(b"HEAD /large/%d HTTP/1.1\r\nHost: a\r\n\r\n" % size)
        assert int((await line.head())[1]["Content-Length"]) == size + 2
        assert (await line.answer(b"GET /name/bob HTTP/1.1\r\nHost: a\r\n\r\n"))[2] == b'{"name":"bob"}'


async def test_who_hangs_up_in_a_large_answer_is_let_go(house: House) -> None:
    async with house.call() as line:
        line.writer.write(b"GET /large/90000000 HTTP/1.1\r\nHost: a\r\n\r\n")
        await line.head()
    async with house.call() as line:
        assert (await line.answer(b"GET /name/bob HTTP/1.1\r\nHost: a\r\n\r\n"))[2] == b'{"name":"bob"}'


async def test_a_body_that_does_not_come_is_not_waited_for(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hs.http.app.BODY_TIMEOUT_S", 0.05)
    async with house.call() as line:
        status, _, body = await line.answer(
            b'PUT /name/alice HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n{"a'
        )
        assert status.startswith(b"HTTP/1.1 408 ")
        assert b'"errcode":"M_UNKNOWN"' in body


async def test_hanging_up_ends_the_request(house: House) -> None:
    async with house.call() as line:
        line.writer.write(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        await asyncio.wait_for(house.api.started.wait(), 30)
    assert await asyncio.wait_for(house.api.ended, 30) == "cancelled"


@pytest.mark.parametrize("name", [b"%0d%0aSet-Cookie:%20a=b", b"%E2%80%A8", b"a%0D%0A%0D%0Ab", b"%22%7D"])
async def test_nothing_of_a_request_gets_into_the_headers(house: House, name: bytes) -> None:
    async with house.call() as line:
        _, plain, _ = await line.answer(GET)
        _, headers, _ = await line.answer(b"GET /name/" + name + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        assert set(headers) == set(plain)


async def test_paths_are_escaped_or_refused(house: House) -> None:
    for name in (b"\xff", b"\xc3\xa4"):
        async with house.call() as line:
            line.writer.write(b"GET /name/" + name + b" HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b" 400 " in (await line.head())[0]
    async with house.call() as line:
        _, _, body = await line.answer(b"GET /name/%FF HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b'"errcode":"M_INVALID_PARAM"' in body
        _, _, body = await line.answer(b"GET /name/%C3%A4 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert body == '{"name":"ä"}'.encode()


async def test_long_request_lines_are_read(house: House) -> None:
    async with house.call() as line:
        status, _, _ = await line.answer(
            b"GET /name/alice?filter=" + b"x" * 30_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"
        )
        assert status == b"HTTP/1.1 200 OK"


async def test_what_is_no_http_is_neither_an_error_nor_quoted(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with house.call() as line:
        line.writer.write(b"GET /sync?access_token=secret" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n")
        assert b" 431 " in (await line.head())[0]
    async with house.call() as line:
        line.writer.write(b"hello secret\r\n\r\n")
        assert b" 400 " in (await line.head())[0]
    assert "secret" not in caplog.text
    assert all(record.levelno < logging.WARNING for record in caplog.records)
