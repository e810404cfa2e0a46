"""A change of an account reaches all rooms of its user, whatever the client, later changes or a stop do meanwhile."""

# ruff: noqa: F401, F811 (fixtures are imported)

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from signedjson.key import generate_signing_key

from hs.accounts.profiles import Profiles
from hs.accounts.propagation import AWAITED_ROOMS, ROOMS_AT_ONCE, AccountRooms
from hs.engine import Engine, build_engine
from hs.rooms.build import Signer
from hs.rooms.create import CreateRoom
from hs.storage.database import Database
from hs.storage.members import MemberStore
from hs.storage.profiles import ProfileStore
from hs.storage.users import UserStore
from tests.people import Person, Town
from tests.rooms.conftest import OpenGate, TurnableClock
from tests.rooms.making import state_content
from tests.server_fixtures import make_local_town

ALICE = "@alice:test.example"

Make = Callable[[], AccountRooms]
MakeTown = Callable[..., Awaitable[Town]]


@asynccontextmanager
async def held(database_url: str, room_ids: list[str]) -> AsyncIterator[None]:
    """Nothing can be committed to these rooms meanwhile."""
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await connection.fetch(
                "SELECT FROM forward_extremities WHERE room_nid = ANY("
                "SELECT room_nid FROM rooms WHERE room_id = ANY($1::text[])) FOR UPDATE",
                room_ids,
            )
            yield
    finally:
        await connection.close()


async def set_name(person: Person, name: str) -> None:
    answer = await person.put("profile", person.user_id, "displayname", body={"displayname": name})
    assert answer.status == 200, answer


async def until_stored(person: Person, name: str) -> None:
    while (await person.get("profile", person.user_id, "displayname")).body != {"displayname": name}:
        pass


async def names_in(person: Person, room_ids: list[str]) -> list[str]:
    states = [await person.state(room_id, "m.room.member", person.user_id) for room_id in room_ids]
    return [state["displayname"] for state in states]


async def until_all_heard(person: Person, room_ids: list[str], name: str) -> None:
    """Follow the person's sync until each room has the name."""
    since = None
    missing = set(room_ids)
    while missing:
        body = await person.sync(since, timeout_ms=0 if since is None else 20_000)
        since = body["next_batch"]
        for room_id, room in body["rooms"].get("join", {}).items():
            events = room["timeline"]["events"] + room.get("state", {}).get("events", [])
            if any(event["content"].get("displayname") == name for event in events):
                missing.discard(room_id)


async def make_rooms(person: Person, count: int) -> list[str]:
    return [await person.create_room() for _ in range(count)]


async def test_the_answer_comes_when_a_few_rooms_have_heard(make_local_town: MakeTown) -> None:
    alice = await (await make_local_town()).person("alice")
    rooms = await make_rooms(alice, 12)
    for name in ("one", "two"):
        await set_name(alice, name)
        assert await names_in(alice, rooms) == [name] * 12


async def test_a_later_change_takes_the_place_of_an_earlier_one(
    make_local_town: MakeTown, database_url: str
) -> None:
    alice = await (await make_local_town()).person("alice")
    rooms = await make_rooms(alice, 12)
    async with held(database_url, rooms):
        first = asyncio.create_task(set_name(alice, "first"))
        await until_stored(alice, "first")
        second = asyncio.create_task(set_name(alice, "second"))
        await until_stored(alice, "second")
    await asyncio.gather(first, second)
    await until_all_heard(alice, rooms, "second")
    have_heard_both = 0
    for room_id in rooms:
        events = (await alice.get("rooms", room_id, "messages", dir="b", limit="20")).body["chunk"]
        have_heard_both += any(event["content"].get("displayname") == "first" for event in events)
    # Only rooms whose turn it was already.
    assert have_heard_both <= ROOMS_AT_ONCE


async def test_rooms_hear_though_the_client_has_left(make_local_town: MakeTown, database_url: str) -> None:
    alice = await (await make_local_town()).person("alice")
    rooms = await make_rooms(alice, 8)
    async with held(database_url, rooms):
        change = asyncio.create_task(set_name(alice, "new"))
        await until_stored(alice, "new")
        change.cancel()
        await asyncio.gather(change, return_exceptions=True)
    await until_all_heard(alice, rooms, "new")


async def test_a_closed_account_leaves_rooms_invites_and_knocks(make_local_town: MakeTown) -> None:
    alice, bob = await (await make_local_town()).people("alice", "bob")
    joined = [await bob.create_room(preset="public_chat") for _ in range(6)]
    for room_id in joined:
        await alice.join(room_id)
    invited = await bob.create_room(invite=[alice.user_id])
    knocked = await bob.create_room(
        initial_state=[{"type": "m.room.join_rules", "content": {"join_rule": "knock"}}]
    )
    assert (await alice.post("knock", knocked)).status == 200
    name = alice.user_id[1:].partition(":")[0]
    auth = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": name},
        "password": f"{name} has a secret",
    }
    assert (await alice.post("account", "deactivate", body={"auth": auth})).status == 200
    for room_id in (*joined, invited, knocked):
        member = await bob.state(room_id, "m.room.member", alice.user_id)
        assert member["membership"] == "leave", room_id


@pytest.fixture
def profiles(database: Database) -> Profiles:
    """Profiles as they are stored."""
    return Profiles(ProfileStore(database), "test.example")


@pytest.fixture
async def engine(database: Database, profiles: Profiles) -> AsyncIterator[Engine]:
    """A room engine that has the profiles of the database."""
    signer = Signer("test.example", generate_signing_key("test"))
    engine = await build_engine(database, signer, TurnableClock(), profiles, OpenGate(), 2**20)
    await UserStore(database).insert_user(ALICE, None, False, "Alice", 0)
    yield engine
    await engine.writer.close()


@pytest.fixture
def make_account_rooms(engine: Engine, database: Database, profiles: Profiles) -> Callable[[], AccountRooms]:
    """Makes what tells the rooms, as each start of the server does."""

    def make() -> AccountRooms:
        members = MemberStore(database)
        store = ProfileStore(database)
        return AccountRooms(store, profiles, members, engine.rooms, engine.events, engine.memberships)

    return make


async def until_told(store: ProfileStore) -> None:
    while await store.list_untold_users("", 10):
        pass


async def name_of(engine: Engine, room_id: str) -> Any:
    content = await state_content(engine, await engine.rooms.get(room_id), "m.room.member", ALICE)
    return None if content is None else (content.get("displayname"), content["membership"])


async def test_nobody_waits_for_the_last_of_many_rooms(
    engine: Engine, database: Database, profiles: Profiles, make_account_rooms: Make
) -> None:
    store = ProfileStore(database)
    rooms = [await engine.creator.create(ALICE, CreateRoom()) for _ in range(AWAITED_ROOMS + 25)]
    heard: list[str] = []
    engine.committer.on_commit(lambda committed: heard.append(committed.room.room_id))
    assert await profiles.set_field(ALICE, "displayname", b'"new"')
    account_rooms = make_account_rooms()
    await account_rooms.tell_rooms(ALICE)
    # Each further room would have taken several turns of the event loop.
    assert AWAITED_ROOMS <= len(heard) <= AWAITED_ROOMS + ROOMS_AT_ONCE
    # Those that the user came to last were the first.
    assert rooms[0] not in heard
    await until_told(store)
    assert sorted(heard) == sorted(rooms)
    assert {await name_of(engine, room_id) for room_id in rooms} == {("new", "join")}
    await account_rooms.close()


@pytest.mark.parametrize("turns", [1, 2, 10, 500])
async def test_what_a_stop_interrupts_goes_on_after_the_next_start(
    engine: Engine,
    database: Database,
    database_url: str,
    profiles: Profiles,
    make_account_rooms: Make,
    turns: int,
) -> None:
    store = ProfileStore(database)
    rooms = [await engine.creator.create(ALICE, CreateRoom()) for _ in range(6)]
    before = make_account_rooms()
    assert await profiles.set_field(ALICE, "displayname", b'"new"')
    async with held(database_url, rooms):
        telling = asyncio.create_task(before.tell_rooms(ALICE))
        for _ in range(turns):
            await asyncio.sleep(0)
        await before.close()
        # Who waited is not left waiting.
        await telling
    assert list(await store.list_untold_users("", 10)) == [ALICE]
    after = make_account_rooms()
    await after.resume()
    await until_told(store)
    assert {await name_of(engine, room_id) for room_id in rooms} == {("new", "join")}
    await after.close()


async def test_a_closed_account_leaves_after_the_next_start(
    engine: Engine, database: Database, make_account_rooms: Make
) -> None:
    rooms = [await engine.creator.create(ALICE, CreateRoom()) for _ in range(3)]
    await UserStore(database).set_deactivated(ALICE)
    account_rooms = make_account_rooms()
    await account_rooms.resume()
    await until_told(ProfileStore(database))
    for room_id in rooms:
        assert (await name_of(engine, room_id))[1] == "leave"
    await account_rooms.close()


async def test_rooms_that_could_not_be_told_are_told_later(
    engine: Engine,
    database: Database,
    database_url: str,
    profiles: Profiles,
    make_account_rooms: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hs.accounts.propagation.RETRY_AFTER_S", 0.05)
    store = ProfileStore(database)
    await engine.creator.create(ALICE, CreateRoom())
    assert await profiles.set_field(ALICE, "displayname", b'"new"')
    admin = await asyncpg.connect(database_url)
    await admin.execute("ALTER TABLE local_memberships RENAME TO away")
    account_rooms = make_account_rooms()
    # The client is answered: what it asked for is stored.
    await account_rooms.tell_rooms(ALICE)
    assert list(await store.list_untold_users("", 10)) == [ALICE]
    await admin.execute("ALTER TABLE away RENAME TO local_memberships")
    await admin.close()
    await until_told(store)
    await account_rooms.close()
