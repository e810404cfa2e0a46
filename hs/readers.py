"""The read side put together. Part of the composition root."""

from collections.abc import Callable
from dataclasses import dataclass

from hs.engine import Engine
from hs.matrix.tokens import StreamToken
from hs.rooms.clock import Clock
from hs.storage.database import Database
from hs.storage.members import MemberStore
from hs.storage.timeline import TimelineStore
from hs.sync.client_events import ClientEvents
from hs.sync.invites import InviteSections
from hs.sync.news import Notifier, RoomNews
from hs.sync.room_section import RoomReads, RoomSections
from hs.sync.sync_v2 import AccountDataSource, JoinedRooms, SyncV2
from hs.sync.user_rooms import UserRooms
from hs.sync.visibility import Visibility


@dataclass(frozen=True, slots=True)
class Readers:
    """What endpoints read from."""

    members: MemberStore
    timeline: TimelineStore
    client_events: ClientEvents
    visibility: Visibility
    user_rooms: UserRooms
    notifier: Notifier
    sync: SyncV2


def build_readers(
    engine: Engine,
    database: Database,
    clock: Clock,
    account_data: AccountDataSource,
    account_data_position: Callable[[], int],
) -> Readers:
    """The read side; from here on it hears of the engine's commits."""
    members, timeline = MemberStore(database), TimelineStore(database)
    client_events = ClientEvents(engine.events, clock)
    visibility = Visibility(engine.states, engine.events, members)
    user_rooms = UserRooms(members)
    notifier = Notifier(user_rooms)
    news = RoomNews(engine.stream.current)
    reads = RoomReads(engine.events, engine.states, timeline, members, news)
    sections = RoomSections(reads, client_events, visibility)

    def current_token() -> StreamToken:
        return StreamToken(engine.room_token(), account_data=account_data_position())

    sync = SyncV2(
        current_token,
        user_rooms,
        notifier,
        JoinedRooms(engine.rooms, members, timeline, news, sections),
        InviteSections(engine.rooms, engine.states, engine.events),
        account_data,
    )
    # In this order: who is woken must find the news, and must be known to be in the room.
    for listener in (user_rooms.on_commit, news.on_commit, notifier.on_commit):
        engine.committer.on_commit(listener)
    return Readers(members, timeline, client_events, visibility, user_rooms, notifier, sync)
