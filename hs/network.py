"""What talks to other servers, without rooms: keys, signed requests both ways, back-off. Part of the composition root."""

import resource
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from hs.config import Config
from hs.federation_api.keys import KeysApi
from hs.matrix.keys import OldKey
from hs.net.addresses import AddressGuard
from hs.net.backoff import Backoff
from hs.net.client import HttpClient, make_tls_context
from hs.net.connections import HttpLimits
from hs.net.discovery import Discovery
from hs.net.federation_client import FederationClient
from hs.net.fetch_budget import FetchBudget
from hs.net.key_fetcher import KeyFetcher
from hs.net.notary import Notary
from hs.net.own_keys import OwnKeys
from hs.net.request_check import RequestCheck
from hs.net.resolver import Resolver
from hs.net.server_http import Finder, Http, NoServers, ServerHttp
from hs.net.server_keys import ServerKeys
from hs.net.well_known import WellKnown
from hs.rooms.build import Signer
from hs.rooms.clock import Clock
from hs.storage.database import Database
from hs.storage.destinations import DestinationStore
from hs.storage.server_keys import ServerKeyStore

# Servers to which connections are kept for a while.
MAX_IDLE_HOSTS: Final = 2000


@dataclass(frozen=True, slots=True)
class Network:
    """Other servers, as the rest of the house knows them."""

    client: FederationClient
    # For all URLs outside.
    http: Http
    keys: ServerKeys
    backoff: Backoff
    # Of requests to us; None while federation is disabled: what is for other servers is not served then.
    check: RequestCheck | None
    # What strangers may have us ask of others.
    budget: FetchBudget
    apis: Sequence[object]


async def build_network(
    config: Config,
    database: Database,
    clock: Clock,
    signer: Signer,
    old_keys: Sequence[OldKey],
    stack: AsyncExitStack,
) -> Network:
    """Ready to use; `stack` ends what is under way."""
    now_ms = clock.now_ms
    own = OwnKeys(config.server_name, [signer.key], old_keys, now_ms)
    http, finder = _build_http(config, now_ms, stack)
    server_http = ServerHttp(http, finder)
    store = ServerKeyStore(database)
    notaries = [name for name in config.federation.trusted_key_servers if name != config.server_name]
    keys = ServerKeys(store, KeyFetcher(server_http, notaries), own, now_ms)
    stack.push_async_callback(keys.close)
    backoff = Backoff(DestinationStore(database), now_ms)
    await backoff.load()
    is_enabled = config.federation.enabled
    client = FederationClient(server_http, own, backoff, now_ms, is_enabled)
    budget = FetchBudget(now_ms, is_limited=config.rate_limits.enabled)
    if not is_enabled:
        return Network(client, http, keys, backoff, None, budget, ())
    check = RequestCheck(config.server_name, keys, budget, now_ms, backoff.woken)
    notary = Notary(keys, store, own, budget, now_ms)
    return Network(client, http, keys, backoff, check, budget, [KeysApi(own, notary)])


def _build_http(config: Config, now_ms: Callable[[], int], stack: AsyncExitStack) -> tuple[Http, Finder]:
    if not config.federation.enabled:
        nobody = NoServers()
        return nobody, nobody
    network, federation = config.network, config.federation
    guard = AddressGuard(network.ip_range_blacklist, network.ip_range_whitelist)
    resolver = Resolver(guard, now_ms, network.nameservers)
    # Of what the process may have open, others need some, too.
    max_open = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    limits = HttpLimits(
        max_connections=min(network.max_connections, max_open // 4),
        max_idle_hosts=min(MAX_IDLE_HOSTS, max_open // 8),
        max_connections_per_host=network.max_connections_per_host,
        connect_timeout_s=network.connect_timeout_s,
        idle_timeout_s=network.idle_connection_s,
    )
    http = HttpClient(guard, resolver, make_tls_context(federation.ca_file, federation.verify_tls), limits)
    stack.push_async_callback(http.close)
    discovery = Discovery(WellKnown(http, now_ms), resolver)
    stack.push_async_callback(discovery.close)
    return http, discovery
