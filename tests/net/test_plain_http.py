"""Connections are made to addresses that are allowed, however the name says it."""

import pytest

from hs.config import PRIVATE_NETWORKS
from hs.net.addresses import AddressGuard
from hs.net.errors import AddressRefused, BadCertificate, Unreachable
from hs.net.plain_http import PlainHttp
from hs.net.server_http import ServerHttp
from tests.certificates import Authority
from tests.remote_server import RemoteServer


async def status_of(name: str, authority: Authority | None, *allowed: str) -> int:
    guard = AddressGuard(PRIVATE_NETWORKS, allowed)
    http = PlainHttp.connect(authority.ca_file if authority else None, True, guard)
    try:
        answer = await ServerHttp(http, http).request(
            "GET", name, "/_matrix/key/v2/server", max_bytes=100_000, timeout_s=10
        )
        return answer.status
    finally:
        await http.close()


async def test_an_allowed_address_is_asked(remote: RemoteServer, authority: Authority) -> None:
    assert await status_of(remote.name, authority, "127.0.0.0/8") == 200


async def test_a_refused_address_is_not(remote: RemoteServer, authority: Authority) -> None:
    with pytest.raises(AddressRefused):
        await status_of(remote.name, authority)
    port = remote.name.rpartition(":")[2]
    # Names and spellings that lead there.
    for host in ("localhost", "127.1", "0x7f.0.0.1", "2130706433", "[::ffff:127.0.0.1]", "0.0.0.0", "[::1]"):
        with pytest.raises(Unreachable):
            await status_of(f"{host}:{port}", authority)
    assert remote.requests == []


async def test_a_certificate_of_nobody_is_not_believed(remote: RemoteServer) -> None:
    with pytest.raises(BadCertificate):
        await status_of(remote.name, None, "127.0.0.0/8")
    assert remote.requests == []
