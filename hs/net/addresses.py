"""Which addresses we connect to for others, whoever chose the name that led there."""

import ipaddress
from collections.abc import Iterable

from hs.net.errors import AddressRefused

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


class AddressGuard:
    """Refuses the networks of the first list, but for those of the second."""

    def __init__(self, blacklist: Iterable[str], whitelist: Iterable[str]) -> None:
        self._refused = [ipaddress.ip_network(network) for network in blacklist]
        self._allowed = [ipaddress.ip_network(network) for network in whitelist]

    def check(self, address: str) -> None:
        """Raise AddressRefused where nobody may be connected to at this IP address."""
        try:
            ip = _plain(ipaddress.ip_address(address.partition("%")[0]))
        except ValueError as error:
            raise AddressRefused(f"{address!r} is no IP address") from error
        # Linux takes it for this machine.
        if ip.is_unspecified:
            raise AddressRefused(f"{address} is no address of anybody")
        if any(ip in network for network in self._allowed):
            return
        if any(ip in network for network in self._refused):
            raise AddressRefused(f"{address} is in a network that is not connected to")


def _plain(ip: Ip) -> Ip:
    """The IPv4 address within an IPv6 one, which leads to the same place."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return ip.ipv4_mapped
        if ip.sixtofour is not None:
            return ip.sixtofour
        if ip in _NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
