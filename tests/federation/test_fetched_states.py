"""States that other servers tell: only what we lack of them is fetched, and all of it or nothing counts."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from hs.storage.database import Database
from tests.eyes import Eyes
from tests.federation_town import FederationTown
from tests.people import Person, Town
from tests.remote_room import RemoteRoom
from tests.remote_scripts import refuse
from tests.remote_server import RemoteServer
from tests.room_builder import BuiltEvent

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
async def federation(make_federation: Callable[..., Awaitable[FederationTown]]) -> FederationTown:
    """A server in this process."""
    return await make_federation(1)


@pytest.fixture
def town(federation: FederationTown) -> Town:
    """Its people."""
    return federation.towns[0]


@pytest.fixture
async def database(federation: FederationTown) -> AsyncIterator[Database]:
    """Its database."""
    opened = await Database.connect(federation.database_urls[0], pool_size=1)
    yield opened
    await opened.close()


async def enter_crowd(town: Town, remote: RemoteServer, members: int) -> tuple[RemoteRoom, Person]:
    """A room with this many of the remote's users and one of ours."""
    bob, room = await town.person("bob"), remote.make_room()
    for number in range(members):
        user = remote.user(f"user{number}")
        room.member(user, user, "join")
    answer = await bob.ask("POST", "join", room.room_id, query={"via": remote.name})
    assert answer.status == 200, answer
    return room, bob


def miss(room: RemoteRoom, remote: RemoteServer, count: int) -> tuple[list[BuiltEvent], BuiltEvent]:
    """State that we are not told of, a message in between, and one behind the gap."""
    alice = remote.user("alice")
    missed = [room.send(f"org.test.{n}", alice, {"n": n}, state_key="") for n in range(count)]
    room.say(alice, "in the gap")
    last = room.say(alice, "after the gap")
    remote.script("POST", "/get_missing_events/", refuse(404, "M_NOT_FOUND"))
    return missed, last


def asked_events(remote: RemoteServer) -> set[str]:
    """The ids of events that were asked for one by one."""
    return {request.parts[-1] for request in remote.received("GET", "/v1/event/")}


async def test_few_missing_events_are_asked_for_one_by_one(town: Town, remote: RemoteServer) -> None:
    room, bob = await enter_crowd(town, remote, 50)
    missed, last = miss(room, remote, 3)
    answer = await remote.send(town.server_name, last)
    assert answer.body == {"pdus": {last.event_id: {}}}
    await Eyes(bob).event(room.room_id, last.event_id)
    assert await bob.state(room.room_id, "org.test.2") == {"n": 2}
    asked = asked_events(remote)
    assert {event.event_id for event in missed} <= asked
    # Beside them at most the event in the gap: nothing that we have is asked for.
    assert len(asked) <= len(missed) + 1
    assert not remote.received("GET", "/v1/state/")


async def test_where_a_tenth_is_missing_all_of_it_is_asked_for_at_once(
    town: Town, remote: RemoteServer
) -> None:
    room, bob = await enter_crowd(town, remote, 50)
    missed, last = miss(room, remote, 15)
    answer = await remote.send(town.server_name, last)
    assert answer.body == {"pdus": {last.event_id: {}}}
    await Eyes(bob).event(room.room_id, last.event_id)
    assert await bob.state(room.room_id, "org.test.14") == {"n": 14}
    assert len(remote.received("GET", "/v1/state/")) == 1
    assert not asked_events(remote) & {event.event_id for event in missed}


@pytest.mark.parametrize("count", [3, 15])
async def test_a_state_of_which_a_part_is_not_given_counts_for_nothing(
    town: Town, database: Database, remote: RemoteServer, count: int
) -> None:
    room, bob = await enter_crowd(town, remote, 50)
    missed, last = miss(room, remote, count)
    room.withheld.add(missed[1].event_id)
    assert (await remote.send(town.server_name, last)).status == 200
    ids = [event.event_id for event in (*missed, last)]
    assert await database.fetch("SELECT event_id FROM events WHERE event_id = ANY($1)", ids) == []
    assert await bob.state(room.room_id, "org.test.0") is None
    # The room goes on, and once all of it is given, so does this branch.
    room.withheld.clear()
    again = await remote.send(town.server_name, last)
    assert again.body == {"pdus": {last.event_id: {}}}
    assert await bob.state(room.room_id, "org.test.1") == {"n": 1}
