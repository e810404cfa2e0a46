"""The read side put together. Part of the composition root."""

from dataclasses import dataclass

from hs.config import PresenceConfig
from hs.engine import Engine
from hs.matrix.tokens import StreamToken
from hs.rooms.clock import Clock
from hs.storage.aliases import DirectoryStore
from hs.storage.database import Database
from hs.storage.event_stream import EventStreamStore
from hs.storage.members import MemberStore
from hs.storage.notifications import NotificationStore
from hs.storage.notified import NotifiedStore
from hs.storage.outside import StrippedStateStore
from hs.storage.presence import PresenceStore
from hs.storage.receipts import ReceiptStore
from hs.storage.relations import RelationStore
from hs.storage.streams import StreamIds
from hs.storage.timeline import TimelineStore
from hs.storage.user_data import AccountDataStore
from hs.sync.access import RoomAccess
from hs.sync.account_data import AccountDataEvents
from hs.sync.aggregations import Aggregations
from hs.sync.client_events import ClientEvents
from hs.sync.event_lists import EventLists
from hs.sync.event_stream import EventStream, RoomWaiters, StreamPages
from hs.sync.far_history import FarHistory, OldHistory
from hs.sync.ignored_users import IgnoredUsers
from hs.sync.invites import InviteSections
from hs.sync.member_lists import MemberLists
from hs.sync.news import Notifier, RoomNews
from hs.sync.notified import Notifications
from hs.sync.old_sync import OldSync, RoomSnapshots
from hs.sync.pagination import Pagination
from hs.sync.places import Places
from hs.sync.presence import Presence
from hs.sync.receipt_writer import ReceiptWriter
from hs.sync.receipts import Receipts
from hs.sync.relation_summaries import RelationSummaries
from hs.sync.relations import Relations
from hs.sync.room_extras import RoomExtras
from hs.sync.room_reader import RoomReader
from hs.sync.room_section import RoomSections
from hs.sync.room_timeline import RoomTimelines
from hs.sync.sync_rooms import SyncRooms
from hs.sync.sync_v2 import SyncV2
from hs.sync.typing import Typing
from hs.sync.unread import UnreadCounts
from hs.sync.user_rooms import UserRooms
from hs.sync.visibility import Visibility
from hs.sync.wanted_events import WantedEvents
from hs.sync.window import RoomReads


@dataclass(frozen=True, slots=True)
class Readers:
    """What endpoints read from."""

    members: MemberStore
    timeline: TimelineStore
    client_events: ClientEvents
    visibility: Visibility
    user_rooms: UserRooms
    notifier: Notifier
    access: RoomAccess
    pagination: Pagination
    relations: Relations
    room_reader: RoomReader
    sync: SyncV2
    old_sync: OldSync
    event_stream: EventStream
    typing: Typing
    presence: Presence
    receipts: Receipts
    unread: UnreadCounts
    notifications: Notifications


def build_readers(
    engine: Engine,
    database: Database,
    clock: Clock,
    account_data: AccountDataStore,
    account_data_stream: StreamIds,
    receipt_stream: StreamIds,
    notifier: Notifier,
    presence_config: PresenceConfig | None = None,
    old_history: OldHistory | None = None,
) -> Readers:
    """The read side; from here on it hears of the engine's commits."""
    members, timeline = MemberStore(database), TimelineStore(database)
    visibility = Visibility(engine.states, engine.events, members)
    client_events = ClientEvents(engine.events, clock, visibility)
    user_rooms = notifier.user_rooms
    news = RoomNews(engine.stream.current)
    access = RoomAccess(user_rooms, members, engine.states, engine.events)
    relations = RelationStore(database)
    summaries = RelationSummaries(relations)
    ignored_users = IgnoredUsers(account_data)
    aggregations = Aggregations(summaries, ignored_users, engine.events, visibility, client_events)
    account_data.on_rules(ignored_users.forget)
    wanted = WantedEvents(relations, ignored_users)
    reads = RoomReads(engine.events, engine.states, timeline, members, news, wanted)
    sections = RoomSections(reads, aggregations, client_events, visibility)

    def current_token() -> StreamToken:
        return StreamToken(
            engine.room_token(),
            account_data_stream.current,
            receipts.current,
            typing.current,
            presence.current,
        )

    typing, presence_config = Typing(clock, notifier.wake_room), presence_config or PresenceConfig()
    presence = Presence(
        PresenceStore(database),
        notifier,
        clock,
        enabled=presence_config.enabled,
        max_room_members=presence_config.max_room_members,
    )
    receipt_store = ReceiptStore(database)
    receipts = Receipts(
        receipt_store,
        ReceiptWriter(database, receipt_store, receipt_stream),
        receipt_stream,
        clock,
        notifier.wake_room,
        notifier.wake_user,
        lambda room_nid: len(user_rooms.list_users(room_nid)),
    )
    receipts.on_read(lambda user_id, _: presence.active(user_id))
    unread = UnreadCounts(NotificationStore(database), receipts, lambda: engine.stream.current)
    extras = RoomExtras(engine.rooms, typing, receipts, unread)
    account_events = AccountDataEvents(account_data)
    sync = SyncV2(
        current_token,
        user_rooms,
        notifier,
        SyncRooms(engine.rooms, members, timeline, news, sections, extras, account_events),
        InviteSections(
            engine.rooms, engine.states, engine.events, StrippedStateStore(database), ignored_users
        ),
        account_events,
        presence,
    )
    member_lists = MemberLists(members)
    event_lists = EventLists(engine.events, client_events, clock)
    room_reader = RoomReader(
        access, engine.states, engine.events, member_lists, timeline, client_events, event_lists
    )
    snapshots = RoomSnapshots(
        RoomTimelines(reads, visibility),
        room_reader,
        engine.events,
        client_events,
        DirectoryStore(database),
        ignored_users,
    )
    places = Places(timeline, engine.room_token, FarHistory(old_history))
    pagination = Pagination(places, engine.events, engine.states, visibility, aggregations, wanted)
    room_waiters = RoomWaiters()
    pages = StreamPages(EventStreamStore(database), engine.events, visibility, client_events, ignored_users)
    # In this order: who is woken must find the news, and must be known to be in the room.
    for listener in (
        user_rooms.on_commit,
        news.on_commit,
        member_lists.on_commit,
        event_lists.on_commit,
        summaries.on_commit,
        unread.on_commit,
        typing.on_commit,
        presence.on_commit,
        notifier.on_commit,
        room_waiters.on_commit,
    ):
        engine.committer.on_commit(listener)
    engine.events.on_written(event_lists.on_written)
    engine.events.on_written(summaries.on_written)
    return Readers(
        members=members,
        timeline=timeline,
        client_events=client_events,
        visibility=visibility,
        user_rooms=user_rooms,
        notifier=notifier,
        access=access,
        pagination=pagination,
        relations=Relations(
            relations, places, engine.events, visibility, aggregations, ignored_users, pagination
        ),
        room_reader=room_reader,
        sync=sync,
        old_sync=OldSync(current_token, user_rooms, engine.rooms, members, account_data, presence, snapshots),
        event_stream=EventStream(current_token, user_rooms, notifier, room_waiters, news, access, pages),
        typing=typing,
        presence=presence,
        receipts=receipts,
        unread=unread,
        notifications=Notifications(NotifiedStore(database), engine.events, client_events, receipts),
    )
