"""The HTTP client against real TLS servers, friendly and hostile."""

import asyncio
import gzip
import json
import mmap
import socket
import ssl
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from hs.net.bounds import Bounds
from hs.net.client import make_tls_context
from hs.net.errors import (
    AddressRefused,
    BadAnswer,
    BadCertificate,
    RemoteError,
    TimedOut,
    TooLong,
    Unreachable,
)
from hs.net.spool import NoRoom, leave_memory
from tests.certificates import Authority
from tests.net.outside import HEAD, PLENTY, Outside, local, page


async def test_a_request_and_its_answer(outside: Outside) -> None:
    site = await outside.site("a.example")

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(
            body=await request.read() + b"!", headers={"X-Answer": request.raw_path}, status=404
        )

    site.answer = answer
    for body in (b"{}", b"x" * 900_000):
        got = await outside.http.request(
            "PUT",
            local(site.port),
            Bounds(4_000_000, 10),
            path="/a%2Fb?c=%20d",
            headers={"Authorization": "X-Matrix x"},
            body=body,
        )
        assert (got.status, got.headers["X-Answer"], got.body) == (404, "/a%2Fb?c=%20d", body + b"!")
    request = site.requests[0]
    assert (request.method, request.host, request.headers["Authorization"]) == (
        "PUT",
        "a.example",
        "X-Matrix x",
    )
    assert request.headers["Accept-Encoding"] == "identity"
    # One connection for both.
    assert site.sni == ["a.example"]


async def test_certificates_for_other_names_expired_and_unknown_ones(outside: Outside) -> None:
    ours, authority = await outside.site("a.example"), outside.authority
    late = await outside.site(certificate=authority.issue_expired("a.example"))
    for target in (local(ours.port, "b.example"), local(late.port), local(ours.port, "127.0.0.1")):
        with pytest.raises(BadCertificate):
            await outside.http.request("GET", target, PLENTY, path="/")
    assert ours.requests == late.requests == []


async def test_an_authority_of_ones_own_stands_beside_the_system_s(
    outside: Outside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder := tmp_path / "system").mkdir()
    of_system = Authority(folder)
    monkeypatch.setenv("SSL_CERT_FILE", str(of_system.ca_file))
    outside.build()
    for authority in (outside.authority, of_system):
        site = await outside.site(certificate=authority.issue("a.example"))
        assert (await outside.http.request("GET", local(site.port), PLENTY, path="/")).status == 200


async def test_addresses_as_names_of_certificates(outside: Outside) -> None:
    site = await outside.site("127.0.0.1")
    assert (await outside.get(f"https://127.0.0.1:{site.port}/")).body == b"here"
    assert site.sni == [None]


async def test_ipv6(outside: Outside) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        # Only a kernel without IPv6 is a reason; whatever else fails here is a failure.
        if Path("/proc/net/if_inet6").exists():
            raise
        pytest.skip("the kernel of this machine has no IPv6")
    site = await outside.site("::1", host="::1")
    assert (await outside.get(f"https://[::1]:{site.port}/")).body == b"here"
    named = await outside.site("a.example", host="::1")
    outside.dns.add("a.example", "AAAA", "::1")
    # Nobody listens there; both are tried.
    outside.dns.add("a.example", "A", "127.0.0.2")
    assert (await outside.get(f"https://a.example:{named.port}/")).body == b"here"


def test_old_tls_is_refused(authority: Authority) -> None:
    for is_verified in (True, False):
        context = make_tls_context(authority.ca_file, is_verified)
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert context.check_hostname is is_verified


@pytest.mark.parametrize(
    "host",
    ["127.0.0.3", "0.0.0.0", "[::]", "[::ffff:127.0.0.3]", "[::ffff:0.0.0.0]", "10.0.0.1", "[fe80::1]"],
)
async def test_refused_addresses_in_urls(outside: Outside, host: str) -> None:
    with pytest.raises(AddressRefused):
        await outside.get(f"https://{host}:8448/")


@pytest.mark.parametrize(
    "host", ["127.1", "2130706433", "0x7f.0.0.1", "localhost", "127.0.0.1\x00.example", "a b"]
)
async def test_other_spellings_of_addresses_lead_nowhere(outside: Outside, host: str) -> None:
    site = await outside.site()
    with pytest.raises(Unreachable):
        await outside.get(f"https://{host}:{site.port}/")
    assert site.requests == []


async def test_refused_addresses_behind_names(outside: Outside) -> None:
    site = await outside.site("a.example")
    outside.dns.add("private.example", "A", "127.0.0.3")
    outside.dns.add("private.example", "AAAA", "::ffff:10.0.0.1")
    with pytest.raises(AddressRefused):
        await outside.get(f"https://private.example:{site.port}/")
    # Of several, those are left out that are not allowed.
    outside.dns.add("a.example", "A", "127.0.0.3", "127.0.0.1", "10.0.0.1")
    assert (await outside.get(f"https://a.example:{site.port}/")).body == b"here"


async def test_a_name_whose_second_answer_is_private(outside: Outside) -> None:
    """DNS rebinding: what is connected to is what has been checked, each time."""
    site = await outside.site("a.example")
    outside.dns.script("a.example", "A", ["127.0.0.1"], ["127.0.0.3"])
    url = f"https://a.example:{site.port}/"

    async def close(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text="here", headers={"Connection": "close"})

    site.answer = close
    assert (await outside.get(url)).status == 200
    assert (await outside.get(url)).status == 200
    assert outside.dns.count("a.example", "A") == 1
    outside.clock.advance(3600)
    with pytest.raises(AddressRefused):
        await outside.get(url)
    assert len(site.requests) == 2


async def test_redirects_are_followed_as_often_as_wanted(outside: Outside) -> None:
    site = await outside.site("a.example", "b.example")
    outside.dns.add("a.example", "A", "127.0.0.1")
    outside.dns.add("b.example", "A", "127.0.0.1")

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        step = int(request.raw_path.strip("/"))
        # Relative, and to another host.
        to = f"/{step + 1}" if step % 2 else f"https://b.example:{site.port}/{step + 1}"
        return web.Response(status=302, headers={"Location": to}) if step < 4 else web.Response(text="end")

    site.answer = answer
    url = f"https://a.example:{site.port}/0"
    assert (await outside.get(url, redirects=4)).body == b"end"
    assert site.hosts == [f"{name}.example:{site.port}" for name in "abbbb"]
    assert (await outside.get(url, redirects=3)).status == 302
    assert (await outside.get(url)).status == 302


@pytest.mark.parametrize(
    ("location", "error"),
    [
        ("https://127.0.0.3/", AddressRefused),
        ("https://[::ffff:10.0.0.1]/", AddressRefused),
        ("https://private.example/", AddressRefused),
        ("https://nobody.example/", Unreachable),
        ("http://127.0.0.1/", BadAnswer),
        ("file:///etc/passwd", BadAnswer),
        ("https://user:password@127.0.0.1/", BadAnswer),
        ("https://[::/", BadAnswer),
        ("https://:8448/", BadAnswer),
    ],
)
async def test_redirects_to_where_nobody_goes(
    outside: Outside, location: str, error: type[Exception]
) -> None:
    outside.dns.add("private.example", "A", "192.168.0.1")
    site = await outside.site()
    site.answer = page("", 301, Location=location)
    with pytest.raises(error):
        await outside.get(f"https://127.0.0.1:{site.port}/", redirects=5)
    assert len(site.requests) == 1


async def test_a_loop_of_redirects_ends(outside: Outside) -> None:
    site = await outside.site()
    site.answer = page("", 302, Location="/")
    assert (await outside.get(f"https://127.0.0.1:{site.port}/", redirects=5)).status == 302
    assert len(site.requests) == 6


async def test_answers_that_are_too_long(outside: Outside) -> None:
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()
            sent += 65536

    async def declared(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"Content-Length: 100000000\r\n\r\n")
        await reader.read()

    for answer in (endless, declared):
        port = await outside.raw(answer)
        with pytest.raises(TooLong):
            await outside.get(f"https://127.0.0.1:{port}/", Bounds(100_000, 10))
    assert sent < 20_000_000
    site = await outside.site()
    site.answer = page("x" * 100_000)
    assert len((await outside.get(f"https://127.0.0.1:{site.port}/", Bounds(100_000, 10))).body) == 100_000


async def test_answers_of_very_many_parts(outside: Outside) -> None:
    """Each takes many times its length in memory."""
    site = await outside.site()
    url, bounds = f"https://127.0.0.1:{site.port}/", Bounds(10_000, 10.0, 1000)
    site.answer = page("[" + "0," * 1000 + "0]")
    assert len((await outside.http.request("GET", url, bounds)).body) == 2003
    site.answer = page("[" + "0," * 1001 + "0]")
    with pytest.raises(TooLong):
        await outside.http.request("GET", url, bounds)


async def test_packed_answers_are_refused(outside: Outside) -> None:
    async def bomb(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = gzip.compress(b"\0" * 10_000_000)
        writer.write(HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()

    port = await outside.raw(bomb)
    with pytest.raises(BadAnswer):
        await outside.get(f"https://127.0.0.1:{port}/")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        HEAD + b"Content-Length: 10\r\n\r\nhello",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"\0" * 1000,
        HEAD + b"A: " + b"x" * 100_000 + b"\r\n\r\n",
        HEAD + b"A: x\r\n" * 5000 + b"\r\n",
    ],
)
async def test_answers_that_are_cut_or_no_http(outside: Outside, answer: bytes) -> None:
    async def write(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    port = await outside.raw(write)
    with pytest.raises(Unreachable) as raised:
        await outside.get(f"https://127.0.0.1:{port}/")
    assert not isinstance(raised.value, BadCertificate | TimedOut)


async def test_slow_answers(outside: Outside) -> None:
    async def slow_headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        for i in range(1000):
            writer.write(b"X-%d: y\r\n" % i)
            await writer.drain()
            await asyncio.sleep(0.02)

    async def slow_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"Content-Length: 1000\r\n\r\n")
        for _ in range(1000):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    for answer in (slow_headers, slow_body, silent):
        port = await outside.raw(answer)
        with pytest.raises(TimedOut):
            await outside.get(f"https://127.0.0.1:{port}/", Bounds(100_000, 0.3))


async def test_a_server_that_takes_connections_and_says_nothing(outside: Outside) -> None:
    outside.limits = replace(outside.limits, connect_timeout_s=0.2)
    outside.build()
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        url = f"https://127.0.0.1:{deaf.getsockname()[1]}/"
        with pytest.raises(TimedOut):
            await outside.get(url)
    with pytest.raises(Unreachable):
        await outside.get(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "ftp://x/",
        "",
        "x",
        "https://",
        "https:///a",
        "https://a.example:99999/",
        "https://u:p@a/",
    ],
)
async def test_what_is_no_https_url(outside: Outside, url: str) -> None:
    with pytest.raises(Unreachable):
        await outside.get(url)


async def test_secrets_are_not_told(outside: Outside, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    silent = await outside.raw(_say_nothing)
    site = await outside.site("a.example")
    site.answer = page("x" * 100)
    urls = [
        f"https://127.0.0.1:{silent}/?token=hunter2",
        f"https://127.0.0.1:{site.port}/?token=hunter2",
        "https://hunter2@127.0.0.1/",
        "https://127.0.0.1:1/hunter2",
        "https://a.example:hunter2/",
        "http://a.example/hunter2",
    ]
    for url in urls:
        with pytest.raises(RemoteError) as raised:
            await outside.get(url, Bounds(10, 10), headers={"Authorization": "hunter2"})
        assert "hunter2" not in str(raised.value)
    assert "hunter2" not in caplog.text


async def _say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 hunter2\r\n\r\n")


async def test_requests_cannot_be_broken_into_others(outside: Outside) -> None:
    site = await outside.site()
    for path in ("", "x", "/a b", "/a\r\nX: y", "/é", "/\0"):
        with pytest.raises(Unreachable):
            await outside.http.request("GET", local(site.port), PLENTY, path=path)
    with pytest.raises(Unreachable):
        await outside.get(f"https://127.0.0.1:{site.port}/", headers={"X": "a\r\nHost: b"})
    assert site.requests == []


async def test_large_answers_are_not_held_in_memory(outside: Outside) -> None:
    site = await outside.site()
    url = f"https://127.0.0.1:{site.port}/"
    text = '{"large": "' + "xyz" * 3_000_000 + '"}'
    site.answer = page(text)
    answer = await outside.get(url, Bounds(10_000_000, 30))
    assert isinstance(answer.body, mmap.mmap)
    assert answer.body[:] == text.encode()
    # It is read again after the system has taken its memory back.
    leave_memory(answer.body)
    assert msgspec.json.decode(answer.body) == json.loads(text)
    site.answer = page("{}")
    assert (await outside.get(url)).body == b"{}"


async def test_a_full_disk_is_an_answer_that_is_not_there(
    outside: Outside, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    site = await outside.site()
    url = f"https://127.0.0.1:{site.port}/"
    site.answer = page("x" * 9_000_000)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "is not there"))
    with pytest.raises(NoRoom):
        await outside.get(url, Bounds(10_000_000, 30))
    with pytest.raises(TooLong):
        await outside.get(url, Bounds(8_000_000, 30))
