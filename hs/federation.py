"""Rooms shared with other servers put together. Part of the composition root."""

from collections.abc import Sequence
from dataclasses import dataclass

from hs.engine import Engine
from hs.federation_api.invites import InvitesApi
from hs.federation_api.memberships import MembershipsApi, RenderedState
from hs.federation_api.transactions import TransactionsApi
from hs.net.federation_client import FederationClient
from hs.net.room_client import RoomClient
from hs.rooms.build import Signer
from hs.rooms.checks import KeySource, PduChecker
from hs.rooms.clock import Clock
from hs.rooms.entrances import RoomEntrances
from hs.rooms.fetched_state import FetchedStates
from hs.rooms.gaps import GapFiller
from hs.rooms.handshakes import Handshakes
from hs.rooms.inbound import InboundTransactions, OnEdu
from hs.rooms.invites import InvitedUsers, NamingState, RemoteInviter
from hs.rooms.remote_rooms import RemoteRooms
from hs.rooms.resident import ResidentServer, RoomDoors
from hs.rooms.server_acls import ServerAcls
from hs.storage.database import Database
from hs.storage.outside import StrippedStateStore


@dataclass(frozen=True, slots=True)
class RoomFederation:
    """What other servers ask of our rooms, and how we get into theirs."""

    remote: RemoteRooms
    inbound: InboundTransactions
    doors: RoomDoors
    apis: Sequence[object]


def build_room_federation(
    engine: Engine,
    signer: Signer,
    clock: Clock,
    client: FederationClient,
    keys: KeySource,
    rendered: RenderedState,
    on_edu: OnEdu,
) -> RoomFederation:
    """Both directions; invites of other servers' users go out from now on."""
    rooms, checker = RoomClient(client), PduChecker(keys)
    naming, acls = NamingState(engine.states, engine.events), ServerAcls(engine.states, engine.events)
    states = FetchedStates(rooms, checker, engine.outliers, engine.outlier_store)
    inviter = RemoteInviter(engine.writer, rooms, checker, naming)
    engine.memberships.on_remote_invite(inviter.invite)
    engine.creator.on_remote_invite(inviter.invite)
    doors = RoomDoors(engine.rooms, engine.participation, acls)
    resident = ResidentServer(doors, engine.writer, checker, engine.restricted, signer)
    gaps = GapFiller(engine.writer, engine.heads, rooms, checker, states)
    inbound = InboundTransactions(engine.rooms, engine.participation, acls, checker, gaps, on_edu)
    handshakes = Handshakes(rooms, signer, clock)
    return RoomFederation(
        remote=RemoteRooms(handshakes, rooms, checker, states, engine.writer, engine.outside),
        inbound=inbound,
        doors=doors,
        apis=[
            TransactionsApi(inbound),
            MembershipsApi(resident, rendered, naming, signer.server_name),
            InvitesApi(InvitedUsers(checker, engine.participation, engine.outside, signer)),
        ],
    )


def build_entrances(
    engine: Engine, database: Database, server_name: str, remote: RemoteRooms | None
) -> RoomEntrances:
    """How our users get into rooms; `remote` is None where this server keeps to itself."""
    return RoomEntrances(
        engine.rooms,
        engine.memberships,
        engine.participation,
        engine.members,
        StrippedStateStore(database),
        server_name,
        remote,
    )
