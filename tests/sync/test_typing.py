"""Who is typing: serials, timeouts, wake-ups, bounds."""

import asyncio
from collections.abc import Iterator

import msgspec
import pytest

from hs.engine import Engine
from hs.rooms.drafts import Draft
from hs.sync.recent_rooms import RecentRooms
from hs.sync.typing import MAX_TIMEOUT_MS, MAX_TYPISTS, Typing
from tests.rooms.conftest import ALICE, BOB, CAROL, TurnableClock
from tests.rooms.making import make_room, message, topic

ROOM, OTHER = 7, 8


class Board:
    """Typing, and the rooms it has woken."""

    def __init__(self) -> None:
        self.clock = TurnableClock()
        self.woken: asyncio.Queue[int] = asyncio.Queue()
        self.typing = Typing(self.clock, self.woken.put_nowait)

    def users(self, room_nid: int = ROOM) -> list[str]:
        """The user ids of the room's event."""
        event = msgspec.json.decode(self.typing.render(room_nid))
        assert event.keys() == {"type", "content"}
        assert event["type"] == "m.typing"
        ids: list[str] = event["content"]["user_ids"]
        assert ids == self.typing.list_users(room_nid)
        return ids


@pytest.fixture
def board() -> Iterator[Board]:
    """Nobody is typing yet."""
    board = Board()
    yield board
    board.typing.close()


async def test_a_change_of_a_room_is_new_for_older_tokens_only(board: Board) -> None:
    typing = board.typing
    start = typing.current
    typing.start(ROOM, ALICE)
    first = typing.current
    typing.start(OTHER, BOB)
    assert start < first < typing.current
    assert sorted(typing.list_rooms_since([ROOM, OTHER, 9], start)) == [ROOM, OTHER]
    assert typing.list_rooms_since([ROOM, OTHER], first) == [OTHER]
    assert typing.list_rooms_since([ROOM], first) == []
    assert typing.list_rooms_since([ROOM, OTHER], typing.current) == []
    assert (board.users(), board.users(OTHER), board.users(9)) == ([ALICE], [BOB], [])


async def test_who_goes_on_typing_is_no_news(board: Board) -> None:
    board.typing.start(ROOM, ALICE)
    serial, event = board.typing.current, board.typing.render(ROOM)
    board.typing.start(ROOM, ALICE)
    board.typing.stop(ROOM, BOB)
    assert board.typing.current == serial
    # Made once for everybody in the room.
    assert board.typing.render(ROOM) is event


async def test_the_end_is_news_too(board: Board) -> None:
    board.typing.start(ROOM, ALICE)
    board.typing.start(ROOM, BOB)
    serial = board.typing.current
    board.typing.stop(ROOM, ALICE)
    assert board.users() == [BOB]
    board.typing.stop(ROOM, BOB)
    assert board.users() == []
    assert board.typing.list_rooms_since([ROOM], serial) == [ROOM]


async def test_a_timed_out_typist_is_announced(board: Board) -> None:
    board.typing.start(ROOM, BOB)
    board.typing.start(ROOM, ALICE, 100)
    assert await board.woken.get() == ROOM
    serial = board.typing.current
    while board.users() != [BOB]:
        assert await board.woken.get() == ROOM
    assert board.typing.list_rooms_since([ROOM], serial) == [ROOM]


async def test_a_longer_timeout_replaces_a_shorter_one_and_the_other_way_round(board: Board) -> None:
    loop = asyncio.get_running_loop()
    board.typing.start(ROOM, ALICE, 100)
    board.typing.start(ROOM, ALICE, 30_000)
    # Bob's end is the sign that the time of Alice's first one is over.
    board.typing.start(OTHER, BOB, 30_000)
    board.typing.start(OTHER, BOB, 150)
    started = loop.time()
    while board.users(OTHER):
        await board.woken.get()
    assert loop.time() - started < 20
    assert board.users() == [ALICE]


@pytest.mark.parametrize("timeout", [10**30, MAX_TIMEOUT_MS + 1, 0, -5])
async def test_timeouts_are_clamped(board: Board, timeout: int) -> None:
    board.typing.start(ROOM, ALICE, timeout)
    assert board.users() == [ALICE]
    [until] = board.typing._typists[ROOM].values()
    left = until - asyncio.get_running_loop().time()
    assert 0 < left <= MAX_TIMEOUT_MS / 1000


async def test_those_who_wait_hear_of_many_changes_together(board: Board) -> None:
    for i in range(1000):
        board.typing.start(ROOM, f"@u{i % 40}:hs.test")
        board.typing.stop(ROOM, f"@u{i % 40}:hs.test")
    board.typing.start(ROOM, ALICE)
    assert board.woken.qsize() == 1
    assert [await board.woken.get() for _ in range(2)] == [ROOM, ROOM]
    # Nothing has changed since, and the timer ends by itself.
    while board.typing._wake_timer is not None:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert board.woken.empty()
    assert not board.typing._quiet


async def test_a_thousand_typists_make_a_bounded_event(board: Board) -> None:
    for i in range(1000):
        board.typing.start(ROOM, f"@u{i}:hs.test")
    assert len(board.users()) == MAX_TYPISTS
    # Somebody stops: there is space for one more.
    board.typing.stop(ROOM, "@u0:hs.test")
    board.typing.start(ROOM, ALICE)
    assert board.users()[-1] == ALICE


async def test_rooms_where_somebody_typed_are_forgotten_in_the_end() -> None:
    rooms = RecentRooms(remembered=100)
    for room_nid in range(1, 1001):
        rooms.note(room_nid, room_nid)
    assert len(rooms) == 100
    assert sorted(rooms.list_since(range(1, 2001), 0)) == list(range(901, 1001))
    # Both ways of looking: by what is new, and by the user's rooms.
    assert rooms.list_since([5, 950], 0) == [950]
    assert rooms.list_since([950, 951], 950) == [951]


async def test_serials_ascend_over_restarts_and_old_ones_do_no_harm(board: Board) -> None:
    for i in range(10):
        board.typing.start(ROOM, f"@u{i}:hs.test")
    old = board.typing.current
    board.clock.time_ms += 1000
    restarted = Typing(board.clock, board.woken.put_nowait)
    assert restarted.current > old
    assert restarted.list_rooms_since([ROOM, OTHER], old) == []
    assert restarted.list_rooms_since([ROOM, OTHER], 0) == []
    restarted.start(OTHER, ALICE)
    assert restarted.list_rooms_since([ROOM, OTHER], old) == [OTHER]
    restarted.close()


async def test_a_message_or_a_leave_ends_typing(board: Board, engine: Engine) -> None:
    room = await make_room(engine, preset="public_chat")
    for user_id in (BOB, CAROL):
        await engine.memberships.join(room, user_id)
    engine.committer.on_commit(board.typing.on_commit)
    for user_id in (ALICE, BOB, CAROL):
        board.typing.start(room.room_nid, user_id)
    await engine.writer.send(room, message(BOB))
    assert board.users(room.room_nid) == [ALICE, CAROL]
    # A reaction and a new topic are made beside what is being typed.
    await engine.writer.send(room, Draft("m.reaction", ALICE, {}))
    await engine.writer.send(room, topic("new"))
    assert board.users(room.room_nid) == [ALICE, CAROL]
    await engine.memberships.leave(room, CAROL)
    assert board.users(room.room_nid) == [ALICE]
    await engine.writer.send(room, message(ALICE))
    assert board.users(room.room_nid) == []
