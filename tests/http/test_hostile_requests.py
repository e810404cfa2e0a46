"""What broken and hostile clients send, on the level of HTTP: each has an answer in the spec's shape."""

# ruff: noqa: F401, F811 (fixtures are imported)

import asyncio
import gzip
import io
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from hs.http.app import MAX_BODY_BYTES
from hs.http.endpoint import Auth, Caller, ClientInfo, Empty, RawJson, endpoint
from tests.account_server import AccountServer, accounts, town
from tests.people import Town


class EchoBody(msgspec.Struct):
    """Some types."""

    name: str = ""
    count: int = 0
    things: list[dict[str, Any]] = []


class EchoQuery(msgspec.Struct):
    """Some types."""

    text: str | None = None
    count: int = 0
    is_set: bool = False
    many: list[str] = []


class EchoApi:
    """Gives back what it was given, after the same checks as every endpoint."""

    @endpoint("POST", "/test/body", auth=Auth.NONE, limit=None)
    async def post_body(self, body: EchoBody) -> EchoBody:
        """The body."""
        return body

    @endpoint("PUT", "/test/raw", auth=Auth.NONE, limit=None)
    async def put_raw(self, body: RawJson) -> RawJson:
        """The body as it was written."""
        return body

    @endpoint("GET", "/test/query", auth=Auth.NONE, limit=None)
    async def get_query(self, query: EchoQuery) -> EchoQuery:
        """The query."""
        return query

    @endpoint("GET", "/test/path/{one}/fixed/{two}", auth=Auth.NONE, limit=None)
    async def get_path(self, one: str, two: str) -> dict[str, str]:
        """The path."""
        return {"one": one, "two": two}

    @endpoint("GET", "/test/client", auth=Auth.NONE, limit=None)
    async def get_client(self, client: ClientInfo) -> dict[str, str]:
        """Where the request comes from."""
        return {"address": client.address, "base_url": client.base_url}

    @endpoint("GET", "/test/maybe", auth=Auth.OPTIONAL_USER, limit=None)
    async def get_maybe(self, caller: Caller | None) -> dict[str, Any]:
        """Who asks, if anybody."""
        return {"user_id": caller.user_id if caller else None}

    @endpoint("GET", "/test/admin", auth=Auth.ADMIN, limit=None)
    async def get_admin(self, caller: Caller) -> Empty:
        """For administrators."""
        return Empty()

    @endpoint("GET", "/test/broken", auth=Auth.NONE, limit=None)
    async def get_broken(self) -> Empty:
        """A bug."""
        raise RuntimeError("a secret detail")


@pytest.fixture
async def echo(accounts: AccountServer) -> AsyncIterator[Town]:
    """A server with the endpoints above."""
    accounts.more_apis = [EchoApi()]
    async with accounts.serve() as town:
        yield town


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"{", (400, "M_NOT_JSON")),
        (b"{}{}", (400, "M_NOT_JSON")),
        (b"\x00", (400, "M_NOT_JSON")),
        (b"\xff\xfe{\x00}\x00", (400, "M_NOT_JSON")),
        (b'{"name": "\xff"}', (400, "M_NOT_JSON")),
        (b'{"name": "\\ud800"}', (400, "M_NOT_JSON")),
        (b'{"count": NaN}', (400, "M_NOT_JSON")),
        (b'{"things": [{"a": ' + b"[" * 100_000, (400, "M_BAD_JSON")),
        (b'{"ignored": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", (400, "M_BAD_JSON")),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, (400, "M_BAD_JSON")),
        (b'{"ignored": ' + b"[" * 500 + b"]" * 500 + b"}", (400, "M_BAD_JSON")),
        (b'{"name": "' + b"[" * 5000 + b'"}', (200, None)),
        (b"[]", (400, "M_BAD_JSON")),
        (b"null", (400, "M_BAD_JSON")),
        (b'"text"', (400, "M_BAD_JSON")),
        (b'{"name": 1}', (400, "M_BAD_JSON")),
        (b'{"name": [null]}', (400, "M_BAD_JSON")),
        (b'{"count": "1"}', (400, "M_BAD_JSON")),
        (b'{"count": 1e400}', (400, "M_BAD_JSON")),
        (b'{"count": ' + b"9" * 5000 + b"}", (400, "M_BAD_JSON")),
        (b'{"things": [1]}', (400, "M_BAD_JSON")),
        (b"", (200, None)),
        (b'{"name": "a\\u0000b", "unknown": [1.5]}', (200, None)),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_bodies(echo: Town, data: bytes, error: tuple[int, str | None]) -> None:
    answer = await echo.visitor.raw("POST", "/test/body", data)
    assert answer.error == error
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Content-Type"] == "application/json"
    if error[1] is not None:
        assert isinstance(answer.body["error"], str)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b'{"a": "\xff"}', (400, "M_NOT_JSON")),
        (b'{"a": [' + b"[" * 100_000, (400, "M_BAD_JSON")),
        (b'{"a" 1}', (400, "M_NOT_JSON")),
        (b"[1]", (400, "M_BAD_JSON")),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_bodies_that_are_kept_as_they_are_must_be_objects(
    echo: Town, data: bytes, error: tuple[int, str]
) -> None:
    assert (await echo.visitor.raw("PUT", "/test/raw", data)).error == error


async def test_an_object_is_kept_to_the_byte(echo: Town) -> None:
    async with echo.session.put(echo.base_url + "/test/raw", data=b'{ "b":1.0, "a" :1e2}') as response:
        assert await response.read() == b'{ "b":1.0, "a" :1e2}'


async def test_large_bodies_by_declared_length(echo: Town) -> None:
    declared = b"POST /test/body HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\nxxx" % (2 * MAX_BODY_BYTES)
    refused = await ask_raw(echo.base_url, declared, is_whole=False)
    assert refused.startswith(b"HTTP/1.1 413 ")
    assert b'"errcode":"M_TOO_LARGE"' in refused
    fits = b'{"name": "' + b"x" * (MAX_BODY_BYTES - 12) + b'"}'
    for data, status in ((fits, 200), (fits + b" ", 413)):
        async with echo.session.post(echo.base_url + "/test/body", data=io.BytesIO(data)) as response:
            assert response.status == status


async def test_large_bodies_in_chunks(echo: Town) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(2 * MAX_BODY_BYTES // 65536):
            yield b"x" * 65536

    async with echo.session.post(echo.base_url + "/test/body", data=chunks()) as response:
        assert response.status == 413
        assert (await response.json())["errcode"] == "M_TOO_LARGE"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "identity, gzip"])
async def test_compressed_bodies_are_no_json(echo: Town, encoding: str) -> None:
    """Ten megabytes of blanks are ten kilobytes of gzip; and what is cut off or broken is no fault of ours."""
    packed = gzip.compress(b" " * 10 * MAX_BODY_BYTES)
    for data in (packed, packed[:10], b"hello"):
        answer = await echo.visitor.raw("POST", "/test/body", data, headers={"Content-Encoding": encoding})
        assert answer.error == (400, "M_NOT_JSON")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/test/path/a%2Fb/fixed/%E2%98%83", {"one": "a/b", "two": "☃"}),
        ("/test/path/%2525/fixed/+", {"one": "%25", "two": "+"}),
        ("/test/path/%zz/fixed/%", {"one": "%zz", "two": "%"}),
        ("/test/path//fixed/", {"one": "", "two": ""}),
        ("/test/path/../fixed/..", {"one": "..", "two": ".."}),
        ("/test/path/fixed/fixed/fixed", {"one": "fixed", "two": "fixed"}),
        ("/test/path/a/f%69xed/b", {"one": "a", "two": "b"}),
        ("/test/path/a%00b/fixed/x", "M_INVALID_PARAM"),
        ("/test/path/%FF/fixed/x", "M_INVALID_PARAM"),
        ("/test/path/%ED%A0%80/fixed/x", "M_INVALID_PARAM"),
    ],
)
async def test_odd_paths(echo: Town, path: str, expected: object) -> None:
    answer = await echo.visitor.raw("GET", path)
    assert answer.status < 500
    assert (answer.errcode or answer.body) == expected


@pytest.mark.parametrize(
    "path",
    ["/", "/nothing", "/test", "/test/path", "/test/body/more", "/test//body", "/_matrix/client/v99/sync"],
)
async def test_unknown_paths(echo: Town, path: str) -> None:
    answer = await echo.visitor.raw("GET", path)
    assert answer.error == (404, "M_UNRECOGNIZED")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "TRACE"])
async def test_wrong_methods(echo: Town, method: str) -> None:
    assert (await echo.visitor.raw(method, "/test/body")).error == (405, "M_UNRECOGNIZED")


async def test_head_is_get_without_the_body(echo: Town) -> None:
    async with echo.session.head(echo.base_url + "/_matrix/client/versions") as response:
        assert response.status == 200
        assert await response.read() == b""


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"text": None, "count": 0, "is_set": False, "many": []}),
        (
            "?text=%E2%98%83&count=-3&is_set=true&many=a&many=b",
            {"text": "☃", "count": -3, "is_set": True, "many": ["a", "b"]},
        ),
        ("?text=&unknown=1&=&&", {"text": "", "count": 0, "is_set": False, "many": []}),
        ("?text=a&text=b", {"text": "b", "count": 0, "is_set": False, "many": []}),
        ("?count=x", "M_INVALID_PARAM"),
        ("?count=1.5", "M_INVALID_PARAM"),
        ("?count=", "M_INVALID_PARAM"),
        ("?is_set=maybe", "M_INVALID_PARAM"),
        ("?text=%FF", "M_INVALID_PARAM"),
        ("?text=%00", "M_INVALID_PARAM"),
        ("?" + "a=1&" * 1_500, "M_INVALID_PARAM"),
        ("?count=" + "9" * 5000, "M_INVALID_PARAM"),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_queries(echo: Town, query: str, expected: object) -> None:
    answer = await echo.visitor.raw("GET", "/test/query" + query)
    assert (answer.errcode or answer.body) == expected


async def test_a_bug_is_a_500_that_tells_nothing(echo: Town, caplog: pytest.LogCaptureFixture) -> None:
    answer = await echo.visitor.raw("GET", "/test/broken")
    assert answer.error == (500, "M_UNKNOWN")
    assert "secret" not in answer.body["error"]
    request_id = answer.body["error"].rpartition(" ")[2].strip(")")
    assert request_id in caplog.text
    assert "a secret detail" in caplog.text


async def ask_raw(base_url: str, request: bytes, is_whole: bool = True) -> bytes:
    """What comes back for bytes that are hardly HTTP, up to the end of the connection if they are all there is."""
    url = urlsplit(base_url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        writer.write(request)
        if is_whole:
            writer.write_eof()
        return await asyncio.wait_for(reader.read(-1 if is_whole else 65536), 30)
    finally:
        writer.close()
        await writer.wait_closed()


NO_HTTP = {
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03": 400,
    b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"GET  HTTP/1.1\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\n\r\n": 400,
    b"FETCH / HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": 400,
    b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n": 431,
    b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"x" * 100_000 + b"\r\n\r\n": 431,
    b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000 + b"\r\n": 400,
    b"POST /test/body HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n": 400,
    b"POST /test/body HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello": 400,
    b"POST /test/body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n": 400,
    b"POST /test/body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\nhello": 400,
}


@pytest.mark.parametrize("request_bytes", NO_HTTP, ids=lambda value: repr(value)[:40])
async def test_what_is_hardly_http_is_told_so_as_json(echo: Town, request_bytes: bytes) -> None:
    head, _, body = (await ask_raw(echo.base_url, request_bytes, is_whole=False)).partition(b"\r\n\r\n")
    status = NO_HTTP[request_bytes]
    assert head.startswith(b"HTTP/1.1 %d " % status), head
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    assert headers["Content-Type"] == "application/json"
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert headers["Connection"] == "close"
    assert int(headers["Content-Length"]) == len(body)
    answer = json.loads(body)
    assert answer["errcode"] == ("M_TOO_LARGE" if status == 431 else "M_UNKNOWN")
    # What was sent may hold a token.
    assert "xxx" not in answer["error"]
    assert (await echo.visitor.raw("GET", "/test/query")).status == 200


async def test_a_body_that_never_comes_ends_with_its_connection(echo: Town) -> None:
    await ask_raw(
        echo.base_url,
        b"POST /test/body HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n" + json.dumps({}).encode(),
    )
    assert (await echo.visitor.raw("GET", "/test/query")).status == 200
