"""Addresses that nobody leads us to."""

import pytest

from hs.config import PRIVATE_NETWORKS
from hs.net.addresses import AddressGuard
from hs.net.errors import AddressRefused

PUBLIC = ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
PRIVATE = [
    "0.0.0.0",
    "127.0.0.1",
    "127.1.2.3",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "fd00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
]


def test_public_addresses_may_be_connected_to() -> None:
    guard = AddressGuard(PRIVATE_NETWORKS, ())
    for address in PUBLIC:
        guard.check(address)


@pytest.mark.parametrize("address", [*PRIVATE, "", "a.example", "127.1", "1.2.3.4.5"])
def test_others_are_refused(address: str) -> None:
    with pytest.raises(AddressRefused):
        AddressGuard(PRIVATE_NETWORKS, ()).check(address)


def test_the_list_of_exceptions_wins_but_for_no_address_at_all() -> None:
    guard = AddressGuard(PRIVATE_NETWORKS, ("127.0.0.0/8", "::1/128"))
    for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        guard.check(address)
    for address in ("10.0.0.1", "fe80::1"):
        with pytest.raises(AddressRefused):
            guard.check(address)
    everything = AddressGuard((), ("0.0.0.0/0", "::/0"))
    for address in ("0.0.0.0", "::"):
        with pytest.raises(AddressRefused):
            everything.check(address)
