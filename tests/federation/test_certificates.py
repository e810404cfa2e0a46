"""The certificates that all other tests of federation rely on."""

import asyncio
import ssl

import pytest

from tests.certificates import Authority, Certificate


async def _shake_hands(authority: Authority, host: str, certificate: Certificate | None = None) -> None:
    context = authority.server_context(certificate)
    listening = await asyncio.start_server(lambda _, writer: writer.close(), host, 0, ssl=context)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection(host, port, ssl=authority.client_context())
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_this_machine_is_trusted(authority: Authority, host: str) -> None:
    await _shake_hands(authority, host)


async def test_another_name_is_not(authority: Authority) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await _shake_hands(authority, "127.0.0.1", authority.issue("other.example"))


async def test_what_has_expired_is_not(authority: Authority) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await _shake_hands(authority, "127.0.0.1", authority.issue_expired("127.0.0.1"))
