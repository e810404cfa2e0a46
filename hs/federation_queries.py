"""What other servers ask of us without changing anything, put together. Part of the composition root."""

from collections.abc import Sequence

from hs.accounts.openid import OpenIdTokens
from hs.directory.aliases import AliasDirectory, RoomFacts
from hs.directory.overviews import RoomOverviews
from hs.directory.public_rooms import PublicRooms
from hs.directory.server_spaces import ServerSpaces
from hs.engine import Engine
from hs.federation_api.events import EventsApi
from hs.federation_api.openid import OpenIdApi
from hs.federation_api.public_rooms import PublicRoomsApi
from hs.federation_api.queries import QueriesApi
from hs.federation_api.spaces import SpacesApi
from hs.federation_api.state import StateApi
from hs.federation_api.timestamps import TimestampsApi
from hs.federation_api.version import VersionApi
from hs.people import People
from hs.rooms.clock import Clock
from hs.rooms.resident import RoomDoors
from hs.rooms.whole_states import WholeStates
from hs.storage.aliases import DirectoryStore
from hs.storage.database import Database
from hs.storage.history import HistoryStore, PduStore
from hs.storage.openid_tokens import OpenIdTokenStore
from hs.storage.overviews import OverviewStore
from hs.storage.timestamps import TimestampStore
from hs.sync.server_access import ServerAccess
from hs.sync.server_history import ServerHistory
from hs.sync.server_states import ServerStates
from hs.sync.server_visibility import ServerVisibility
from hs.sync.timestamps import EventsByTime


def build_query_apis(
    engine: Engine, database: Database, people: People, clock: Clock, doors: RoomDoors, server_name: str
) -> Sequence[object]:
    """The read side of the server-server API."""
    store, pdus = HistoryStore(database), PduStore(database)
    visibility = ServerVisibility(engine.states, engine.events, store)
    access = ServerAccess(doors, engine.rooms, engine.events, visibility, store)
    history = ServerHistory(access, visibility, engine.events, store, pdus)
    whole = WholeStates(engine.states, pdus, engine.graphs)
    return [
        EventsApi(history, clock, server_name),
        StateApi(ServerStates(access, engine.states, whole, engine.events, store)),
        TimestampsApi(access, EventsByTime(TimestampStore(database), engine.events, visibility)),
        *_directory_apis(engine, database, people, clock, doors, store, server_name),
        OpenIdApi(OpenIdTokens(OpenIdTokenStore(database), clock)),
        VersionApi(),
    ]


def _directory_apis(
    engine: Engine,
    database: Database,
    people: People,
    clock: Clock,
    doors: RoomDoors,
    store: HistoryStore,
    server_name: str,
) -> list[object]:
    directory_store, overview_store = DirectoryStore(database), OverviewStore(database)
    facts = RoomFacts(engine.states, engine.events, engine.members)
    directory = AliasDirectory(directory_store, engine.rooms, facts, engine.writer, clock, server_name)
    overviews = RoomOverviews(overview_store, engine.rooms, engine.events)
    return [
        PublicRoomsApi(PublicRooms(directory_store, engine.rooms, engine.events)),
        SpacesApi(doors, ServerSpaces(overviews, overview_store, store, engine.participation)),
        QueriesApi(people.profiles, directory, engine.members, server_name),
    ]
