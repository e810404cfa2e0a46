"""A running server finds another one by its name, in the DNS, and talks to it under that name."""

from collections.abc import Awaitable, Callable

from tests.certificates import Authority
from tests.dns_server import DnsServer
from tests.eyes import Eyes
from tests.federation_town import LOOPBACK, FederationTown
from tests.interop.pairs import try_join
from tests.people import Person
from tests.remote_server import RemoteServer

NAME = "remote.example"

MakeFederation = Callable[..., Awaitable[FederationTown]]
MakeRemote = Callable[..., Awaitable[RemoteServer]]


async def start(dns: DnsServer, make_federation: MakeFederation) -> Person:
    network = {"ip_range_whitelist": LOOPBACK, "nameservers": [dns.address]}
    [town] = (await make_federation(1, network=network)).towns
    return await town.person("bob")


async def test_a_room_is_joined_by_a_server_name(
    make_federation: MakeFederation, make_remote: MakeRemote, authority: Authority
) -> None:
    remote = await make_remote(name=NAME, certificate=authority.issue(NAME))
    port = remote.address.rpartition(":")[2]
    async with DnsServer.start() as dns:
        dns.add(f"_matrix-fed._tcp.{NAME}", "SRV", f"0 0 {port} host.example.")
        dns.add("host.example", "A", "127.0.0.1")
        bob = await start(dns, make_federation)
        room, alice = remote.make_room("12"), remote.user("alice")
        answer = await try_join(bob, room.room_id, NAME)
        assert answer.status == 200, answer
        hello = room.say(alice, "welcome")
        await remote.send(bob.user_id.partition(":")[2], hello)
        await Eyes(bob).event(room.room_id, hello.event_id)
    assert {request.headers["Host"] for request in remote.requests} == {NAME}
    assert remote.complaints == []


async def test_a_server_that_cannot_prove_its_name_is_not_talked_to(
    make_federation: MakeFederation, make_remote: MakeRemote, authority: Authority
) -> None:
    remote = await make_remote(name=NAME, certificate=authority.issue("host.example"))
    port = remote.address.rpartition(":")[2]
    async with DnsServer.start() as dns:
        dns.add(f"_matrix._tcp.{NAME}", "SRV", f"0 0 {port} host.example.")
        dns.add("host.example", "A", "127.0.0.1")
        bob = await start(dns, make_federation)
        answer = await try_join(bob, remote.make_room("12").room_id, NAME)
        assert answer.status >= 400, answer
    assert remote.requests == []
