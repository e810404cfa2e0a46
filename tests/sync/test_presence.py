"""Who is online: what devices make of it, who is told, what a restart remembers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest

from hs.engine import Engine
from hs.matrix.errors import Forbidden, InvalidParam
from hs.rooms.drafts import Draft
from hs.storage.database import Database
from hs.storage.members import MemberStore
from hs.storage.presence import PresenceStore
from hs.storage.rooms import RoomInfo
from hs.sync import presence_news, presence_states
from hs.sync.news import Notifier, Waiter
from hs.sync.presence import MAX_STATUS_MSG_LENGTH, Presence
from hs.sync.presence_states import IDLE_AFTER_MS, OFFLINE_AFTER_MS, TICK_MS
from hs.sync.user_rooms import UserRooms
from tests.rooms.conftest import ALICE, BOB, CAROL, TurnableClock
from tests.rooms.making import make_room, message

PHONE, LAPTOP = "PHONE", "LAPTOP"


class World:
    """Presence over a room engine, and a clock for it."""

    def __init__(self, engine: Engine, database: Database, clock: TurnableClock, **options: Any) -> None:
        self.engine = engine
        self.clock = clock
        self.user_rooms = UserRooms(MemberStore(database))
        self.notifier = Notifier(self.user_rooms)
        self.presence = Presence(PresenceStore(database), self.notifier, clock, **options)
        for listener in (self.user_rooms.on_commit, self.presence.on_commit):
            engine.committer.on_commit(listener)
        self.since: dict[str, int] = {}

    async def pass_ms(self, ms: int) -> None:
        """Let time go by, tick by tick."""
        for _ in range(ms // TICK_MS + 1):
            self.clock.time_ms += TICK_MS
            self.presence.look()
        await self.presence.settle()

    async def touch(self, user_id: str, device_id: str = PHONE, wanted: str = "online") -> None:
        """A sync that ends at once."""
        await self.user_rooms.get(user_id)
        with self.presence.syncing(user_id, device_id, wanted):
            pass
        await self.presence.settle()

    async def news(self, user_id: str) -> dict[str, Any]:
        """What the user's next sync shows: content by sender."""
        await self.user_rooms.get(user_id)
        upto = self.presence.current
        events = await self.presence.list_events(user_id, self.since.get(user_id), upto)
        self.since[user_id] = upto
        decoded = [msgspec.json.decode(event) for event in events]
        assert all(event["type"] == "m.presence" for event in decoded)
        assert len({event["sender"] for event in decoded}) == len(decoded)
        return {event["sender"]: event["content"] for event in decoded}

    async def status(self, user_id: str, viewer: str | None = None) -> Any:
        return msgspec.json.decode(await self.presence.get_status(viewer or user_id, user_id))

    async def share_room(self, *user_ids: str) -> RoomInfo:
        """A room of Alice's with these users."""
        room = await make_room(self.engine, preset="public_chat")
        for user_id in user_ids:
            await self.engine.memberships.join(room, user_id)
        await self.presence.settle()
        return room


MakeWorld = Callable[..., Awaitable[World]]


@pytest.fixture
async def make_world(engine: Engine, database: Database) -> AsyncIterator[MakeWorld]:
    """Makes worlds over one engine, one after the other as after restarts."""
    worlds: list[World] = []
    clock = TurnableClock()

    async def make(**options: Any) -> World:
        world = World(engine, database, clock, **options)
        await world.presence.load()
        worlds.append(world)
        return world

    yield make
    for world in worlds:
        await world.presence.close()


@pytest.fixture
async def world(make_world: MakeWorld) -> World:
    """Alice, Bob and Carol share a room, and have seen that nobody is there."""
    world = await make_world()
    await world.share_room(BOB, CAROL)
    for user_id in (ALICE, BOB, CAROL):
        assert await world.news(user_id) == {}
    return world


async def test_a_sync_makes_its_user_online_and_the_others_hear_of_it(world: World) -> None:
    with world.notifier.listen(BOB) as bob:
        await world.touch(ALICE)
        assert bob._has_news
    online = {"presence": "online", "last_active_ago": 0, "currently_active": True}
    assert await world.news(BOB) == {ALICE: online}
    assert await world.news(BOB) == {}
    # Who syncs first now sees it too, and Alice sees herself.
    world.since.clear()
    assert await world.news(CAROL) == {ALICE: online}
    assert await world.news(ALICE) == {ALICE: online}


async def test_without_a_sync_one_is_offline_after_half_a_minute(world: World) -> None:
    with world.presence.syncing(ALICE, PHONE, "online"):
        await world.pass_ms(2 * OFFLINE_AFTER_MS)
        assert (await world.news(BOB))[ALICE]["presence"] == "online"
    await world.pass_ms(OFFLINE_AFTER_MS - 2 * TICK_MS)
    # Another sync in time: nothing has happened.
    await world.touch(ALICE)
    await world.pass_ms(OFFLINE_AFTER_MS - 2 * TICK_MS)
    assert await world.news(BOB) == {}
    await world.pass_ms(3 * TICK_MS)
    news = await world.news(BOB)
    assert news[ALICE]["presence"] == "offline"
    assert "currently_active" not in news[ALICE]
    assert news[ALICE]["last_active_ago"] > 3 * OFFLINE_AFTER_MS
    assert world.presence._states.is_idle


async def test_who_does_nothing_becomes_unavailable_until_they_do_something(
    world: World, engine: Engine
) -> None:
    room = await world.share_room(BOB)
    with world.presence.syncing(ALICE, PHONE, "online"):
        await world.presence.settle()
        await world.news(BOB)
        await world.pass_ms(IDLE_AFTER_MS - 3 * TICK_MS)
        assert await world.news(BOB) == {}
        await world.pass_ms(3 * TICK_MS)
        assert (await world.news(BOB))[ALICE]["presence"] == "unavailable"
        # That the client goes on to sync is no activity.
        await world.touch(ALICE)
        assert await world.news(BOB) == {}
        await engine.writer.send(room, message(ALICE))
        await world.presence.settle()
        assert (await world.news(BOB))[ALICE]["presence"] == "online"
        world.presence.active(ALICE)
        await world.presence.settle()
        assert await world.news(BOB) == {}


async def test_of_several_devices_the_most_active_wins(world: World) -> None:
    await world.touch(ALICE, PHONE, "unavailable")
    assert (await world.news(BOB))[ALICE]["presence"] == "unavailable"
    await world.touch(ALICE, LAPTOP, "online")
    assert (await world.news(BOB))[ALICE]["presence"] == "online"
    await world.touch(ALICE, PHONE, "unavailable")
    assert await world.news(BOB) == {}
    # The laptop goes away, the phone stays.
    with world.presence.syncing(ALICE, PHONE, "unavailable"):
        await world.pass_ms(OFFLINE_AFTER_MS + TICK_MS)
        assert (await world.news(BOB))[ALICE]["presence"] == "unavailable"


async def test_activity_brings_back_whose_devices_say_unavailable(world: World) -> None:
    with world.presence.syncing(ALICE, PHONE, "unavailable"):
        await world.pass_ms(TICK_MS)
        assert (await world.news(BOB))[ALICE]["presence"] == "unavailable"
        world.presence.active(ALICE)
        await world.presence.settle()
        assert (await world.news(BOB))[ALICE]["presence"] == "online"


async def test_a_sync_that_says_offline_shows_nobody(world: World) -> None:
    await world.touch(ALICE, PHONE, "offline")
    assert await world.news(BOB) == {}
    assert world.presence._states.users == {}
    await world.touch(ALICE, PHONE, "online")
    await world.touch(ALICE, PHONE, "offline")
    assert (await world.news(BOB))[ALICE]["presence"] == "offline"
    # A message does not betray who hides.
    world.presence.active(ALICE)
    await world.presence.settle()
    assert await world.news(BOB) == {}


async def test_a_status_is_told_and_kept(world: World) -> None:
    with world.notifier.listen(ALICE) as alice:
        await world.presence.set(ALICE, PHONE, "online", "busy ☃")
        assert alice._has_news
    for user_id in (ALICE, BOB):
        assert (await world.news(user_id))[ALICE]["status_msg"] == "busy ☃"
    assert (await world.status(ALICE))["status_msg"] == "busy ☃"
    before = world.presence.current
    await world.presence.set(ALICE, PHONE, "online", "busy ☃")
    assert world.presence.current == before
    # Syncs leave the message alone; a PUT without one takes it away.
    await world.touch(ALICE, PHONE, "unavailable")
    assert (await world.news(BOB))[ALICE]["status_msg"] == "busy ☃"
    await world.presence.set(ALICE, PHONE, "offline", None)
    assert "status_msg" not in (await world.news(BOB))[ALICE]
    with pytest.raises(InvalidParam):
        await world.presence.set(ALICE, PHONE, "online", "x" * (MAX_STATUS_MSG_LENGTH + 1))


async def test_only_who_shares_a_room_is_told_or_may_ask(world: World) -> None:
    stranger, invited = "@stranger:hs.test", "@invited:hs.test"
    room = await world.share_room()
    await world.engine.memberships.invite(room, ALICE, invited)
    for user_id in (stranger, invited):
        await world.news(user_id)
    with world.notifier.listen(stranger) as waiter:
        await world.presence.set(ALICE, PHONE, "online", None)
        assert not waiter._has_news
    for user_id in (stranger, invited):
        assert await world.news(user_id) == {}
        world.since.clear()
        assert await world.news(user_id) == {}
        for target in (ALICE, "@nobody:hs.test"):
            with pytest.raises(Forbidden):
                await world.status(target, user_id)
    assert (await world.status(ALICE, BOB))["presence"] == "online"
    assert await world.status(BOB, ALICE) == {"presence": "offline"}
    assert await world.status(stranger) == {"presence": "offline"}


async def test_who_joins_and_who_is_there_hear_of_each_other(world: World, engine: Engine) -> None:
    room = await world.share_room()
    dave = "@dave:hs.test"
    await world.touch(ALICE)
    await world.touch(dave)
    for user_id in (ALICE, BOB, dave):
        await world.news(user_id)
    with world.notifier.listen(ALICE) as alice, world.notifier.listen(dave) as waiter:
        await engine.memberships.join(room, dave)
        await world.presence.settle()
        assert alice._has_news
        assert waiter._has_news
    assert (await world.news(ALICE)).keys() == {dave}
    assert (await world.news(dave)).keys() == {ALICE}
    # Bob shares other rooms with Alice.
    assert await world.news(BOB) == {}
    # A new name in the same room is no arrival.
    before = world.presence.current
    content = {"membership": "join", "displayname": "New"}
    await engine.writer.send(room, Draft("m.room.member", dave, content, state_key=dave))
    await world.presence.settle()
    assert world.presence.current == before
    await engine.memberships.leave(room, dave)
    await world.presence.set(ALICE, PHONE, "unavailable", None)
    assert await world.news(dave) == {}


async def test_large_rooms_do_not_make_people_see_each_other(make_world: MakeWorld) -> None:
    world = await make_world(max_room_members=2)
    room = await world.share_room(BOB, CAROL)
    for user_id in (ALICE, BOB, CAROL):
        await world.news(user_id)
    await world.touch(ALICE)
    assert await world.news(BOB) == {}
    world.since.clear()
    assert await world.news(BOB) == {}
    # Who asks is answered.
    assert (await world.status(ALICE, BOB))["presence"] == "online"
    # Carol leaves: the room is small enough.
    await world.engine.memberships.leave(room, CAROL)
    await world.presence.set(ALICE, PHONE, "unavailable", None)
    assert (await world.news(BOB))[ALICE]["presence"] == "unavailable"
    await world.engine.memberships.join(room, CAROL)
    await world.presence.settle()
    await world.presence.set(ALICE, PHONE, "online", None)
    assert await world.news(BOB) == {}


async def test_turned_off_nobody_is_told(make_world: MakeWorld) -> None:
    world = await make_world(enabled=False)
    await world.share_room(BOB)
    await world.presence.set(ALICE, PHONE, "online", "hello")
    await world.touch(ALICE)
    assert world.presence.current == 0
    assert await world.news(BOB) == {}
    assert await world.news(ALICE) == {}
    assert await world.status(ALICE, BOB) == {"presence": "offline"}
    assert world.presence._tick_timer is None
    assert not world.presence._teller.is_planned
    assert not world.presence._saver.is_planned


async def test_a_restart_remembers(world: World, make_world: MakeWorld) -> None:
    await world.presence.set(ALICE, PHONE, "online", "here")
    await world.presence.set(CAROL, PHONE, "online", "there")
    await world.presence.set(CAROL, PHONE, "offline", "gone")
    old = dict(world.since)
    await world.news(BOB)
    seen = dict(world.since)
    await world.presence.close()
    world.clock.time_ms += 5_000

    after = await make_world()
    assert after.presence.current > seen[BOB]
    # A token from before the changes finds them, one from after them nothing.
    after.since = old
    news = await after.news(BOB)
    assert (news[ALICE]["presence"], news[ALICE]["status_msg"]) == ("online", "here")
    assert (news[CAROL]["presence"], news[CAROL]["status_msg"]) == ("offline", "gone")
    after.since = seen
    assert await after.news(BOB) == {}
    assert (await after.status(ALICE))["last_active_ago"] == 5_000
    # Alice comes back in time: no news. Then she stays away.
    with after.presence.syncing(ALICE, PHONE, "online"):
        await after.pass_ms(3 * OFFLINE_AFTER_MS)
        assert await after.news(BOB) == {}
    await after.pass_ms(OFFLINE_AFTER_MS)
    assert (await after.news(BOB))[ALICE]["presence"] == "offline"
    assert (await after.status(CAROL))["status_msg"] == "gone"


async def test_who_does_not_come_back_after_a_restart_is_offline(world: World, make_world: MakeWorld) -> None:
    await world.touch(ALICE)
    await world.news(BOB)
    await world.presence.save()
    after = await make_world()
    after.since = world.since
    await after.pass_ms(2 * OFFLINE_AFTER_MS)
    assert (await after.news(BOB))[ALICE]["presence"] == "offline"


async def test_who_was_idle_is_not_active_because_the_server_restarts(
    world: World, make_world: MakeWorld
) -> None:
    with world.presence.syncing(ALICE, PHONE, "online"):
        await world.pass_ms(IDLE_AFTER_MS + TICK_MS)
    assert (await world.news(BOB))[ALICE]["presence"] == "unavailable"
    await world.presence.close()
    after = await make_world()
    after.since = world.since
    with after.presence.syncing(ALICE, PHONE, "online"):
        await after.pass_ms(2 * OFFLINE_AFTER_MS)
        assert await after.news(BOB) == {}


async def test_a_clock_that_was_set_back_does_not_hide_news(world: World, make_world: MakeWorld) -> None:
    await world.presence.set(ALICE, PHONE, "online", None)
    await world.news(BOB)
    await world.presence.close()
    world.clock.time_ms -= 3_600_000
    after = await make_world()
    after.since = world.since
    await after.presence.set(ALICE, PHONE, "online", "back")
    assert (await after.news(BOB))[ALICE]["status_msg"] == "back"


async def test_a_status_from_long_ago_is_found_when_somebody_asks(
    world: World, make_world: MakeWorld
) -> None:
    await world.presence.set(ALICE, PHONE, "online", "old")
    await world.presence.set(ALICE, PHONE, "offline", "old")
    await world.presence.close()
    world.clock.time_ms += 2 * 3_600_000
    after = await make_world()
    assert after.presence._states.users == {}
    assert (await after.status(ALICE, BOB))["status_msg"] == "old"
    # And it is still there when she is.
    await after.touch(ALICE)
    assert (await after.news(BOB))[ALICE]["status_msg"] == "old"


async def test_the_same_state_costs_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with world.presence.syncing(ALICE, PHONE, "online"):
        await world.presence.settle()
        context, before = world.presence.syncing(ALICE, PHONE, "online"), asyncio.all_tasks()
        timer, planned = world.presence._tick_timer, world.presence._teller.is_planned
        for _ in range(100):
            with world.presence.syncing(ALICE, PHONE, "online") as nothing:
                assert nothing is None
            assert world.presence.syncing(ALICE, PHONE, "online") is context
        assert asyncio.all_tasks() == before
        assert (world.presence._tick_timer, world.presence._teller.is_planned) == (timer, planned)
        assert not world.presence._changed


async def test_a_client_that_goes_away_while_it_says_something_is_heard(world: World) -> None:
    saying = asyncio.create_task(world.presence.set(ALICE, PHONE, "online", "last words"))
    # It is in the middle of telling.
    while not world.presence._teller.is_working:  # noqa: ASYNC110
        await asyncio.sleep(0)
    saying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saying
    await world.presence.settle()
    assert (await world.news(BOB))[ALICE]["status_msg"] == "last words"


async def test_a_sync_that_is_cut_off_ends(world: World) -> None:
    async def poll(waiter: Waiter) -> None:
        with world.presence.syncing(ALICE, PHONE, "online"):
            await waiter.wait(1000)

    with world.notifier.listen(ALICE) as waiter:
        polls = [asyncio.create_task(poll(waiter)) for _ in range(1)]
        await asyncio.sleep(0)
        for task in polls:
            task.cancel()
        await asyncio.gather(*polls, return_exceptions=True)
    await world.pass_ms(2 * OFFLINE_AFTER_MS)
    assert (await world.news(BOB))[ALICE]["presence"] == "offline"
    assert not world.presence._states._devices


async def test_a_thousand_users_who_come_and_go_are_told_of_and_forgotten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence_news, "_MAX_CHANGED", 100)
    for i in range(1000):
        with world.presence.syncing(f"@u{i}:hs.test", PHONE, "online"):
            pass
    await world.presence.settle()
    await world.touch(ALICE)
    # More has changed than is remembered; those who are online are kept all the same.
    assert len(world.presence._states.users) == 1001
    assert (await world.news(BOB)).keys() == {ALICE}
    await world.pass_ms(2 * OFFLINE_AFTER_MS)
    assert len(world.presence._states.users) <= 101
    assert len(world.presence._news._changed) <= 100
    assert not world.presence._states._devices
    assert world.presence._states.is_idle
    await world.presence.save()
    rows = await world.presence._store.list_rows([f"@u{i}:hs.test" for i in range(1000)])
    assert {row.state for row in rows.values()} == {"offline"}
    assert len(rows) == 1000


async def test_late_tokens_find_what_changed_among_many(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence_news, "_MAX_SCANNED", 5)
    await world.touch(ALICE)
    for i in range(20):
        await world.touch(f"@u{i}:hs.test")
    assert (await world.news(BOB)).keys() == {ALICE}
    assert await world.news(BOB) == {}


async def test_an_answer_names_a_bounded_number_of_users(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence_news, "MAX_EVENTS", 1)
    await world.touch(ALICE)
    await world.touch(CAROL)
    assert (await world.news(BOB)).keys() == {CAROL}


async def test_what_the_database_refused_is_told_and_written_later(
    world: World, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise OSError("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(PresenceStore, "list_rows", fail)
        world.presence.syncing(ALICE, PHONE, "online")
        await world.presence.settle()
        assert await world.news(BOB) == {}
    await world.presence.settle()
    assert (await world.news(BOB))[ALICE]["presence"] == "online"
    with monkeypatch.context() as patch:
        patch.setattr(PresenceStore, "set_many", fail)
        with pytest.raises(OSError, match="away"):
            await world.presence.save()
    await world.presence.save()
    rows = await PresenceStore(database).list_rows([ALICE])
    assert rows[ALICE].state == "online"


async def test_users_of_others_are_bounded_and_make_room(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence_states, "MAX_REMOTE", 3)
    states = world.presence._states
    users = [f"@u{number}:far.example" for number in range(5)]
    for user_id in users:
        states.set_remote(user_id, "online", 0, None)
    assert list(states.users) == users[:3]
    # Those who are known go on being heard, and who has gone makes room.
    states.set_remote(users[0], "offline", 0, None)
    assert states.forget(users[0])
    states.set_remote(users[4], "online", 0, None)
    states.set_remote(users[3], "online", 0, None)
    assert set(states.users) == {users[1], users[2], users[4]}
