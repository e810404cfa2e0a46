"""Past notifications: the same events that are counted, with those that are read."""

from typing import Any

import msgspec
import pytest

from hs.engine import Engine
from hs.matrix.push_rules import RuleBody, delete_rule, put_rule
from hs.rooms.drafts import Draft, SentEvent
from hs.storage.database import Database
from hs.storage.members import MemberStore
from hs.storage.notified import NotifiedStore
from hs.storage.rooms import RoomInfo
from hs.storage.streams import StreamIds
from hs.storage.user_data import AccountDataStore
from hs.sync.client_events import ClientEvents, Viewer
from hs.sync.notified import Notifications
from hs.sync.visibility import Visibility
from tests.rooms.conftest import ALICE, BOB, TurnableClock
from tests.rooms.making import make_room, message, redaction
from tests.sync.test_unread import Marks, call, reply

END = 2**63 - 1


class Reader:
    """Bob's notifications."""

    def __init__(self, engine: Engine, database: Database) -> None:
        self.marks = Marks()
        client_events = ClientEvents(
            engine.events, TurnableClock(), Visibility(engine.states, engine.events, MemberStore(database))
        )
        self._notifications = Notifications(NotifiedStore(database), engine.events, client_events, self.marks)

    async def page(self, before: int = END, limit: int = 50, *, highlights: bool = False) -> Any:
        """The answer."""
        viewer = Viewer(BOB, "DEVICE")
        page = await self._notifications.list_page(viewer, before, limit, only_highlights=highlights)
        return msgspec.json.decode(page)

    async def ids(self, **options: Any) -> list[str]:
        """The events."""
        return [item["event"]["event_id"] for item in (await self.page(**options))["notifications"]]


@pytest.fixture
def reader(engine: Engine, database: Database) -> Reader:
    """Bob's notifications."""
    return Reader(engine, database)


@pytest.fixture
async def room(engine: Engine) -> RoomInfo:
    """A room of Alice's with Bob in it."""
    return await shared_room(engine)


async def shared_room(engine: Engine) -> RoomInfo:
    """Another such room."""
    room = await make_room(engine, preset="public_chat")
    await engine.writer.send(room, message())
    await engine.memberships.join(room, BOB)
    return room


def ids(*sent: SentEvent) -> list[str]:
    return [one.event_id for one in sent]


async def test_notifications_of_all_rooms_come_newest_first(
    engine: Engine, room: RoomInfo, reader: Reader
) -> None:
    other = await shared_room(engine)
    first = await engine.writer.send(room, message())
    second = await engine.writer.send(other, call())
    await engine.writer.send(room, message(BOB))
    third = await engine.writer.send(room, call())
    await engine.writer.send(room, Draft("m.reaction", ALICE, {}))
    assert await reader.ids() == ids(third, second, first)
    assert await reader.ids(highlights=True) == ids(third, second)
    tombstone = {"body": "gone", "replacement_room": "!r:hs.test"}
    last = await engine.writer.send(room, Draft("m.room.tombstone", ALICE, tombstone, state_key=""))
    assert await reader.ids(highlights=True) == ids(last, third, second)
    items = (await reader.page())["notifications"]
    assert items[0]["room_id"] == room.room_id
    assert items[1]["actions"] == ["notify", {"set_tweak": "highlight"}]
    assert items[3]["actions"] == ["notify"]
    assert items[3]["event"]["content"]["body"] == "hello"


async def test_pages_go_on_where_the_last_one_ended(engine: Engine, room: RoomInfo, reader: Reader) -> None:
    sent = [await engine.writer.send(room, message()) for _ in range(5)]
    found, before = [], END
    for _ in range(3):
        page = await reader.page(before=before, limit=2)
        found += [item["event"]["event_id"] for item in page["notifications"]]
        before = int(page.get("next_token", 0))
    assert found == ids(*reversed(sent))
    assert before == 0


async def test_what_is_read_says_so(engine: Engine, room: RoomInfo, reader: Reader) -> None:
    root = await engine.writer.send(room, message())
    await engine.writer.send(room, reply(root))
    await engine.writer.send(room, message())
    await engine.writer.send(room, reply(root))

    async def read() -> list[bool]:
        return [item["read"] for item in (await reader.page())["notifications"]]

    assert await read() == [False] * 4
    reader.marks.read(room, root)
    assert await read() == [False, False, False, True]
    await engine.writer.send(room, message(BOB))
    assert await read() == [False, True, False, True]


async def test_what_does_not_notify_is_not_listed(
    engine: Engine, database: Database, room: RoomInfo, reader: Reader
) -> None:
    rules = AccountDataStore(database, StreamIds(0), lambda user_id, stream_id: None)
    rules.on_rules(engine.judge.on_rules)
    gone = await engine.writer.send(room, call())
    await engine.writer.send(room, redaction(gone.event_id))
    await rules.change_push_rules(BOB, lambda r: put_rule(r, "content", "x", RuleBody([], pattern="x")))
    await engine.writer.send(room, message(body="x"))
    loud = await engine.writer.send(room, message(body="y"))
    await rules.change_push_rules(BOB, lambda r: put_rule(r, "room", room.room_id, RuleBody([])))
    await engine.writer.send(room, message(body="y"))
    called = await engine.writer.send(room, call())
    assert await reader.ids() == ids(called, loud)
    await rules.change_push_rules(BOB, lambda r: delete_rule(r, "room", room.room_id))
    again = await engine.writer.send(room, message(body="y"))
    assert await reader.ids() == ids(again, called, loud)


async def test_rooms_that_were_left_and_what_was_before_a_join_are_not_listed(
    engine: Engine, room: RoomInfo, reader: Reader
) -> None:
    await engine.writer.send(room, call())
    await engine.memberships.leave(room, BOB)
    assert await reader.ids() == []
    await engine.writer.send(room, call())
    await engine.memberships.join(room, BOB)
    assert await reader.ids() == []
    last = await engine.writer.send(room, call())
    assert await reader.ids() == ids(last)
