"""Server names to places to connect to. Spec: server-server-api "Resolving server names"; its steps are numbered here."""

import random
from collections.abc import Sequence
from typing import Final

from hs.matrix.errors import InvalidParam
from hs.matrix.ids import ServerName, parse_server_name
from hs.net.errors import Unreachable
from hs.net.resolver import Resolver, Service
from hs.net.targets import Target, literal_target, named_target
from hs.net.well_known import WellKnown

DEFAULT_PORT: Final = 8448
# The second is deprecated, and what many servers have.
_SERVICES: Final = ("_matrix-fed", "_matrix")
# What is younger is not asked for again, however often it fails.
_FORGET_AFTER_S: Final = 60.0


class Discovery:
    """Finds servers. What it has found is remembered by the parts: pages by WellKnown, records by Resolver."""

    def __init__(self, well_known: WellKnown, resolver: Resolver, default_port: int = DEFAULT_PORT) -> None:
        self._well_known = well_known
        self._resolver = resolver
        self._default_port = default_port

    async def find(self, server_name: str) -> Sequence[Target]:
        """Where the server may be reached, best first. Raises Unreachable for what is no server name."""
        name = _parse(server_name)
        if (target := self._find_named(server_name, name)) is not None:  # steps 1 and 2
            return [target]
        delegated = await self._well_known.find(name.host)  # step 3
        if delegated is None:
            return await self._find_services(name)  # steps 4 to 6
        name = _parse(delegated)
        if (target := self._find_named(delegated, name)) is not None:  # steps 3.1 and 3.2
            return [target]
        return await self._find_services(name)  # steps 3.3 to 3.5

    def forget(self, server_name: str) -> None:
        """Look again for a server that could not be reached, unless that has just been done."""
        try:
            host, port = _parse(server_name)
        except Unreachable:
            return
        names = {host}
        if port is None:
            names |= self._well_known.forget(host, _FORGET_AFTER_S)
        for name in names:
            for prefix in ("", *(f"{service}._tcp." for service in _SERVICES)):
                self._resolver.forget(prefix + name, _FORGET_AFTER_S)

    async def close(self) -> None:
        """End what is under way."""
        await self._well_known.close()
        await self._resolver.close()

    def _find_named(self, text: str, name: ServerName) -> Target | None:
        if (literal := literal_target(text, self._default_port)) is not None:
            return literal
        return None if name.port is None else named_target(name, name.port)

    async def _find_services(self, name: ServerName) -> Sequence[Target]:
        for service in _SERVICES:
            found = await self._resolver.find_services(f"{service}._tcp.{name.host}")
            if found:
                targets = [named_target(name, s.port, s.host) for s in _in_order(found) if s.host and s.port]
                if not targets:
                    raise Unreachable(f"{name.host} says that it has no homeserver")
                return targets
        return [named_target(name, self._default_port)]


def _parse(server_name: str) -> ServerName:
    try:
        name = parse_server_name(server_name)
    except InvalidParam as error:
        raise Unreachable("not a server name") from error
    if name.port is not None and not 0 < name.port < 65536:
        raise Unreachable(f"{server_name} has an impossible port")
    # The grammar allows names that no network does.
    if not name.host.startswith("[") and not all(map(_is_label, name.host.rstrip(".").split("."))):
        raise Unreachable(f"{server_name} is no DNS name")
    return name


def _is_label(label: str) -> bool:
    return 0 < len(label) <= 63


def _in_order(found: Sequence[Service]) -> list[Service]:
    """As they are to be tried: lower priorities first, within one by chance, weighted. RFC 2782."""
    # random ** (1 / weight) is a weighted shuffle; weight 0 is for those who have only a small chance.
    return sorted(found, key=lambda s: (s.priority, -(random.random() ** (1 / (s.weight or 0.01)))))
