"""Where a server is reached, as "Resolving server names" finds it."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from yarl import URL

from hs.matrix.ids import ServerName, parse_server_name
from hs.net.addresses import parse_ip

# Server names that are taken apart once, 500 bytes each.
_REMEMBERED: Final = 4096


@dataclass(frozen=True, slots=True)
class Target:
    """One place to connect to, and how to behave there."""

    # A name, or an address without brackets.
    host: str
    port: int
    # The Host header.
    host_header: str
    # Whom the certificate must be for: a name, or an address without brackets.
    tls_name: str

    def url(self, path: str) -> URL:
        """The address of a request; `path` with its query, escaped already. Raises ValueError."""
        check_path(path)
        host = f"[{self.host}]" if ":" in self.host else self.host
        return URL(f"https://{host}:{self.port}{path}", encoded=True)


def check_path(path: str) -> None:
    """Raise ValueError for what cannot stand in a request as it is."""
    if not path.startswith("/") or not path.isascii() or not path.isprintable() or " " in path:
        raise ValueError("the path of a request is not escaped")


@lru_cache(_REMEMBERED)
def literal_target(server_name: str, default_port: int) -> Target | None:
    """Steps 1 and 3.1: a server that is named by its address; None for others."""
    host, port = parse_server_name(server_name)
    ip = parse_ip(host)
    return None if ip is None else Target(str(ip), port or default_port, server_name, str(ip))


def named_target(server_name: ServerName, port: int, host: str = "") -> Target:
    """A server that is named by a DNS name, reached at another `host` where SRV says so."""
    name, own_port = server_name
    header = name if own_port is None else f"{name}:{own_port}"
    return Target(host or name, port, header, name)
