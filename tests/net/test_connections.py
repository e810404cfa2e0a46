"""Connections: which are kept, shared, waited for and given up; answers that come at odd times."""

import asyncio

import pytest
from aiohttp import web

from hs.net.bounds import Bounds
from hs.net.connections import HttpLimits
from hs.net.errors import BadAnswer, BadCertificate, TooLong, Unreachable
from tests.net.outside import HEAD, PLENTY, Outside, local, page


async def test_a_refusal_comes_before_the_body_is_taken(outside: Outside) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        # Nothing of the body is read until the client has taken the answer.
        await has_it.wait()
        await reader.read()

    has_it = asyncio.Event()
    target = local(await outside.raw(refuse), "127.0.0.1")
    got = await outside.http.request("PUT", target, PLENTY, path="/", body=b"x" * 50_000_000)
    has_it.set()
    assert (got.status, got.body) == (413, b"{}")


async def test_interim_answers_are_passed_over(outside: Outside) -> None:
    async def hint(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n" * hints)
        writer.write(HEAD + b"Content-Length: 4\r\n\r\nhere")
        await writer.drain()
        await reader.read()

    port = await outside.raw(hint)
    hints = 3
    assert (await outside.get(f"https://127.0.0.1:{port}/")).body == b"here"
    hints = 10_000
    port = await outside.raw(hint)
    with pytest.raises(BadAnswer):
        await outside.get(f"https://127.0.0.1:{port}/")


async def test_a_kept_connection_that_has_come_to_its_end(outside: Outside) -> None:
    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(HEAD + b"Content-Length: 4\r\n\r\nhere")
        await reader.readuntil(b"\r\n\r\n")

    connections = 0
    target = local(await outside.raw(answer_once), "127.0.0.1")
    for method in ("GET", "PUT", "GET"):
        assert (await outside.http.request(method, target, PLENTY, path="/")).body == b"here"
    assert connections == 3
    # Nobody knows whether it was carried out.
    with pytest.raises(Unreachable):
        await outside.http.request("POST", target, PLENTY, path="/", body=b"{}")
    assert connections == 3


async def test_an_answer_that_is_not_read_to_its_end_ends_the_connection(outside: Outside) -> None:
    site = await outside.site()
    url = f"https://127.0.0.1:{site.port}/"
    site.answer = page("x" * 5_000_000)
    for _ in range(3):
        with pytest.raises(TooLong):
            await outside.get(url, Bounds(4_000_000, 30))
    site.answer = page("here")
    assert (await outside.get(url)).body == b"here"
    assert len(site.sni) == 4


async def test_requests_wait_for_each_other_at_one_place(outside: Outside) -> None:
    outside.limits = HttpLimits(max_connections_per_host=2)
    outside.build()
    site, other = await outside.site(), await outside.site()
    busy, most, go_on = 0, 0, asyncio.Event()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await go_on.wait()
        busy -= 1
        return web.Response(text="x")

    site.answer = answer
    asked = [asyncio.create_task(outside.get(f"https://127.0.0.1:{site.port}/")) for _ in range(6)]
    # Others are not held up.
    assert (await outside.get(f"https://127.0.0.1:{other.port}/")).status == 200
    go_on.set()
    assert [(await task).status for task in asked] == [200] * 6
    assert most == 2


async def test_a_cancelled_request_leaves_nothing(outside: Outside) -> None:
    outside.limits = HttpLimits(max_connections_per_host=1)
    outside.build()
    site = await outside.site()
    arrived = asyncio.Event()

    async def never(request: web.BaseRequest) -> web.StreamResponse:
        arrived.set()
        await asyncio.Event().wait()
        raise AssertionError

    site.answer = never
    task = asyncio.create_task(outside.get(f"https://127.0.0.1:{site.port}/"))
    await arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    site.answer = page("here")
    assert (await outside.get(f"https://127.0.0.1:{site.port}/")).body == b"here"


async def test_of_many_connections_to_one_place_two_are_kept(outside: Outside) -> None:
    site = await outside.site()
    together = asyncio.Barrier(4)

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        await together.wait()
        return web.Response(text="x")

    site.answer = answer
    for connections in (4, 6):
        await asyncio.gather(*(outside.get(f"https://127.0.0.1:{site.port}/") for _ in range(4)))
        assert len(site.sni) == connections


async def test_idle_connections_are_dropped(outside: Outside) -> None:
    outside.limits = HttpLimits(max_idle_hosts=1)
    outside.build()
    first, second = await outside.site(), await outside.site()
    for _ in range(2):
        for site in (first, second):
            await outside.get(f"https://127.0.0.1:{site.port}/")
    # One place has its connection kept, the next one does not.
    assert (len(first.sni), len(second.sni)) == (1, 2)


async def test_connections_are_not_shared_between_names(outside: Outside) -> None:
    site = await outside.site("a.example", "b.example")
    for name in ("a.example", "b.example", "a.example"):
        await outside.http.request("GET", local(site.port, name), PLENTY, path="/")
    assert site.sni == ["a.example", "b.example"]
    with pytest.raises(BadCertificate):
        await outside.http.request("GET", local(site.port, "c.example"), PLENTY, path="/")
    assert site.hosts == ["a.example", "b.example", "a.example"]
