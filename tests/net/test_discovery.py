"""The steps of "Resolving server names", and what each has for Host header and certificate."""

import asyncio

import pytest
from aiohttp import web

from hs.net.discovery import Discovery
from hs.net.errors import Unreachable
from hs.net.server_http import ServerHttp
from hs.net.targets import Target
from tests.net.outside import PLENTY, Outside, Site, page


def well_known(server: str) -> str:
    return f'{{"m.server": "{server}"}}'


async def begin(outside: Outside, server: str | None = None) -> tuple[Discovery, Site]:
    """Discovery, and the site of a.example, which delegates to `server`."""
    site = await outside.site("a.example")
    site.answer = page("", 404) if server is None else page(well_known(server))
    outside.dns.add("a.example", "A", "127.0.0.1")
    return outside.discovery(site.port), site


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("127.0.0.1", Target("127.0.0.1", 8448, "127.0.0.1", "127.0.0.1")),
        ("127.0.0.1:80", Target("127.0.0.1", 80, "127.0.0.1:80", "127.0.0.1")),
        ("[::1]", Target("::1", 8448, "[::1]", "::1")),
        ("[::1]:80", Target("::1", 80, "[::1]:80", "::1")),
        ("a.example:80", Target("a.example", 80, "a.example:80", "a.example")),
        ("a.example:8448", Target("a.example", 8448, "a.example:8448", "a.example")),
    ],
)
async def test_names_that_say_where(outside: Outside, name: str, target: Target) -> None:
    """Steps 1 and 2; the same for delegated names in steps 3.1 and 3.2."""
    discovery, site = await begin(outside, name)
    assert await discovery.find(name) == [target]
    assert site.requests == outside.dns.queries == []
    assert await discovery.find("a.example") == [target]
    assert len(site.requests) == 1


@pytest.mark.parametrize("delegated", [None, "b.example"])
async def test_services_of_names(outside: Outside, delegated: str | None) -> None:
    """Steps 3.3 to 3.5 with a delegated name, 4 to 6 without."""
    name = delegated or "a.example"
    discovery, _ = await begin(outside, delegated)
    assert await discovery.find("a.example") == [Target(name, 8448, name, name)]
    outside.clock.advance(100)
    outside.dns.add(f"_matrix._tcp.{name}", "SRV", "10 1 1000 old.example.")
    assert await discovery.find("a.example") == [Target("old.example", 1000, name, name)]
    outside.clock.advance(100)
    outside.dns.add(f"_matrix-fed._tcp.{name}", "SRV", "20 1 2000 c.example.", "10 1 3000 b.example.")
    for _ in range(10):
        assert await discovery.find("a.example") == [
            Target("b.example", 3000, name, name),
            Target("c.example", 2000, name, name),
        ]


async def test_services_are_tried_by_weight(outside: Outside) -> None:
    discovery, _ = await begin(outside)
    service = "_matrix-fed._tcp.a.example"
    outside.dns.add(
        service, "SRV", "1 9 9 c.example.", "1 1 1 b.example.", "1 0 2 d.example.", "0 0 5 e.example."
    )
    orders = [[t.port for t in await discovery.find("a.example")] for _ in range(600)]
    assert all(sorted(order) == [1, 2, 5, 9] and order[0] == 5 for order in orders)
    heavy = sum(order[1] == 9 for order in orders)
    # 540 expected; 8 standard deviations either way.
    assert 480 < heavy < 600


async def test_a_name_that_says_it_has_no_server(outside: Outside) -> None:
    discovery, _ = await begin(outside)
    outside.dns.add("_matrix-fed._tcp.a.example", "SRV", "0 0 0 .")
    with pytest.raises(Unreachable, match="no homeserver"):
        await discovery.find("a.example")


async def test_services_that_point_at_themselves(outside: Outside) -> None:
    discovery, _ = await begin(outside)
    service = "_matrix-fed._tcp.a.example"
    outside.dns.add(service, "SRV", f"0 0 1 {service}.")
    assert await discovery.find("a.example") == [Target(service, 1, "a.example", "a.example")]
    with pytest.raises(Unreachable):
        await ServerHttp(outside.http, discovery).request("GET", "a.example", "/", bounds=PLENTY)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        "nonsense",
        '{"m.server": 5}',
        '{"m.server": ""}',
        '{"m.server": null}',
        well_known("https://b.example"),
        well_known("b.example/path"),
        well_known("b.example:0"),
        well_known("b.example:99999"),
        well_known("b.example:port"),
        well_known("b\\u0000.example"),
        well_known("b.example\\r\\nX: y"),
        well_known("[::1"),
        well_known("a" * 300),
        '{"m.server": "b.example"' + " " * 60_000 + "}",
        '{"a":' * 20_000 + '"}' * 20_000,
        "[" * 40_000,
    ],
)
async def test_pages_that_are_as_good_as_none(outside: Outside, text: str) -> None:
    discovery, site = await begin(outside)
    site.answer = page(text)
    assert await discovery.find("a.example") == [Target("a.example", 8448, "a.example", "a.example")]
    assert len(site.requests) == 1


async def test_a_page_of_any_type_with_more_in_it(outside: Outside) -> None:
    discovery, site = await begin(outside)
    site.answer = page('{"other": [1], "m.server": "b.example:1"}', Content_Type="text/plain")
    assert [t.port for t in await discovery.find("a.example")] == [1]


async def test_pages_are_found_behind_redirects(outside: Outside) -> None:
    discovery, site = await begin(outside)
    other = await outside.site("b.example")
    outside.dns.add("b.example", "A", "127.0.0.1")
    site.answer = page("", 302, Location=f"https://b.example:{other.port}/elsewhere")
    other.answer = page(well_known("b.example:5"))
    assert [t.port for t in await discovery.find("a.example")] == [5]
    assert site.requests[0].raw_path == "/.well-known/matrix/server"
    assert other.requests[0].raw_path == "/elsewhere"


@pytest.mark.parametrize("location", ["/", "https://127.0.0.3/", "http://127.0.0.1/"])
async def test_redirects_in_circles_and_to_where_nobody_goes(outside: Outside, location: str) -> None:
    discovery, site = await begin(outside)
    site.answer = page("", 302, Location=location)
    assert [t.host for t in await discovery.find("a.example")] == ["a.example"]
    assert len(site.requests) <= 6


async def test_a_page_with_a_wrong_certificate(outside: Outside) -> None:
    site = await outside.site("b.example")
    site.answer = page(well_known("b.example:1"))
    outside.dns.add("a.example", "A", "127.0.0.1")
    found = await outside.discovery(site.port).find("a.example")
    assert [(t.host, t.port) for t in found] == [("a.example", 8448)]


HOUR = 3600


@pytest.mark.parametrize(
    ("headers", "kept_s"),
    [
        ({}, 24 * HOUR),
        ({"Cache-Control": "max-age=7200"}, 2 * HOUR),
        ({"Cache-Control": 'public, MAX-AGE="7200"'}, 2 * HOUR),
        ({"Cache-Control": "max-age=7200", "Expires": "Thu, 01 Jan 1970 00:00:00 GMT"}, 2 * HOUR),
        ({"Cache-Control": "max-age=99999999999999999999"}, 48 * HOUR),
        ({"Cache-Control": "max-age=-5"}, 24 * HOUR),
        ({"Cache-Control": "max-age=0"}, 300),
        ({"Cache-Control": "no-store"}, 300),
        ({"Expires": "Thu, 01 Jan 1970 00:00:00 GMT"}, 300),
        ({"Expires": "Fri, 01 Jan 2100 00:00:00 GMT"}, 48 * HOUR),
        ({"Expires": "0"}, 300),
        ({"Expires": "Thu, 99 Foo 19700 99:99:99 GMT"}, 300),
    ],
)
async def test_pages_are_kept_as_they_say(outside: Outside, headers: dict[str, str], kept_s: int) -> None:
    discovery, site = await begin(outside)

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text=well_known("b.example:1"), headers=headers)

    site.answer = answer
    # The times are up to a tenth shorter.
    for advance_s, asked in ((0, 1), (kept_s * 0.89, 1), (kept_s * 0.12, 2)):
        outside.clock.advance(advance_s)
        await discovery.find("a.example")
        assert len(site.requests) == asked


async def test_failures_are_kept_longer_and_longer(outside: Outside) -> None:
    discovery, site = await begin(outside)
    pauses = []
    for _ in range(8):
        asked, waited = len(site.requests), 0
        while len(site.requests) == asked:
            outside.clock.advance(60)
            waited += 60
            await discovery.find("a.example")
        pauses.append(waited)
    assert pauses[1:] == [120, 240, 480, 960, 1920, 3600, 3600]
    site.answer = page(well_known("b.example:1"))
    outside.clock.advance(3600)
    assert [t.port for t in await discovery.find("a.example")] == [1]


async def test_a_page_that_is_down_for_a_while_is_still_believed(outside: Outside) -> None:
    discovery, site = await begin(outside, "b.example:1")

    async def ports() -> list[int]:
        return [target.port for target in await discovery.find("a.example")]

    assert await ports() == [1]
    site.answer = page("", 503)
    outside.clock.advance(25 * HOUR)
    assert await ports() == [1]
    outside.clock.advance(20 * HOUR)
    assert await ports() == [1]
    # Two days in all; who says that there is no page is believed at once.
    outside.clock.advance(4 * HOUR)
    assert await ports() == [8448]
    site.answer = page(well_known("b.example:1"))
    outside.clock.advance(HOUR)
    assert await ports() == [1]
    site.answer = page("", 404)
    outside.clock.advance(25 * HOUR)
    assert await ports() == [8448]


async def test_a_page_is_asked_for_once_at_a_time(outside: Outside) -> None:
    discovery, site = await begin(outside)
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        reached.set()
        await go_on.wait()
        return web.Response(text=well_known("b.example:1"))

    site.answer = answer
    tasks = [asyncio.create_task(discovery.find(name)) for name in ("a.example", "A.EXAMPLE") * 5]
    await reached.wait()
    tasks[0].cancel()
    go_on.set()
    assert [[t.port for t in await task] for task in tasks[1:]] == [[1]] * 9
    assert len(site.requests) == 1


async def test_a_server_that_moved_is_looked_for_again(outside: Outside) -> None:
    discovery, site = await begin(outside, "b.example:1")
    await discovery.find("a.example")
    site.answer = page(well_known("b.example:2"))
    discovery.forget("a.example")
    assert [t.port for t in await discovery.find("a.example")] == [1]
    outside.clock.advance(61)
    assert [t.port for t in await discovery.find("a.example")] == [1]
    discovery.forget("a.example")
    assert [t.port for t in await discovery.find("a.example")] == [2]
    # What was never good is not asked for more often because it is in demand.
    site.answer = page("", 404)
    outside.clock.advance(61)
    discovery.forget("a.example")
    await discovery.find("a.example")
    asked = len(site.requests)
    outside.clock.advance(61)
    discovery.forget("a.example")
    await discovery.find("a.example")
    assert len(site.requests) == asked


@pytest.mark.parametrize(
    "name", ["", "a b", "a/b", "a.example:0", "a.example:99999", "a\0.example", "a.example\n", "é.example"]
)
async def test_what_is_no_server_name(outside: Outside, name: str) -> None:
    discovery, site = await begin(outside)
    with pytest.raises(Unreachable):
        await discovery.find(name)
    discovery.forget(name)
    assert site.requests == outside.dns.queries == []


async def test_requests_arrive_where_the_steps_lead(outside: Outside) -> None:
    """All of it over TLS: the certificate is the delegated name's, not the service's."""
    homeserver = await outside.site("b.example")
    discovery, _ = await begin(outside, "b.example")
    outside.dns.add(
        "_matrix-fed._tcp.b.example", "SRV", "0 0 1 down.example.", f"1 0 {homeserver.port} host.example."
    )
    outside.dns.add("down.example", "A", "127.0.0.2")
    outside.dns.add("host.example", "A", "127.0.0.1")
    answer = await ServerHttp(outside.http, discovery).request(
        "GET", "a.example", "/_matrix/x", bounds=PLENTY
    )
    assert answer.body == b"here"
    assert (homeserver.hosts, homeserver.sni) == (["b.example"], ["b.example"])


async def test_a_server_that_moves_is_found_after_it_was_missed(outside: Outside) -> None:
    old, new = await outside.site("b.example"), await outside.site("b.example")
    discovery, site = await begin(outside, f"b.example:{old.port}")
    outside.dns.add("b.example", "A", "127.0.0.1")
    http = ServerHttp(outside.http, discovery)

    async def ask() -> bytes:
        return (await http.request("GET", "a.example", "/", bounds=PLENTY)).body

    assert await ask() == b"here"

    async def hang_up(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        raise asyncio.CancelledError

    old.answer, new.answer = hang_up, page("there")
    site.answer = page(well_known(f"b.example:{new.port}"))
    outside.clock.advance(120)
    with pytest.raises(Unreachable):
        await ask()
    assert await ask() == b"there"
