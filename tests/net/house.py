"""What talks to other servers, put together on a database without the rest of the server."""

import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from yarl import URL

from hs.matrix.keys import OldKey, signing_key_from_seed
from hs.net.backoff import Backoff
from hs.net.errors import TimedOut, TooLong, Unreachable
from hs.net.federation_client import FederationClient
from hs.net.fetch_budget import FetchBudget
from hs.net.key_fetcher import KeyFetcher
from hs.net.notary import Notary
from hs.net.own_keys import OwnKeys
from hs.net.request_check import RequestCheck
from hs.net.server_http import ServerHttp
from hs.net.server_keys import ServerKeys
from hs.storage.database import Database
from hs.storage.destinations import DestinationStore
from hs.storage.server_keys import ServerKeyStore
from tests.certificates import Authority

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


@dataclass(frozen=True)
class PlainAnswer:
    """Status and body."""

    status: int
    body: bytes


class PlainHttp:
    """Requests over HTTPS to servers whose names are addresses; others do not exist."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self.found: list[str] = []

    async def find(self, server_name: str) -> Sequence[str]:
        """The name itself."""
        self.found.append(server_name)
        if not server_name.startswith("127.0.0.1:"):
            raise Unreachable(f"{server_name} does not exist")
        return [server_name]

    def forget(self, server_name: str) -> None:
        """Nothing is remembered."""

    async def request(
        self,
        method: str,
        target_or_url: str,
        *,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None,
        max_bytes: int,
        timeout_s: float,
    ) -> PlainAnswer:
        """One request."""
        url = URL(f"https://{target_or_url}{path}", encoded=True)
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with self._session.request(
                method, url, headers=headers, data=body, timeout=timeout, allow_redirects=False
            ) as response:
                data = b""
                async for chunk in response.content.iter_any():
                    data += chunk
                    if len(data) > max_bytes:
                        raise TooLong("too long")
                return PlainAnswer(response.status, data)
        except TimeoutError as error:
            raise TimedOut("too slow") from error
        except aiohttp.ClientError as error:
            raise Unreachable(str(error)) from error


@dataclass
class NetHouse:
    """All of it; change fields and `build` again."""

    database: Database
    http: PlainHttp
    clock: Clock = field(default_factory=Clock)
    notaries: Collection[str] = ()
    old_keys: Sequence[OldKey] = ()
    heard: list[str] = field(default_factory=list)

    def build(self) -> "NetHouse":
        """With these settings, as after a restart."""
        now_ms = self.clock.now_ms
        self.server_http = ServerHttp(self.http, self.http)
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
async def house(database: Database, authority: Authority) -> AsyncIterator[NetHouse]:
    """What talks to other servers."""
    connector = aiohttp.TCPConnector(ssl=authority.client_context())
    async with aiohttp.ClientSession(connector=connector) as session:
        made = NetHouse(database, PlainHttp(session)).build()
        yield made
        await made.keys.close()
