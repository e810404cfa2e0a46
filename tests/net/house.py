"""What talks to other servers, put together on a database without the rest of the server."""

import time
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hs.config import PRIVATE_NETWORKS
from hs.matrix.keys import OldKey, signing_key_from_seed
from hs.net.addresses import AddressGuard
from hs.net.backoff import Backoff
from hs.net.client import HttpClient, make_tls_context
from hs.net.discovery import Discovery
from hs.net.federation_client import FederationClient
from hs.net.fetch_budget import FetchBudget
from hs.net.key_fetcher import KeyFetcher
from hs.net.notary import Notary
from hs.net.own_keys import OwnKeys
from hs.net.request_check import RequestCheck
from hs.net.resolver import Resolver
from hs.net.server_http import ServerHttp
from hs.net.server_keys import ServerKeys
from hs.net.targets import Target
from hs.net.well_known import WellKnown
from hs.storage.database import Database
from hs.storage.destinations import DestinationStore
from hs.storage.server_keys import ServerKeyStore
from tests.certificates import Authority
from tests.dns_server import DnsServer

HERE = "here.example"
KEY = signing_key_from_seed("here_1", b"\x07" * 32)


@dataclass
class Clock:
    """The real time and some more."""

    ahead_ms: int = 0

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead_ms

    def advance(self, seconds: float) -> None:
        self.ahead_ms += round(seconds * 1000)


class NotingFinder:
    """Finds servers as ever; `found` are the names that were asked for."""

    def __init__(self, discovery: Discovery) -> None:
        self._discovery = discovery
        self.found: list[str] = []

    async def find(self, server_name: str) -> Sequence[Target]:
        """Where it is."""
        self.found.append(server_name)
        return await self._discovery.find(server_name)

    def forget(self, server_name: str) -> None:
        """It may be elsewhere."""
        self._discovery.forget(server_name)


@dataclass
class NetHouse:
    """All of it; change fields and `build` again."""

    database: Database
    http: HttpClient
    finder: NotingFinder
    clock: Clock = field(default_factory=Clock)
    notaries: Collection[str] = ()
    old_keys: Sequence[OldKey] = ()
    heard: list[str] = field(default_factory=list)

    def build(self) -> "NetHouse":
        """With these settings, as after a restart."""
        now_ms = self.clock.now_ms
        self.server_http = ServerHttp(self.http, self.finder)
        self.own = OwnKeys(HERE, [KEY], self.old_keys, now_ms)
        self.store = ServerKeyStore(self.database)
        self.keys = ServerKeys(self.store, KeyFetcher(self.server_http, self.notaries), self.own, now_ms)
        self.budget = FetchBudget(now_ms)
        self.backoff = Backoff(DestinationStore(self.database), now_ms)
        self.client = FederationClient(self.server_http, self.own, self.backoff, now_ms)
        self.notary = Notary(self.keys, self.store, self.own, self.budget, now_ms)
        self.check = RequestCheck(HERE, self.keys, self.budget, now_ms, self.heard.append)
        return self

    def wanted(self, server_name: str, *key_ids: str, until_s: float = 0) -> dict[str, Any]:
        """These keys, good until some seconds from now."""
        return {server_name: dict.fromkeys(key_ids, self.clock.now_ms() + round(until_s * 1000))}


@pytest.fixture
async def house(database: Database, authority: Authority, tmp_path: Path) -> AsyncIterator[NetHouse]:
    """What talks to other servers; names that are no addresses do not exist."""
    clock = Clock()
    guard = AddressGuard(PRIVATE_NETWORKS, ("127.0.0.0/8",))
    async with DnsServer.start() as dns:
        resolver = Resolver(guard, clock.now_ms, [dns.address], tmp_path / "hosts")
        http = HttpClient(guard, resolver, make_tls_context(authority.ca_file))
        discovery = Discovery(WellKnown(http, clock.now_ms), resolver)
        made = NetHouse(database, http, NotingFinder(discovery), clock).build()
        yield made
        await made.keys.close()
        await discovery.close()
        await http.close()
