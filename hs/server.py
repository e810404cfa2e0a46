"""The composition root: everything is made here, handed what it uses, and ended in the reverse order."""

import asyncio
import gc
import logging
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack

import uvloop
from prometheus_client import CollectorRegistry, Gauge

from hs.accounts.propagation import AccountRooms
from hs.config import Config, FederationConfig
from hs.engine import Engine, build_engine
from hs.federation import build_elsewhere, build_room_apis, build_room_federation
from hs.federation_api.well_known import WellKnownApi
from hs.federation_queries import build_query_apis
from hs.gates import ServerGate
from hs.http.app import make_durations
from hs.http.listeners import start_listener
from hs.http.rate_limit import Limit, RateLimiter
from hs.logs import set_up_logging
from hs.matrix.keys import OldKey
from hs.network import build_network
from hs.people import People, build_people
from hs.readers import Readers, build_readers
from hs.rooms.build import Signer
from hs.rooms.clock import Clock, SystemClock
from hs.rooms.inbound import InboundTransactions
from hs.sending import build_remote_edus, build_sending, start_sending
from hs.served import build_apis
from hs.signing_key import load_signing_keys
from hs.startup import prepared_database
from hs.storage.database import Database
from hs.storage.members import MemberStore
from hs.storage.receipts import load_receipt_stream
from hs.sync.news import Notifier
from hs.sync.user_rooms import UserRooms

logger = logging.getLogger(__name__)


def run(config: Config) -> None:
    """Serve until SIGINT or SIGTERM. Raises StorageError or OSError where the server cannot start."""
    set_up_logging(config.log)
    keys = load_signing_keys(config.signing_key, SystemClock().now_ms())
    with prepared_database(config) as url:
        uvloop.run(_serve(config, Signer(config.server_name, keys.current), keys.old, url))


async def _serve(config: Config, signer: Signer, old_keys: Sequence[OldKey], url: str) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with AsyncExitStack() as stack:
        await start(config, signer, url, stack, old_keys)
        _spare_garbage_collector()
        if config.registration.enabled:
            logger.warning("anybody who reaches this server may register an account")
        logger.info("hs serves %s", config.server_name)
        await stopped.wait()
        logger.info("stopping")


def _spare_garbage_collector() -> None:
    """Have it look at what is new, and less often.

    Nearly everything here is freed by its reference count, and what is kept is kept in caches of known
    size: walking through them for every few hundred new objects took a fifth of the time of busy syncs.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def start(
    config: Config,
    signer: Signer,
    url: str,
    stack: AsyncExitStack,
    old_keys: Sequence[OldKey] = (),
    clock: Clock | None = None,
) -> None:
    """A serving server, whose parts `stack` ends; without a clock it has the machine's."""
    clock = clock or SystemClock()
    database = await Database.connect(url, config.database.pool_size)
    stack.push_async_callback(database.close)
    network = await build_network(config, database, clock, signer, old_keys, stack)
    notifier = Notifier(UserRooms(MemberStore(database)))
    people = await build_people(config, database, clock, notifier.wake_user, stack)
    gate = ServerGate(config.server_name, config.federation.enabled)
    engine = await build_engine(database, signer, clock, people.profiles, gate, config.event_cache.size)
    stack.push_async_callback(engine.writer.close)
    stack.push_async_callback(engine.second_looks.close)
    stack.push_async_callback(engine.upgrader.close)
    people.account_data.on_rules(engine.judge.on_rules)
    federation = build_room_federation(engine, database, signer, clock, network)
    stack.push_async_callback(federation.backfiller.close)
    readers = build_readers(
        engine,
        database,
        clock,
        people.account_data,
        people.account_data_stream,
        await load_receipt_stream(database),
        notifier,
        config.presence,
        federation.backfiller if config.federation.enabled else None,
    )
    stack.callback(readers.typing.close)
    await readers.presence.load()
    stack.push_async_callback(readers.presence.close)
    stack.push_async_callback(readers.unread.close)
    stack.push_async_callback(readers.receipts.close)
    stack.push_async_callback(readers.sync.close)
    registry = CollectorRegistry()
    if config.federation.enabled:
        sending = build_sending(engine, database, clock, network, config.server_name)
        await start_sending(sending, engine, readers, registry, stack)
    limiter = _make_limiter(config, people)
    account_rooms = AccountRooms(
        people.profile_store,
        people.profiles,
        readers.members,
        engine.rooms,
        engine.events,
        engine.memberships,
    )
    stack.push_async_callback(account_rooms.close)
    client = network.client if config.federation.enabled else None
    elsewhere = build_elsewhere(engine, database, config.server_name, federation, client)
    stack.push_async_callback(elsewhere.entrances.close)
    apis = build_apis(
        config, database, clock, gate, limiter, people, engine, readers, account_rooms, elsewhere
    )
    edus = build_remote_edus(engine, readers, database, federation.acls)
    inbound, room_apis = build_room_apis(
        engine,
        database,
        signer,
        clock,
        federation,
        network.budget,
        edus.on_edu,
        config.federation.gap_patience_s,
    )
    stack.push_async_callback(inbound.close)
    if config.federation.enabled:
        await inbound.resume()
        engine.second_looks.resume()
    served: dict[str, list[object]] = {
        "client": [*apis["client"], *_build_delegation(config.federation)],
        "admin": [*apis["admin"]],
        "federation": [],
    }
    if config.federation.enabled:
        queries = build_query_apis(engine, database, people, clock, federation.doors, config.server_name)
        served["federation"] += [*network.apis, *room_apis, *queries]
    _export_metrics(engine, readers, inbound, registry)
    durations = make_durations(registry)
    for listener in config.listeners:
        runner = await start_listener(
            listener, served, people.tokens, limiter, registry, durations, network.check
        )
        stack.push_async_callback(runner.cleanup)
    await account_rooms.resume()


def _build_delegation(federation: FederationConfig) -> list[object]:
    """Served where clients are: that is where the address without a port leads to."""
    return [WellKnownApi(federation.delegated_to)] if federation.enabled else []


def _make_limiter(config: Config, people: People) -> RateLimiter:
    def limit_of(bucket: str) -> Limit:
        found = config.rate_limits.bucket(bucket)
        return Limit(found.per_second, found.burst)

    return RateLimiter(config.rate_limits.enabled, limit_of, people.overrides)


def _export_metrics(
    engine: Engine, readers: Readers, inbound: InboundTransactions, registry: CollectorRegistry
) -> None:
    """Gauges that are read when somebody asks."""
    cache = engine.event_cache
    for name, text, read in (
        ("hs_event_cache_hit_ratio", "Share of events found in the event cache.", lambda: cache.hit_ratio),
        ("hs_event_cache_bytes", "Bytes of the event cache.", lambda: cache.nbytes),
        ("hs_long_polls", "Syncs that wait for news.", lambda: len(readers.notifier)),
        (
            "hs_inbound_staged",
            "Events of other servers that wait for what is before them.",
            lambda: inbound.staged,
        ),
        ("hs_room_stream", "Newest stream ordering that readers see.", lambda: engine.stream.current),
    ):
        gauge = Gauge(name, text, registry=registry)
        gauge.set_function(read)
