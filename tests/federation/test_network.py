"""The network between servers of a test: what gets through, and what does not."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import aiohttp
import pytest

from tests.certificates import Authority
from tests.federation_network import Fate, Network
from tests.federation_town import FederationTown
from tests.remote_server import RemoteServer
from tests.server_process import find_free_ports


@pytest.fixture
async def three(authority: Authority, network: Network) -> AsyncIterator[list[RemoteServer]]:
    """Remotes with the network between them."""
    async with AsyncExitStack() as stack:
        remotes = []
        for port in find_free_ports(3):
            name = f"127.0.0.1:{port}"
            remote = await stack.enter_async_context(RemoteServer.start(authority, name=name))
            await stack.enter_async_context(network.switch(name, port, f"https://{remote.address}"))
            remotes.append(remote)
        yield remotes


async def reaches(here: RemoteServer, there: RemoteServer, event_id: str = "$x") -> bool:
    """Whether an answer comes back."""
    try:
        answer = await here.ask(there.name, "GET", "v1", "event", event_id)
    except aiohttp.ClientError:
        return False
    assert answer.status in (200, 404), answer
    return True


async def test_requests_pass_with_their_signatures(three: list[RemoteServer], network: Network) -> None:
    here, there, _ = three
    room = there.make_room()
    assert await reaches(here, there, room.newest.event_id)
    # The key of who asked was asked for on the way.
    assert network.link(None, here.name).passed == ["GET /_matrix/key/v2/server"]
    [request] = there.requests
    assert request.origin == here.name


async def test_a_partition_is_between_its_sides(three: list[RemoteServer], network: Network) -> None:
    a, b, c = three
    network.partition({a.name}, {b.name, c.name})
    assert [await reaches(x, y) for x, y in ((a, b), (b, a), (a, c), (b, c))] == [False, False, False, True]
    network.heal()
    assert [await reaches(x, y) for x, y in ((a, b), (b, a))] == [True, True]


async def test_answers_get_lost_after_the_request_has_arrived(
    three: list[RemoteServer], network: Network
) -> None:
    here, there, _ = three
    for fate in (Fate.LOSE_ANSWER, Fate.CUT_ANSWER):
        network.link(here.name, there.name).fate = fate
        assert not await reaches(here, there)
    assert len(there.requests) == 2


async def test_what_is_held_back_arrives_later(three: list[RemoteServer], network: Network) -> None:
    here, there, _ = three
    link = network.link(here.name, there.name)
    link.hold()
    asked = asyncio.create_task(reaches(here, there))
    assert await reaches(there, here)
    assert not asked.done()
    assert there.received("GET", "/event/") == []
    link.let_go()
    assert await asked


async def test_nobody_reaches_who_is_isolated(three: list[RemoteServer], network: Network) -> None:
    here, there, _ = three
    network.isolate(there.name)
    with pytest.raises(aiohttp.ClientError):
        await here.ask_path(there.name, "GET", "/_matrix/key/v2/server", signed=False)


async def test_our_servers_answer_on_their_names(
    make_federation: Callable[..., Awaitable[FederationTown]], remote: RemoteServer
) -> None:
    federation = await make_federation(3)
    assert len(set(federation.names)) == 3
    for town in federation.towns:
        person = await town.person()
        assert person.user_id.endswith(":" + town.server_name)
        answer = await remote.ask_path(town.server_name, "GET", "/_matrix/nothing", signed=False)
        assert answer.error == (404, "M_UNRECOGNIZED")
