"""Several of our own homeservers that reach each other over HTTPS, with people on each.

    async with FederationTown.start(authority, postgres.url, count=3) as town:
        a, b, c = town.towns
        alice, bob = await a.person("alice"), await b.person("bob")
        town.network.partition({a.server_name}, {b.server_name, c.server_name})

The servers run in the test's own event loop, each on a database of its own. `FederatedProcess` is one as a process,
for tests that kill it or share it.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from signedjson.key import generate_signing_key

from hs.config import load_config
from hs.rooms.build import Signer
from hs.rooms.clock import Clock, SystemClock
from hs.server import start
from tests.certificates import Authority
from tests.databases import drop_database, make_database
from tests.federation_network import Network
from tests.people import Town
from tests.server_process import ServerProcess, find_free_ports, to_toml

LOOPBACK = ["127.0.0.0/8", "::1/128"]


class JumpingClock:
    """The machine's clock, which tests put forward."""

    def __init__(self) -> None:
        self._ahead_ms = 0

    def jump(self, ms: int) -> None:
        """Let so much time have gone by."""
        self._ahead_ms += ms

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return SystemClock().now_ms() + self._ahead_ms


def federation_settings(authority: Authority, port: int, client_port: int) -> dict[str, Any]:
    """The settings of a server that federates on this machine; `port` is of its federation listener."""
    return {
        "listeners": [
            {
                "bind": "127.0.0.1",
                "port": port,
                "apis": ["federation"],
                "tls_certificate": str(authority.local.chain),
                "tls_private_key": str(authority.local.key),
            },
            # Opened last: who reaches it reaches all.
            {"bind": "127.0.0.1", "port": client_port, "apis": ["client", "admin"]},
        ],
        "federation": {"ca_file": str(authority.ca_file), "trusted_key_servers": []},
        "network": {"ip_range_whitelist": LOOPBACK},
        "registration": {"enabled": True, "shared_secret": "only for tests"},
        "rate_limits": {"enabled": False},
    }


class FederatedProcess(ServerProcess):
    """A `hs serve` whose name is the address of its federation listener, or of the switch in front of it."""

    def __init__(
        self,
        folder: Path,
        authority: Authority,
        database_url: str = "",
        settings: Mapping[str, Any] | None = None,
        switch_port: int | None = None,
    ) -> None:
        [self.federation_port] = find_free_ports(1)
        name = f"127.0.0.1:{switch_port or self.federation_port}"
        self._authority = authority
        super().__init__(folder, database_url, {"server_name": name} | dict(settings or {}))
        self.server_name = name

    def _settings(self, database_url: str) -> dict[str, Any]:
        ports = self.federation_port, self.port
        return super()._settings(database_url) | federation_settings(self._authority, *ports)


@dataclass(frozen=True)
class FederationTown:
    """The servers' people, and the network between the servers."""

    towns: list[Town]
    network: Network
    # Of the servers, in the same order.
    database_urls: list[str]

    @classmethod
    @asynccontextmanager
    async def start(
        cls,
        authority: Authority,
        postgres_url: str,
        folder: Path,
        count: int = 2,
        settings: Mapping[str, Any] | None = None,
        clock: Clock | None = None,
    ) -> AsyncIterator["FederationTown"]:
        """Servers that answer, all by this clock; their configuration goes into `folder`."""
        async with AsyncExitStack() as stack:
            network = await stack.enter_async_context(Network.start(authority))
            session = await stack.enter_async_context(aiohttp.ClientSession())
            towns, urls = [], []
            for _ in range(count):
                urls.append(await make_database(postgres_url))
                stack.push_async_callback(drop_database, postgres_url, urls[-1])
                document = await _open_ports(authority, network, stack) | dict(settings or {})
                towns.append(await _start_server(document, urls[-1], folder, session, stack, clock))
            yield cls(towns, network, urls)
            # What is held back would keep the servers from ending.
            await network.close()

    @property
    def names(self) -> list[str]:
        """The servers' names."""
        return [town.server_name for town in self.towns]


async def _open_ports(authority: Authority, network: Network, stack: AsyncExitStack) -> dict[str, Any]:
    """The settings of a server whose name is where its switch listens."""
    switch_port, port, client_port = find_free_ports(3)
    name = f"127.0.0.1:{switch_port}"
    await stack.enter_async_context(network.switch(name, switch_port, f"https://127.0.0.1:{port}"))
    return {"server_name": name} | federation_settings(authority, port, client_port)


async def _start_server(
    document: Mapping[str, Any],
    database_url: str,
    folder: Path,
    session: aiohttp.ClientSession,
    stack: AsyncExitStack,
    clock: Clock | None,
) -> Town:
    client_port = document["listeners"][1]["port"]
    config_path = folder / f"hs-{client_port}.toml"
    config_path.write_text(to_toml(document))
    config = load_config(config_path)
    await start(
        config, Signer(config.server_name, generate_signing_key("s")), database_url, stack, clock=clock
    )
    return Town(session, f"http://127.0.0.1:{client_port}", config.server_name)
