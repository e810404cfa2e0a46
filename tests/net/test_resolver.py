"""Names to addresses and services, on a DNS server of the tests."""

import asyncio

import pytest

from hs.net.addresses import parse_nameserver
from hs.net.errors import AddressRefused, Unreachable
from hs.net.resolver import Service
from tests.dns_server import GARBAGE, SILENCE, TRUNCATED
from tests.net.outside import Outside

HERE = ["127.0.0.1"]


async def test_addresses_of_both_kinds(outside: Outside) -> None:
    outside.dns.add("a.example", "A", "127.0.0.1", "127.0.0.2")
    outside.dns.add("a.example", "AAAA", "::1")
    outside.dns.add("alias.example", "CNAME", "a.example.")
    for name in ("a.example", "A.Example.", "alias.example"):
        found = await outside.resolver.find_addresses(name)
        assert (found[0], set(found[1:])) == ("::1", {"127.0.0.1", "127.0.0.2"})
    assert outside.dns.count("a.example", "A") == 1


async def test_no_more_addresses_than_are_tried(outside: Outside) -> None:
    outside.dns.add("a.example", "AAAA", *(["::1"] * 1))
    outside.dns.add("a.example", "A", "127.0.0.1", "127.0.0.2", *(f"10.0.0.{i}" for i in range(1, 30)))
    found = await outside.resolver.find_addresses("a.example")
    assert set(found) == {"::1", "127.0.0.1", "127.0.0.2"}


async def test_literal_addresses_are_not_looked_up(outside: Outside) -> None:
    assert await outside.resolver.find_addresses("127.0.0.1") == HERE
    assert await outside.resolver.find_addresses("[::1]") == ["::1"]
    for refused in ("10.0.0.1", "::", "0.0.0.0", "::ffff:10.0.0.1"):
        with pytest.raises(AddressRefused):
            await outside.resolver.find_addresses(refused)
    assert outside.dns.queries == []


async def test_answers_are_remembered_as_long_as_they_say(outside: Outside) -> None:
    outside.dns.script("a.example", "A", HERE, ["127.0.0.2"])
    outside.dns.ttl = 100
    assert await outside.resolver.find_addresses("a.example") == HERE
    outside.clock.advance(99)
    assert await outside.resolver.find_addresses("a.example") == HERE
    outside.clock.advance(2)
    assert await outside.resolver.find_addresses("a.example") == ["127.0.0.2"]


@pytest.mark.parametrize(("ttl", "kept_s", "gone_s"), [(0, 9, 11), (1_000_000, 3590, 3610)])
async def test_but_within_bounds(outside: Outside, ttl: int, kept_s: int, gone_s: int) -> None:
    outside.dns.ttl = ttl
    outside.dns.script("a.example", "A", HERE)
    for advance_s, asked in ((kept_s, 1), (gone_s - kept_s, 2)):
        await outside.resolver.find_addresses("a.example")
        outside.clock.advance(advance_s)
        await outside.resolver.find_addresses("a.example")
        assert outside.dns.count("a.example", "A") == asked


async def test_names_that_do_not_exist_are_remembered_shortly(outside: Outside) -> None:
    outside.dns.negative_ttl = 100
    for _ in range(2):
        with pytest.raises(Unreachable, match="does not exist"):
            await outside.resolver.find_addresses("a.example")
    assert outside.dns.count("a.example", "A") == 1
    outside.dns.add("a.example", "A", *HERE)
    outside.clock.advance(99)
    with pytest.raises(Unreachable):
        await outside.resolver.find_addresses("a.example")
    outside.clock.advance(2)
    assert await outside.resolver.find_addresses("a.example") == HERE


async def test_a_name_without_addresses(outside: Outside) -> None:
    outside.dns.add("a.example", "TXT", '"hello"')
    with pytest.raises(Unreachable, match="has no address"):
        await outside.resolver.find_addresses("a.example")


async def test_a_loop_of_aliases(outside: Outside) -> None:
    outside.dns.add("a.example", "CNAME", "b.example.")
    outside.dns.add("b.example", "CNAME", "a.example.")
    with pytest.raises(Unreachable):
        await outside.resolver.find_addresses("a.example")


@pytest.mark.parametrize(
    "name", ["a..example", "x" * 64 + ".example", "a." * 200 + "example", "é" * 70, "\0", ""]
)
async def test_names_that_are_none(outside: Outside, name: str) -> None:
    with pytest.raises(Unreachable):
        await outside.resolver.find_addresses(name)
    assert not await outside.resolver.find_services(name)


async def test_a_name_is_looked_up_once_at_a_time(outside: Outside) -> None:
    outside.dns.add("a.example", "A", *HERE)
    outside.dns.hold()
    tasks = [asyncio.create_task(outside.resolver.find_addresses("a.example")) for _ in range(20)]
    await outside.dns.reached.wait()
    # Who does not wait any more does not end it for the others.
    tasks[0].cancel()
    outside.dns.let_go()
    assert [await task for task in tasks[1:]] == [HERE] * 19
    assert outside.dns.count("a.example", "A") == 1


async def test_servers_that_fail_are_asked_again_soon(outside: Outside) -> None:
    outside.dns.script("a.example", "A", "SERVFAIL")
    outside.dns.script("a.example", "AAAA", "REFUSED")
    with pytest.raises(Unreachable, match="could not be looked up"):
        await outside.resolver.find_addresses("a.example")
    outside.dns.script("a.example", "A", HERE)
    with pytest.raises(Unreachable):
        await outside.resolver.find_addresses("a.example")
    outside.clock.advance(30)
    # One kind is enough.
    assert await outside.resolver.find_addresses("a.example") == HERE


async def test_lost_and_broken_answers_are_asked_for_again(outside: Outside) -> None:
    outside.dns.script("a.example", "A", SILENCE, HERE)
    outside.dns.script("a.example", "AAAA", GARBAGE, [])
    assert await outside.resolver.find_addresses("a.example") == HERE


async def test_answers_too_large_for_a_datagram(outside: Outside) -> None:
    outside.dns.script("_matrix._tcp.a.example", "SRV", TRUNCATED)
    values = [f"1 1 {port} server-{port}.a.example." for port in range(1, 200)]
    outside.dns.add("_matrix._tcp.a.example", "SRV", *values)
    assert len(await outside.resolver.find_services("_matrix._tcp.a.example")) == 16


async def test_the_hosts_file_comes_first(outside: Outside) -> None:
    outside.hosts_file.write_text("# comment\n127.0.0.2 box A.example # a.other\n\nrubbish\n::1\ta.example\n")
    outside.dns.add("a.example", "A", "127.0.0.1")
    assert await outside.resolver.find_addresses("a.example") == ["127.0.0.2", "::1"]
    outside.hosts_file.write_text("10.0.0.1 a.example\n")
    with pytest.raises(AddressRefused):
        await outside.resolver.find_addresses("a.example")
    assert outside.dns.queries == []


async def test_services(outside: Outside) -> None:
    name = "_matrix-fed._tcp.a.example"
    outside.dns.add(name, "SRV", "10 5 8448 b.example.", "20 0 443 C.example.")
    found = await outside.resolver.find_services(name)
    assert set(found) == {Service(10, 5, 8448, "b.example"), Service(20, 0, 443, "C.example")}
    assert not await outside.resolver.find_services("_matrix._tcp.a.example")
    outside.dns.script("_matrix._tcp.b.example", "SRV", "SERVFAIL")
    assert not await outside.resolver.find_services("_matrix._tcp.b.example")
    outside.dns.add("_matrix._tcp.c.example", "SRV", *(f"1 1 {port} c.example." for port in range(1, 40)))
    assert len(await outside.resolver.find_services("_matrix._tcp.c.example")) == 16


async def test_what_was_long_ago_can_be_forgotten(outside: Outside) -> None:
    outside.dns.ttl = 3000
    outside.dns.script("a.example", "A", HERE, ["127.0.0.2"])
    await outside.resolver.find_addresses("a.example")
    outside.resolver.forget("a.example", 60)
    assert await outside.resolver.find_addresses("a.example") == HERE
    outside.clock.advance(61)
    outside.resolver.forget("A.example", 60)
    assert await outside.resolver.find_addresses("a.example") == ["127.0.0.2"]


def test_nameservers() -> None:
    assert parse_nameserver("192.0.2.53") == ("192.0.2.53", 53)
    assert parse_nameserver("192.0.2.53:5353") == ("192.0.2.53", 5353)
    assert parse_nameserver("2001:db8::53") == ("2001:db8::53", 53)
    assert parse_nameserver("[2001:db8::53]:5353") == ("2001:db8::53", 5353)
    for wrong in (
        "",
        "dns.example",
        "192.0.2.53:",
        "192.0.2.53:0",
        "192.0.2.53:99999",
        "192.0.2.53:x",
        ":53",
    ):
        with pytest.raises(ValueError):
            parse_nameserver(wrong)
