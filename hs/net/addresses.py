"""Which addresses we connect to. Names and URLs of others must not lead us into private networks."""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from hs.net.errors import AddressRefused

Address = IPv4Address | IPv6Address

# IPv6 networks whose addresses have an IPv4 one inside, and how far from the right it is, in bits.
_CARRIERS: Final = (
    (ip_network("::/96"), 0),
    (ip_network("::ffff:0:0:0/96"), 0),
    (ip_network("64:ff9b::/96"), 0),
    (ip_network("64:ff9b:1::/48"), 0),
    (ip_network("2002::/16"), 80),
)


def parse_ip(text: str) -> Address | None:
    """The address that a host is, with or without the brackets of IPv6; None for a name."""
    if ":" not in text and not text[-1:].isdecimal():
        return None
    try:
        return ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def parse_nameserver(text: str) -> tuple[str, int]:
    """Address and port of "192.0.2.53", "192.0.2.53:5353" or "[2001:db8::53]:5353"; ValueError for others."""
    host, port = text, "53"
    if parse_ip(text) is None:
        host, _, port = text.rpartition(":")
    address = parse_ip(host)
    if address is None or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} is not the address of a nameserver")
    return str(address), int(port)


class AddressGuard:
    """Refuses the networks of a list, unless a second list has them.

    0.0.0.0 and :: are this machine whatever the lists say, so they are always refused.
    """

    def __init__(self, blacklist: Iterable[str], whitelist: Iterable[str]) -> None:
        self._refused = _Networks(blacklist)
        self._allowed = _Networks(whitelist)

    def check(self, ip: str | Address) -> None:
        """Raise AddressRefused where we do not connect to it, or where it is none."""
        address = parse_ip(ip) if isinstance(ip, str) else ip
        if address is None:
            raise AddressRefused(f"{ip!r} is no address")
        if not all(self._may(form) for form in _forms(address)):
            raise AddressRefused(f"{address} is not to be connected to")

    def _may(self, address: Address) -> bool:
        if not int(address):
            return False
        return address in self._allowed or address not in self._refused


class _Networks:
    """Networks as numbers: a look-up is some masks."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._masked: dict[int, set[tuple[int, int]]] = {4: set(), 6: set()}
        for text in networks:
            network = ip_network(text)
            self._masked[network.version].add((int(network.netmask), int(network.network_address)))

    def __contains__(self, address: Address) -> bool:
        number = int(address)
        return any(number & mask == network for mask, network in self._masked[address.version])


def _forms(address: Address) -> Iterator[Address]:
    """The address, and the IPv4 one that a router would make of it: each must be allowed."""
    if isinstance(address, IPv4Address):
        yield address
    elif (mapped := address.ipv4_mapped) is not None:
        # The same address, only written in another way.
        yield mapped
    else:
        yield IPv6Address(int(address))  # without a zone
        for network, shift in _CARRIERS:
            # ::1 and :: have none inside, they are themselves.
            if address in network and int(address) > 1:
                yield IPv4Address(int(address) >> shift & 0xFFFF_FFFF)
