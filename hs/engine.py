"""The room engine put together: storage, caches and the one writer of rooms.

Part of the composition root; `hs.server` adds people, endpoints and listeners on top.
"""

from dataclasses import dataclass

from hs._fast.state_tree import NodeStore
from hs.matrix.tokens import RoomToken
from hs.rooms.arrivals import ArrivalPlacer
from hs.rooms.auth_graphs import AuthGraphs
from hs.rooms.build import EventBuilder, Numbers, Signer
from hs.rooms.clock import Clock
from hs.rooms.commit import Committer
from hs.rooms.create import InviteGate, RoomCreator
from hs.rooms.head import RoomHeads
from hs.rooms.lane import Lanes
from hs.rooms.membership import ProfileSource, RoomMemberships
from hs.rooms.notifications import PushJudge
from hs.rooms.outliers import OutlierImporter
from hs.rooms.outside import OutsideMemberships, OutsideRooms
from hs.rooms.participation import Participation
from hs.rooms.resolve import StateResolver
from hs.rooms.restricted import RestrictedJoins
from hs.rooms.second_looks import SecondLooks
from hs.rooms.stage_reader import StageReader
from hs.rooms.state import RoomStates
from hs.rooms.upgrade import OldRooms, RoomUpgrader
from hs.rooms.writer import RoomWriter
from hs.storage.aliases import DirectoryStore
from hs.storage.arrivals import ArrivalStore
from hs.storage.auth_records import AuthRecordStore
from hs.storage.database import Database
from hs.storage.event_cache import EventCache
from hs.storage.events import EventStore, RecordLoader
from hs.storage.members import MemberStore
from hs.storage.memberships import MembershipStore
from hs.storage.notifications import NotificationStore
from hs.storage.outliers import OutlierStore
from hs.storage.outside import StrippedStateStore
from hs.storage.room_heads import HeadStore
from hs.storage.rooms import RoomStore
from hs.storage.second_looks import SecondLookStore
from hs.storage.state import StateStore
from hs.storage.streams import NidAllocator, StreamIds, load_event_streams
from hs.storage.timeline import TimelineStore

# A node of a state tree is about 300 bytes: enough for the trees of dozens of the largest rooms.
STATE_NODE_CACHE_BYTES = 128 * 2**20


@dataclass(frozen=True, slots=True)
class Engine:
    """What the upper floors are given of the room engine."""

    rooms: RoomStore
    room_nids: NidAllocator
    graphs: AuthGraphs
    outliers: OutlierImporter
    outlier_store: OutlierStore
    outside: OutsideRooms
    restricted: RestrictedJoins
    members: MembershipStore
    participation: Participation
    heads: HeadStore
    events: EventStore
    event_cache: EventCache
    states: RoomStates
    stream: StreamIds
    writer: RoomWriter
    second_looks: SecondLooks
    committer: Committer
    judge: PushJudge
    creator: RoomCreator
    memberships: RoomMemberships
    upgrader: RoomUpgrader

    def room_token(self) -> RoomToken:
        """The token of a client that has seen all that is committed now."""
        return RoomToken(self.stream.current)


async def build_engine(
    database: Database,
    signer: Signer,
    clock: Clock,
    profiles: ProfileSource,
    gate: InviteGate,
    event_cache_bytes: int,
) -> Engine:
    """The engine over a migrated database."""
    cache = EventCache(RecordLoader(database).load, event_cache_bytes)
    events = EventStore(database, cache)
    auth_records = AuthRecordStore(database)
    states = RoomStates(
        StateStore(database), NodeStore(STATE_NODE_CACHE_BYTES), NidAllocator(database, "state_node_ids")
    )
    streams = await load_event_streams(database)
    head_store = HeadStore(database)
    heads = RoomHeads(head_store, states)
    reader = StageReader(states, auth_records)
    graphs = AuthGraphs(auth_records)
    resolver = StateResolver(states, auth_records, graphs)
    numbers = Numbers(NidAllocator(database, "event_nids"), NidAllocator(database, "room_nids"))
    builder = EventBuilder(signer, clock, states, resolver, reader, events, numbers)
    arrival_store = ArrivalStore(database)
    placer = ArrivalPlacer(arrival_store, states, resolver, reader, auth_records, numbers.events)
    judge = PushJudge(NotificationStore(database), states, events, signer.server_name)
    committer = Committer(database, streams, states, heads, events, auth_records, judge)
    members = MembershipStore(database)
    restricted = RestrictedJoins(states, events, members)
    lanes = Lanes()
    writer = RoomWriter(lanes, heads, head_store, builder, placer, committer)
    rooms, creator = RoomStore(database), RoomCreator(writer, profiles, gate, signer.server_name)
    old_rooms = OldRooms(states, events, MemberStore(database), TimelineStore(database))
    participation = Participation(members)
    committer.on_commit(participation.on_commit)
    second_looks = SecondLooks(writer, rooms, SecondLookStore(database), signer.server_name)
    committer.on_commit(second_looks.on_commit)
    outlier_store = OutlierStore(database)
    return Engine(
        rooms=rooms,
        room_nids=numbers.rooms,
        graphs=graphs,
        outliers=OutlierImporter(lanes, arrival_store, outlier_store, auth_records, numbers.events),
        outlier_store=outlier_store,
        outside=OutsideRooms(
            lanes,
            rooms,
            arrival_store,
            committer,
            OutsideMemberships(members, StrippedStateStore(database)),
            numbers,
        ),
        restricted=restricted,
        members=members,
        participation=participation,
        heads=head_store,
        events=events,
        event_cache=cache,
        states=states,
        stream=streams.live,
        writer=writer,
        second_looks=second_looks,
        committer=committer,
        judge=judge,
        creator=creator,
        memberships=RoomMemberships(writer, states, events, members, profiles, restricted),
        upgrader=RoomUpgrader(rooms, old_rooms, creator, writer, DirectoryStore(database)),
    )
