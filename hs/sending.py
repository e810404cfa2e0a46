"""What is pushed to other servers, put together. Part of the composition root."""

from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Gauge

from hs.engine import Engine
from hs.network import Network
from hs.outbound.catch_up import CatchUp
from hs.outbound.deliveries import Deliveries
from hs.outbound.ephemeral import EphemeralSender
from hs.outbound.progress import SendProgress
from hs.outbound.queues import ServerQueue
from hs.outbound.room_servers import RoomServers
from hs.outbound.sender import FederationSender
from hs.outbound.stored_edus import StoredEdus
from hs.readers import Readers
from hs.rooms.clock import Clock
from hs.rooms.server_acls import ServerAcls
from hs.storage.database import Database
from hs.storage.memberships import MembershipStore
from hs.storage.outbound import OutboundStore
from hs.storage.outbound_edus import OutboundEduStore
from hs.sync.remote_edus import RemoteEdus


@dataclass(frozen=True, slots=True)
class Sending:
    """What sends, and what tells of it."""

    sender: FederationSender
    ephemeral: EphemeralSender
    # For EDUs that must arrive: `add` is what their makers are given.
    stored_edus: StoredEdus
    deliveries: Deliveries
    progress: SendProgress


def build_sending(
    engine: Engine, database: Database, clock: Clock, network: Network, server_name: str
) -> Sending:
    """Sends from its `start` on."""
    store = OutboundStore(database, server_name)
    room_servers = RoomServers(store, server_name)

    def list_queues() -> Iterable[ServerQueue]:
        return deliveries.queues

    progress = SendProgress(store, list_queues)
    catch_up = CatchUp(store, engine.events, progress)
    stored_edus = StoredEdus(OutboundEduStore(database), server_name)
    deliveries = Deliveries(network.client, network.backoff, clock, progress, catch_up, stored_edus)
    sender = FederationSender(room_servers, engine.heads, engine.events, progress, deliveries, server_name)
    ephemeral = EphemeralSender(deliveries, room_servers, engine.rooms, sender.settle, server_name)
    return Sending(sender, ephemeral, stored_edus, deliveries, progress)


async def start_sending(
    sending: Sending, engine: Engine, readers: Readers, registry: CollectorRegistry, stack: AsyncExitStack
) -> None:
    """From here on what happens is sent, and what is of the moment, too; `stack` ends that."""
    engine.committer.on_commit(sending.sender.on_commit)
    await sending.stored_edus.load()
    await sending.sender.start(engine.stream.current)
    stack.push_async_callback(sending.sender.close)
    stack.push_async_callback(sending.ephemeral.close)
    readers.typing.on_typing(sending.ephemeral.on_typing)
    readers.presence.on_told(sending.ephemeral.on_presence)
    readers.presence.on_new_server(sending.ephemeral.on_new_server)
    readers.receipts.on_receipts(sending.ephemeral.on_receipts)
    for name, text, read in (
        (
            "hs_outbound_servers",
            "Servers that something is sent to now.",
            lambda: sending.deliveries.counts[0],
        ),
        ("hs_outbound_events", "Events in the queues of servers.", lambda: sending.deliveries.counts[1]),
        ("hs_outbound_transactions", "Transactions under way.", lambda: sending.deliveries.counts[2]),
        ("hs_outbound_behind", "Servers that are to catch up.", lambda: len(sending.progress.behind)),
    ):
        Gauge(name, text, registry=registry).set_function(read)


def build_remote_edus(engine: Engine, readers: Readers, database: Database, acls: ServerAcls) -> RemoteEdus:
    """Takes in what other servers say of the moment."""
    return RemoteEdus(
        engine.rooms, MembershipStore(database), acls, readers.typing, readers.receipts, readers.presence
    )
