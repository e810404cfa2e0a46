"""Two homeservers lose sight of each other, go on by themselves, and come together again."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest

from hs.storage.embedded import EmbeddedPostgres
from tests.certificates import Authority
from tests.databases import make_database
from tests.eyes import Eyes
from tests.federation_network import Network
from tests.federation_town import FederatedProcess
from tests.interop.pairs import Pair, SharedRoom, history, join_by, state_ids, texts
from tests.people import Town
from tests.server_fixtures import make_server_folder
from tests.server_process import find_free_ports
from tests.synapse_server import ForeignTown, SynapseServer

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]

# Synapse asks a few times with long pauses before it says that nobody is there.
_IMPATIENT = {
    "federation": {
        "client_timeout": "5s",
        "max_long_retries": 0,
        "max_short_retries": 0,
        "destination_min_retry_interval": "1s",
        "destination_max_retry_interval": "1s",
    }
}


def _list_pairs() -> list[str]:
    return os.environ.get("HS_INTEROP_PAIRS", "hs-synapse").split(",")


@asynccontextmanager
async def _towns(
    kinds: Sequence[str], authority: Authority, network: Network, postgres: EmbeddedPostgres
) -> AsyncIterator[list[Town]]:
    """Servers with the network between them: "hs" is ours."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        towns: list[Town] = []
        for kind, port in zip(kinds, find_free_ports(len(kinds)), strict=True):
            folder = make_server_folder()
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            server: FederatedProcess | SynapseServer
            if kind == "synapse":
                server = SynapseServer(folder, authority, _IMPATIENT, port)
            else:
                url = await make_database(postgres.url)
                server = FederatedProcess(folder, authority, url, switch_port=port)
            # They wait for nobody on our side, but the switches must be served meanwhile.
            await asyncio.to_thread(server.start)
            stack.push_async_callback(asyncio.to_thread, server.stop)
            behind = f"https://127.0.0.1:{server.federation_port}"
            await stack.enter_async_context(network.switch(server.server_name, port, behind))
            make_town = ForeignTown if kind == "synapse" else Town
            towns.append(make_town(session, server.base_url, server.server_name))
        stack.push_async_callback(network.close)
        yield towns


@pytest.fixture(params=_list_pairs())
async def split_pair(
    request: pytest.FixtureRequest, authority: Authority, network: Network, postgres: EmbeddedPostgres
) -> AsyncIterator[Pair]:
    """Two servers with the network between them."""
    async with _towns(request.param.split("-"), authority, network, postgres) as towns:
        yield Pair(*towns)


async def come_together(room: SharedRoom) -> None:
    """Talk until each hears the other; who has met only silence asks again now and then."""
    both = ((room.alice, room.bob_sees), (room.bob, room.alice_sees))
    for person, other_sees in both:
        for number in range(20):
            said = await person.say(room.room_id, f"do you hear me, {number}")
            try:
                async with asyncio.timeout(2):
                    await other_sees.event(room.room_id, said)
                break
            except TimeoutError:
                continue
        else:
            raise AssertionError(f"{person.user_id} is never heard")


async def test_a_netsplit_heals(split_pair: Pair, network: Network) -> None:
    room = await split_pair.shared_room()
    levels = await room.alice.state(room.room_id, "m.room.power_levels")
    levels["users"] = levels.get("users", {}) | {room.bob.user_id: 50}
    await room.set_state(room.alice, "m.room.power_levels", levels)
    network.partition({split_pair.here.server_name}, {split_pair.there.server_name})

    names = ("here", "there")
    said = []
    for name, person in zip(names, (room.alice, room.bob), strict=True):
        for number in range(30):
            said.append(f"{number} said {name}")
            await person.say(room.room_id, said[-1])
        topic = await person.set_state(room.room_id, "m.room.topic", {"topic": f"set {name}"})
        own = await person.set_state(room.room_id, "org.example.side", {"from": name}, name)
        assert (topic.status, own.status) == (200, 200)
    await room.alice_sees.look()
    assert not any("there" in text for text in room.alice_sees.texts(room.room_id))

    network.heal()
    await come_together(room)
    for person in (room.alice, room.bob):
        heard = texts(await history(person, room.room_id))
        assert set(said) <= set(heard), set(said) - set(heard)
        for name in names:
            assert await person.state(room.room_id, "org.example.side", name) == {"from": name}
    await room.check_same_state()


@pytest.mark.parametrize("kinds", ["hs-hs-synapse", "hs-synapse-hs"])
async def test_who_cannot_hear_somebody_learns_it_from_who_can(
    kinds: str, authority: Authority, network: Network, postgres: EmbeddedPostgres
) -> None:
    """Two servers do not reach each other, and a third one reaches both."""
    async with _towns(kinds.split("-"), authority, network, postgres) as towns:
        people = [await town.person(f"p{number}") for number, town in enumerate(towns)]
        first, second, third = (Eyes(person) for person in people)
        room_id = await people[0].create_room(
            preset="public_chat", power_level_content_override={"state_default": 0}
        )
        for person in people[1:]:
            await join_by(person, room_id, towns[0].server_name)
        for person in people:
            await first.sees_member(room_id, person.user_id, "join")
            await second.sees_member(room_id, person.user_id, "join")
        network.partition({towns[0].server_name}, {towns[1].server_name})

        for hidden, other in ((first, second), (second, first)):
            said = [await hidden.person.say(room_id, f"{number}") for number in range(5)]
            topic = {"topic": f"set by {hidden.person.user_id}"}
            assert (await hidden.person.set_state(room_id, "m.room.topic", topic)).status == 200
            await third.sees_state(room_id, "m.room.topic", topic)
            # What the third builds on it leads there.
            passed_on = await third.person.say(room_id, "have you heard?")
            for event_id in [passed_on, *said]:
                await other.event(room_id, event_id)
            await other.sees_state(room_id, "m.room.topic", topic)

        network.heal()
        states = [await state_ids(person, room_id) for person in people]
        assert states[0] == states[1] == states[2]
