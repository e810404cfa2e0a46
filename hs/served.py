"""Which API objects are served, by API name. Part of the composition root."""

import time
from collections.abc import Mapping, Sequence

from hs.accounts.account_data import AccountData
from hs.accounts.devices import Devices
from hs.accounts.login_tokens import LoginTokens
from hs.accounts.management import AccountManagement
from hs.accounts.moderation import Moderation
from hs.accounts.openid import OpenIdTokens
from hs.accounts.propagation import AccountRooms
from hs.accounts.push_rules import UserPushRules
from hs.accounts.remote_profiles import RemoteProfiles
from hs.accounts.room_moves import RoomMoves
from hs.admin_api.register import RegisterApi
from hs.client_api.account import AccountApi
from hs.client_api.account_data import AccountDataApi
from hs.client_api.devices import DevicesApi
from hs.client_api.directory import DirectoryApi
from hs.client_api.events_read import EventsReadApi
from hs.client_api.filters import FiltersApi
from hs.client_api.login import LoginApi
from hs.client_api.member_events import MemberEvents
from hs.client_api.membership import MembershipApi
from hs.client_api.messages import MessagesApi
from hs.client_api.moderation import ModerationApi
from hs.client_api.notifications import NotificationsApi
from hs.client_api.old_sync import OldSyncApi
from hs.client_api.openid import OpenIdApi
from hs.client_api.presence import PresenceApi
from hs.client_api.profile import ProfileApi
from hs.client_api.push_rules import PushRulesApi
from hs.client_api.receipts import ReceiptsApi
from hs.client_api.registration import RegistrationApi
from hs.client_api.relations import RelationsApi
from hs.client_api.reports import ReportsApi
from hs.client_api.rooms import RoomsApi
from hs.client_api.send import SendApi
from hs.client_api.small_answers import SmallAnswersApi
from hs.client_api.spaces import SpacesApi
from hs.client_api.sync import SyncApi
from hs.client_api.tags import TagsApi
from hs.client_api.timestamps import TimestampsApi
from hs.client_api.typing import TypingApi
from hs.client_api.upgrade import UpgradeApi
from hs.client_api.versions import CapabilitiesApi, VersionsApi, render_support
from hs.config import Config
from hs.directory.aliases import AliasDirectory, RoomFacts
from hs.directory.overviews import RoomOverviews
from hs.directory.public_rooms import PublicRooms
from hs.directory.remote_aliases import RemoteAliases
from hs.directory.remote_lists import RemoteLists
from hs.directory.remote_spaces import RemoteSpaces
from hs.directory.spaces import SpaceTrees
from hs.directory.tree_rooms import TreeRooms
from hs.engine import Engine
from hs.federation import Elsewhere
from hs.http.rate_limit import RateLimiter
from hs.net.federation_client import FederationClient
from hs.net.fetch_budget import FetchBudget
from hs.people import People
from hs.readers import Readers
from hs.rooms.annotations import Annotations
from hs.rooms.clock import Clock
from hs.rooms.create import InviteGate
from hs.storage.aliases import DirectoryStore
from hs.storage.annotations import AnnotationStore
from hs.storage.database import Database
from hs.storage.event_stream import EventStreamStore
from hs.storage.memberships import MembershipStore
from hs.storage.openid_tokens import OpenIdTokenStore
from hs.storage.overviews import OverviewStore
from hs.storage.reports import ReportStore
from hs.storage.timestamps import TimestampStore
from hs.sync.far_timestamps import AllEventsByTime
from hs.sync.timestamps import EventsByTime


def build_apis(
    config: Config,
    database: Database,
    clock: Clock,
    gate: InviteGate,
    limiter: RateLimiter,
    people: People,
    engine: Engine,
    readers: Readers,
    account_rooms: AccountRooms,
    elsewhere: Elsewhere,
) -> Mapping[str, Sequence[object]]:
    """The API objects of "client" and "admin"."""
    return {
        "client": [
            *_account_apis(config, limiter, people, account_rooms, elsewhere.client),
            OpenIdApi(OpenIdTokens(OpenIdTokenStore(database), clock), config.server_name),
            ReportsApi(
                ReportStore(database),
                people.users,
                engine.rooms,
                readers.access,
                engine.events,
                clock,
                config.server_name,
            ),
            *_room_apis(config, database, clock, gate, people, engine, readers, elsewhere),
        ],
        "admin": [RegisterApi(people.registration, people.login, limiter, config.registration.shared_secret)],
    }


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def _account_apis(
    config: Config,
    limiter: RateLimiter,
    people: People,
    account_rooms: AccountRooms,
    client: FederationClient | None,
) -> list[object]:
    management = AccountManagement(
        people.users, people.passwords, people.tokens, people.profiles, account_rooms.tell_rooms
    )
    base_url, support = config.public_base_url.rstrip("/"), config.support
    contacts = [
        ("m.role.admin", support.admin_matrix_id, support.admin_email),
        ("m.role.security", support.security_matrix_id, support.security_email),
    ]
    return [
        VersionsApi(base_url, render_support(support.page, contacts)),
        CapabilitiesApi(),
        LoginApi(people.login, LoginTokens(people.login), people.auth, people.tokens, limiter, base_url),
        RegistrationApi(people.registration, people.login, people.auth, config.registration.enabled),
        AccountApi(management, people.auth),
        DevicesApi(Devices(people.users, people.tokens), people.auth),
        ModerationApi(Moderation(people.users, people.tokens, config.server_name)),
        ProfileApi(
            people.profiles,
            account_rooms.tell_rooms,
            RemoteProfiles(client) if client else None,
            FetchBudget(_now_ms, is_limited=config.rate_limits.enabled),
        ),
        AccountDataApi(AccountData(people.account_data)),
        TagsApi(AccountData(people.account_data)),
        PushRulesApi(UserPushRules(people.account_data)),
        FiltersApi(people.filters),
        SmallAnswersApi(),
    ]


def _room_apis(
    config: Config,
    database: Database,
    clock: Clock,
    gate: InviteGate,
    people: People,
    engine: Engine,
    readers: Readers,
    elsewhere: Elsewhere,
) -> list[object]:
    members, directory_store = MembershipStore(database), DirectoryStore(database)
    facts = RoomFacts(engine.states, engine.events, members)
    overview_store = OverviewStore(database)
    overviews = RoomOverviews(overview_store, engine.rooms, engine.events)
    client = elsewhere.client
    remote_aliases = RemoteAliases(client) if client else None
    remote_spaces = RemoteSpaces(client) if client else None
    tree_rooms = TreeRooms(overviews, overview_store, engine.participation, remote_spaces)
    directory = AliasDirectory(
        directory_store, engine.rooms, facts, engine.writer, clock, config.server_name, remote_aliases
    )
    moves = RoomMoves(people.account_data, engine.states, engine.events)
    engine.memberships.on_joined(moves.carry_over)
    return [
        RoomsApi(engine.creator, directory),
        UpgradeApi(engine.rooms, engine.upgrader, moves),
        MembershipApi(
            engine.rooms, engine.memberships, elsewhere.entrances, elsewhere.third_party, directory, gate
        ),
        SendApi(
            engine.rooms,
            engine.writer,
            MemberEvents(engine.memberships, members, gate),
            directory,
            Annotations(AnnotationStore(database), engine.events),
            engine.events,
            config.server_name,
        ),
        DirectoryApi(
            engine.rooms,
            directory,
            PublicRooms(directory_store, engine.rooms, engine.events),
            config.server_name,
            RemoteLists(client) if client else None,
        ),
        MessagesApi(engine.rooms, readers.access, readers.pagination),
        RelationsApi(engine.rooms, readers.access, readers.relations),
        SpacesApi(directory, tree_rooms, SpaceTrees(tree_rooms), overview_store),
        EventsReadApi(
            engine.rooms, readers.access, readers.room_reader, readers.pagination, readers.user_rooms
        ),
        TimestampsApi(
            engine.rooms,
            readers.access,
            AllEventsByTime(
                EventsByTime(TimestampStore(database), engine.events, readers.visibility),
                elsewhere.far_events,
            ),
        ),
        SyncApi(readers.sync, people.filters),
        TypingApi(engine.rooms, readers.access, readers.typing, readers.presence.active),
        PresenceApi(readers.presence),
        NotificationsApi(readers.notifications),
        ReceiptsApi(engine.rooms, readers.access, readers.receipts, AccountData(people.account_data)),
        OldSyncApi(
            engine.rooms,
            readers.access,
            readers.old_sync,
            readers.event_stream,
            EventStreamStore(database),
            readers.pagination,
            readers.presence,
        ),
    ]
