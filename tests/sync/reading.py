"""What readers of history are made of, over a room engine and without HTTP; and rooms to read."""

from typing import Any

import msgspec
import pytest

from hs.client_api.messages import MessagesApi
from hs.engine import Engine
from hs.http.endpoint import Caller
from hs.rooms.create import CreateRoom
from hs.rooms.drafts import Draft
from hs.storage.database import Database
from hs.storage.members import MemberStore
from hs.storage.relations import RelationStore
from hs.storage.rooms import RoomInfo
from hs.storage.streams import StreamIds
from hs.storage.timeline import TimelineStore
from hs.storage.user_data import AccountDataStore
from hs.sync.access import RoomAccess
from hs.sync.aggregations import Aggregations
from hs.sync.client_events import ClientEvents, Viewer
from hs.sync.event_lists import EventLists
from hs.sync.far_history import FarHistory
from hs.sync.ignored_users import IgnoredUsers
from hs.sync.member_lists import MemberLists
from hs.sync.pagination import Pagination
from hs.sync.places import Places
from hs.sync.relation_summaries import RelationSummaries
from hs.sync.room_reader import RoomReader
from hs.sync.user_rooms import UserRooms
from hs.sync.visibility import Visibility
from hs.sync.wanted_events import WantedEvents
from tests.rooms.conftest import ALICE, TurnableClock

# Small, so that a page of a hundred events can reach it.
SCAN_LIMIT = 30


class Library:
    """The parts that read rooms."""

    def __init__(self, engine: Engine, database: Database) -> None:
        members, timeline = MemberStore(database), TimelineStore(database)
        self.engine = engine
        self.clock = TurnableClock()
        self.visibility = Visibility(engine.states, engine.events, members)
        self.client_events = ClientEvents(engine.events, self.clock, self.visibility)
        self.user_rooms = UserRooms(members)
        engine.committer.on_commit(self.user_rooms.on_commit)
        self.access = RoomAccess(self.user_rooms, members, engine.states, engine.events)
        relations = RelationStore(database)
        summaries = RelationSummaries(relations)
        engine.committer.on_commit(summaries.on_commit)
        account_data = AccountDataStore(database, StreamIds(0), lambda user_id, stream_id: None)
        ignored_users = IgnoredUsers(account_data)
        self.aggregations = Aggregations(
            summaries, ignored_users, engine.events, self.visibility, self.client_events
        )
        self.pagination = Pagination(
            Places(timeline, engine.room_token, FarHistory(None)),
            engine.events,
            engine.states,
            self.visibility,
            self.aggregations,
            WantedEvents(relations, ignored_users),
            scan_limit=SCAN_LIMIT,
        )
        member_lists = MemberLists(members)
        engine.committer.on_commit(member_lists.on_commit)
        event_lists = EventLists(engine.events, self.client_events, self.clock)
        engine.committer.on_commit(event_lists.on_commit)
        engine.events.on_written(event_lists.on_written)
        self.reader = RoomReader(
            self.access, engine.states, engine.events, member_lists, timeline, self.client_events, event_lists
        )
        self.messages = MessagesApi(engine.rooms, self.access, self.pagination)

    async def make_room(self, **wishes: Any) -> RoomInfo:
        """A new room of Alice's."""
        room_id = await self.engine.creator.create(ALICE, msgspec.convert(wishes, CreateRoom))
        return await self.engine.rooms.get(room_id)

    async def say(self, room: RoomInfo, body: str, sender: str = ALICE) -> str:
        """The id of a message."""
        draft = Draft("m.room.message", sender, {"body": body, "msgtype": "m.text"})
        return (await self.engine.writer.send(room, draft)).event_id

    async def set_state(self, room: RoomInfo, type: str, content: dict[str, Any], state_key: str = "") -> str:
        """The id of a state event by Alice."""
        return (
            await self.engine.writer.send(room, Draft(type, ALICE, content, state_key=state_key))
        ).event_id

    async def redact(self, room: RoomInfo, event_id: str) -> str:
        """The id of Alice's redaction."""
        draft = Draft("m.room.redaction", ALICE, {"reason": "gone"}, redacts=event_id)
        return (await self.engine.writer.send(room, draft)).event_id

    async def page(self, room: RoomInfo, user_id: str = ALICE, **query: Any) -> Any:
        """The answer of GET /messages."""
        if isinstance(query.get("filter"), dict):
            query["filter"] = msgspec.json.encode(query["filter"]).decode()
        return await self._ask(self.messages.get_messages, user_id, query, room_id=room.room_id)

    async def context(self, room: RoomInfo, event_id: str, user_id: str = ALICE, **query: Any) -> Any:
        """The answer of GET /context."""
        return await self._ask(
            self.messages.get_context, user_id, query, room_id=room.room_id, event_id=event_id
        )

    async def reader_state(self, room: RoomInfo, type: str, state_key: str = "") -> Any:
        """A current state event as Alice reads it."""
        access = await self.access.check_reader(room, ALICE)
        viewer = Viewer(ALICE, "DEVICE")
        return msgspec.json.decode(await self.reader.state_event(room, viewer, access, type, state_key))

    async def _ask(self, method: Any, user_id: str, query: dict[str, Any], **arguments: str) -> Any:
        wanted = msgspec.convert(query, method.__endpoint__.query_type)
        answer = await method(caller=Caller(user_id, "DEVICE"), query=wanted, **arguments)
        return msgspec.json.decode(answer.body)

    async def read_all(self, room: RoomInfo, user_id: str = ALICE, **query: Any) -> list[Any]:
        """All events from a place on, page by page."""
        events: list[Any] = []
        while True:
            page = await self.page(room, user_id, **query)
            assert len(page["chunk"]) <= query.get("limit", 10)
            events += page["chunk"]
            if "end" not in page:
                return events
            assert page["end"] != query.get("from")
            query["from"] = page["end"]


@pytest.fixture
def library(engine: Engine, database: Database) -> Library:
    """The parts that read rooms."""
    return Library(engine, database)


def ids(events: list[Any]) -> list[str]:
    """Event ids."""
    return [event["event_id"] for event in events]


def bodies(events: list[Any]) -> list[str]:
    """Texts of messages."""
    return [event["content"].get("body") for event in events if event["type"] == "m.room.message"]
