"""A client that follows two busy rooms by sync alone knows, at each token, what the rooms were then.

Whatever happens between its syncs, and meanwhile: gaps, departures, returns, state on both sides of a gap, a
restart of the read side, a filter that hides state from the timeline.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from hs.engine import Engine
from hs.matrix.errors import Forbidden
from hs.matrix.filters import NO_FILTER, build_matcher
from hs.matrix.tokens import StreamToken, parse_pagination_token
from hs.readers import Readers, build_readers
from hs.rooms.create import CreateRoom
from hs.rooms.drafts import Committed, Draft
from hs.storage.database import Database
from hs.storage.members import MemberStore
from hs.storage.rooms import RoomInfo
from hs.storage.streams import StreamIds
from hs.storage.user_data import AccountDataStore
from hs.sync.access import Access
from hs.sync.news import Notifier
from hs.sync.pagination import PageRequest
from hs.sync.user_rooms import UserRooms
from tests.rooms.conftest import ALICE, BOB, CAROL, TurnableClock
from tests.sync.conftest import Client

StateKey = tuple[str, str]
Act = Callable[[], Awaitable[object]]


@pytest.fixture
def rebuild(engine: Engine, database: Database) -> Callable[[], Readers]:
    """Makes read sides that know nothing yet, as after a restart."""

    def build() -> Readers:
        stream, notifier = StreamIds(0), Notifier(UserRooms(MemberStore(database)))
        account_data = AccountDataStore(database, stream, lambda user_id, stream_id: None)
        return build_readers(engine, database, TurnableClock(), account_data, stream, StreamIds(0), notifier)

    return build


class Chronicle:
    """What really happened in the rooms, by room, in order of arrival."""

    def __init__(self) -> None:
        self.events: dict[str, list[tuple[int, str]]] = {}

    def on_commit(self, committed: Committed) -> None:
        """Write it down."""
        lines = self.events.setdefault(committed.room.room_id, [])
        lines += [(record.stream_ordering, record.event_id) for record in committed.records]


class Follower:
    """Bob's client: what it knows of each room it is in."""

    def __init__(self, client: Client, readers: Readers, rooms: dict[str, RoomInfo]) -> None:
        self.client = client
        self.readers = readers
        self.rooms = rooms
        self.timelines: dict[str, list[str]] = {}
        self.states: dict[str, dict[StateKey, str]] = {}

    async def sync(self, **options: Any) -> Any:
        """One sync, and what a client makes of it."""
        since = self.client.since
        answer = await self.client.sync(**options)
        for room_id, section in answer["rooms"]["join"].items():
            await self._take_in(room_id, section, since)
        for room_id in answer["rooms"]["leave"]:
            self.timelines.pop(room_id, None)
            self.states.pop(room_id, None)
        return answer

    async def _take_in(self, room_id: str, section: Any, since: StreamToken | None) -> None:
        events, known = section["timeline"]["events"], self.timelines.get(room_id)
        if known is None or (section["timeline"]["limited"] and _has_create(section)):
            # A room that is new, or new again.
            self.timelines[room_id], self.states[room_id] = [], {}
        elif section["timeline"]["limited"]:
            assert since is not None
            known += await self._read_gap(room_id, section["timeline"]["prev_batch"], since)
        for event in section["state"]["events"]:
            self._set(room_id, event)
        for event in events:
            self.timelines[room_id].append(event["event_id"])
            if "state_key" in event:
                self._set(room_id, event)

    async def _read_gap(self, room_id: str, start: str, since: StreamToken) -> list[str]:
        """The events between what the client knew and the timeline it was given, two at a time."""
        found: list[str] = []
        token: str | None = start
        while token is not None:
            request = PageRequest(
                True, parse_pagination_token(token), since.room, 2, build_matcher(NO_FILTER.room.timeline)
            )
            room = self.rooms[room_id]
            page = msgspec.json.decode(
                await self.readers.pagination.messages(
                    room, self.client.viewer, Access(is_member=True), request
                )
            )
            found += [event["event_id"] for event in page["chunk"]]
            token = page.get("end")
        return found[::-1]

    def _set(self, room_id: str, event: Any) -> None:
        self.states[room_id][event["type"], event["state_key"]] = event["event_id"]


def _has_create(section: Any) -> bool:
    events = section["state"]["events"] + section["timeline"]["events"]
    return any(event["type"] == "m.room.create" for event in events)


class World:
    """Two rooms with three people in and out of them."""

    def __init__(self, engine: Engine, rooms: dict[str, RoomInfo], dice: random.Random) -> None:
        self.engine = engine
        self.rooms = rooms
        self.dice = dice
        self.count = 0

    def act(self) -> Act:
        """Something that may happen, or be refused."""
        room, who = self.dice.choice(list(self.rooms.values())), self.dice.choice([ALICE, BOB, CAROL])
        self.count += 1
        number = self.count
        engine, kind = self.engine, self.dice.choice(["say"] * 5 + ["topic", "note", "name", "join", "leave"])
        drafts = {
            "say": Draft("m.room.message", who, {"body": str(number), "msgtype": "m.text"}),
            "topic": Draft("m.room.topic", ALICE, {"topic": str(number)}, state_key=""),
            "note": Draft("org.example.note", ALICE, {"n": number}, state_key=str(number % 3)),
            "name": Draft(
                "m.room.member", who, {"membership": "join", "displayname": str(number)}, state_key=who
            ),
        }

        async def do() -> None:
            try:
                if kind == "join":
                    await engine.memberships.join(room, who)
                elif kind == "leave" and who != ALICE:
                    await engine.memberships.leave(room, who)
                elif kind in drafts:
                    await engine.writer.send(room, drafts[kind])
            except Forbidden:
                pass

        return do


async def check(follower: Follower, readers: Readers, engine: Engine, chronicle: Chronicle) -> None:
    """The client knows the state of each room as of its token, and all events since its first of it."""
    assert follower.client.since is not None
    now = follower.client.since.room.stream
    for room_id, known in follower.timelines.items():
        room = follower.rooms[room_id]
        history = [event_id for stream, event_id in chronicle.events[room_id] if stream <= now]
        assert known == history[history.index(known[0]) :]
        root = engine.states.root(await readers.timeline.find_state_id_at(room.room_nid, now))
        records = await engine.events.get_many(await engine.states.list_nids(room.room_nid, root))
        assert follower.states[room_id] == {
            (record.type, record.state_key): record.event_id for record in records.values()
        }


@pytest.mark.parametrize("seed", range(12))
async def test_a_client_that_follows_knows_what_happened(
    engine: Engine, readers: Readers, rebuild: Callable[[], Readers], seed: int
) -> None:
    dice, chronicle = random.Random(seed), Chronicle()
    engine.committer.on_commit(chronicle.on_commit)
    rooms: dict[str, RoomInfo] = {}
    for _ in range(2):
        room_id = await engine.creator.create(ALICE, CreateRoom(preset="public_chat"))
        rooms[room_id] = await engine.rooms.get(room_id)
        await engine.memberships.join(rooms[room_id], BOB)
    world = World(engine, rooms, dice)
    follower = Follower(Client(readers.sync, BOB), readers, rooms)
    await follower.sync()
    for _ in range(25):
        acts = [world.act()() for _ in range(dice.randint(0, 9))]
        timeline: dict[str, Any] = {"limit": dice.randint(1, 6)}
        if dice.random() < 0.2:
            readers = rebuild()
            follower.readers = readers
            follower.client = _moved(follower.client, readers)
        if dice.random() < 0.5:
            # Commits and sync at the same time, in whatever order they come.
            await asyncio.gather(follower.sync(filter={"room": {"timeline": timeline}}), *acts)
        else:
            for act in acts:
                await act
            await follower.sync(filter={"room": {"timeline": timeline}})
        await check(follower, readers, engine, chronicle)
    # A client that starts now knows the same of the state.
    fresh = Follower(Client(readers.sync, BOB, "OTHER"), readers, rooms)
    await fresh.sync()
    await follower.sync()
    assert fresh.states == follower.states


@pytest.mark.parametrize("seed", range(6))
async def test_state_is_complete_where_the_timeline_hides_it(
    engine: Engine, readers: Readers, seed: int
) -> None:
    dice = random.Random(seed)
    room_id = await engine.creator.create(ALICE, CreateRoom(preset="public_chat"))
    rooms = {room_id: await engine.rooms.get(room_id)}
    await engine.memberships.join(rooms[room_id], BOB)
    world = World(engine, rooms, dice)
    bob: dict[StateKey, str] = {}
    client = Client(readers.sync, BOB)
    for _ in range(15):
        for _ in range(dice.randint(0, 6)):
            await world.act()()
        hides = {"types": ["m.room.message"], "limit": dice.randint(1, 5)}
        state_after = dice.random() < 0.5
        answer = await client.sync(filter={"room": {"timeline": hides}}, state_after=state_after)
        if room_id in answer["rooms"]["leave"]:
            bob = {}
        section = answer["rooms"]["join"].get(room_id)
        if section is None:
            continue
        events = section["state_after" if state_after else "state"]["events"]
        bob |= {(event["type"], event["state_key"]): event["event_id"] for event in events}
        assert client.since is not None
        root_id = await readers.timeline.find_state_id_at(rooms[room_id].room_nid, client.since.room.stream)
        nids = await engine.states.list_nids(rooms[room_id].room_nid, engine.states.root(root_id))
        records = (await engine.events.get_many(nids)).values()
        assert bob == {(record.type, record.state_key): record.event_id for record in records}


def _moved(client: Client, readers: Readers) -> Client:
    """The same device after the server has forgotten all that was only in memory."""
    moved = Client(readers.sync, client.viewer.user_id, client.viewer.device_id)
    moved.since = client.since
    return moved
