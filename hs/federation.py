"""Rooms shared with other servers put together. Part of the composition root."""

from collections.abc import Sequence
from dataclasses import dataclass

from hs.engine import Engine
from hs.federation_api.invites import InvitesApi
from hs.federation_api.memberships import MembershipsApi
from hs.federation_api.third_party_invites import ThirdPartyInvitesApi
from hs.federation_api.transactions import TransactionsApi
from hs.net.federation_client import FederationClient
from hs.net.fetch_budget import FetchBudget
from hs.net.key_validity import KeyValidity
from hs.net.room_client import RoomClient
from hs.network import Network
from hs.rooms.admissions import PastAdmissions
from hs.rooms.backfill import Backfiller, HistorySource
from hs.rooms.build import Signer
from hs.rooms.checks import PduChecker
from hs.rooms.clock import Clock
from hs.rooms.early_events import EarlyEvents
from hs.rooms.entrances import RoomEntrances
from hs.rooms.far_events import FarEventsByTime
from hs.rooms.fetched_state import FetchedStates
from hs.rooms.gaps import GapFiller
from hs.rooms.handshakes import Handshakes
from hs.rooms.history_access import HistoryAccess
from hs.rooms.inbound import InboundRooms, InboundTransactions, OnEdu
from hs.rooms.inferred_states import InferredStates
from hs.rooms.invites import InvitedUsers, Inviter
from hs.rooms.naming import NamingState
from hs.rooms.other_servers import OtherServers
from hs.rooms.pull_attempts import PullAttempts
from hs.rooms.remote_rooms import RemoteRooms
from hs.rooms.resident import ResidentServer, RoomDoors
from hs.rooms.server_acls import ServerAcls
from hs.rooms.staging import EventStaging
from hs.rooms.third_party_invites import PendingInvites, ThirdPartyInvites
from hs.rooms.whole_imports import WholeImports
from hs.rooms.whole_states import WholeStates
from hs.storage.arrivals import ArrivalStore
from hs.storage.backfill import BackfillStore
from hs.storage.database import Database
from hs.storage.early_events import EarlyEventStore
from hs.storage.history import PduStore
from hs.storage.outside import StrippedStateStore
from hs.storage.staged_events import StagedEventStore
from hs.storage.users import UserStore


@dataclass(frozen=True, slots=True)
class RoomFederation:
    """How rooms come from other servers to us; what they ask of ours is served by `build_room_apis`."""

    client: RoomClient
    checker: PduChecker
    states: FetchedStates
    naming: NamingState
    doors: RoomDoors
    acls: ServerAcls
    backfiller: Backfiller
    attempts: BackfillStore
    others: OtherServers
    remote: RemoteRooms
    early: EarlyEvents
    third_party: ThirdPartyInvites


def build_room_federation(
    engine: Engine, database: Database, signer: Signer, clock: Clock, network: Network
) -> RoomFederation:
    """Ready to use; invites of other servers' users go out from now on."""
    rooms, checker = RoomClient(network.client), PduChecker(network.keys)
    naming, acls = NamingState(engine.states, engine.events), ServerAcls(engine.states, engine.events)
    states = FetchedStates(rooms, checker, engine.outliers, engine.outlier_store)
    inviter = Inviter(engine.writer, rooms, checker, naming, signer.server_name)
    engine.memberships.on_remote_invite(inviter.invite)
    engine.creator.on_remote_invite(inviter.invite)
    store = BackfillStore(database)
    others = OtherServers(engine.members, signer.server_name)
    backfiller = Backfiller(
        engine.writer,
        store,
        ArrivalStore(database),
        HistorySource(rooms, checker, states, InferredStates(store, engine.events, engine.states), others),
        HistoryAccess(engine.states, engine.events, store),
        clock,
        signer.server_name,
    )
    engine.committer.on_commit(backfiller.on_commit)
    handshakes = Handshakes(rooms, signer, clock)
    early = EarlyEvents(EarlyEventStore(database))
    pending = PendingInvites(engine.states, engine.events, KeyValidity(network.http))
    return RoomFederation(
        client=rooms,
        checker=checker,
        states=states,
        naming=naming,
        doors=RoomDoors(engine.rooms, engine.participation, acls),
        acls=acls,
        backfiller=backfiller,
        attempts=store,
        others=others,
        remote=RemoteRooms(
            handshakes,
            rooms,
            checker,
            WholeImports(checker, engine.outliers, engine.outlier_store),
            engine.writer,
            engine.outside,
            early,
        ),
        early=early,
        third_party=ThirdPartyInvites(
            engine.rooms, engine.participation, engine.members, pending, inviter, rooms, signer.server_name
        ),
    )


def build_room_apis(
    engine: Engine,
    database: Database,
    signer: Signer,
    clock: Clock,
    federation: RoomFederation,
    budget: FetchBudget,
    on_edu: OnEdu,
    patience_s: float,
) -> tuple[InboundTransactions, Sequence[object]]:
    """What other servers ask of our rooms; transactions are to be resumed and closed.

    `patience_s`: how long a transaction waits for what is before its events.
    """
    checker = federation.checker
    past = PastAdmissions(engine.states, engine.events, engine.members)
    resident = ResidentServer(federation.doors, engine.writer, checker, engine.restricted, past, signer)
    gaps = GapFiller(
        engine.writer,
        engine.heads,
        federation.client,
        checker,
        federation.states,
        federation.backfiller,
        PullAttempts(federation.attempts, clock),
    )
    staging = EventStaging(
        gaps,
        StagedEventStore(database),
        engine.rooms,
        engine.participation,
        federation.others,
        clock,
        patience_s,
    )
    inbound_rooms = InboundRooms(
        engine.rooms,
        engine.participation,
        federation.acls,
        checker,
        staging,
        engine.outside,
        federation.early,
    )
    inbound = InboundTransactions(inbound_rooms, on_edu)
    whole = WholeStates(engine.states, PduStore(database), engine.graphs)
    return inbound, [
        TransactionsApi(inbound),
        MembershipsApi(resident, whole, federation.naming, signer.server_name),
        InvitesApi(
            InvitedUsers(
                checker,
                engine.participation,
                federation.acls,
                engine.outside,
                UserStore(database),
                signer,
            )
        ),
        ThirdPartyInvitesApi(federation.doors, federation.third_party, budget, signer.server_name),
    ]


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Other servers, as the client API asks for them; None where this server keeps to itself."""

    entrances: RoomEntrances
    third_party: ThirdPartyInvites
    client: FederationClient | None
    far_events: FarEventsByTime | None


def build_elsewhere(
    engine: Engine,
    database: Database,
    server_name: str,
    federation: RoomFederation,
    client: FederationClient | None,
) -> Elsewhere:
    """`client` is None where this server keeps to itself."""
    entrances = RoomEntrances(
        engine.rooms,
        engine.memberships,
        engine.participation,
        engine.members,
        StrippedStateStore(database),
        server_name,
        federation.remote if client else None,
    )
    far_events = FarEventsByTime(
        federation.client, federation.backfiller, federation.attempts, federation.others
    )
    return Elsewhere(entrances, federation.third_party, client, far_events if client else None)
