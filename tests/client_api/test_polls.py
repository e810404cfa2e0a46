"""Long polls that clients cut off leave nothing running on the server."""

import asyncio
import re
from collections.abc import Callable

import aiohttp
import pytest

from tests.client_api.sync_client import bodies, joined, sync
from tests.people import Person, Town
from tests.server_fixtures import make_server  # noqa: F401
from tests.server_process import ServerProcess, find_free_ports

POLLS = 1000


class Metrics:
    """Reads gauges of a server."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session = session
        self._url = f"http://127.0.0.1:{port}/metrics"

    async def read(self, name: str) -> float:
        async with self._session.get(self._url) as response:
            found = re.search(rf"^{name} (\S+)$", await response.text(), re.MULTILINE)
        assert found is not None, f"no metric {name}"
        return float(found[1])

    async def reach(self, name: str, value: float) -> None:
        """Wait until a gauge has this value: the server has no other way to say so."""
        while await self.read(name) != value:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def open_poll(person: Person, port: int, since: str) -> asyncio.StreamWriter:
    """A connection on which a /sync has been asked for that will not be answered soon."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    request = (
        f"GET /_matrix/client/v3/sync?since={since}&timeout=100000 HTTP/1.1\r\n"
        f"Host: localhost\r\nAuthorization: Bearer {person.token}\r\n\r\n"
    )
    writer.write(request.encode())
    await writer.drain()
    return writer


@pytest.mark.faults
async def test_a_thousand_polls_that_are_cut_leave_nothing_running(
    make_server: Callable[..., ServerProcess],  # noqa: F811
) -> None:
    port, metrics_port = find_free_ports(2)
    listeners = [
        {"bind": "127.0.0.1", "port": port, "apis": ["client"]},
        {"bind": "127.0.0.1", "port": metrics_port, "apis": ["metrics"]},
    ]
    process = make_server(listeners=listeners)
    process.port, process.base_url = port, f"http://127.0.0.1:{port}"
    process.start()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        town, metrics = Town(session, process.base_url, process.server_name), Metrics(session, metrics_port)
        alice, bob = await town.people("alice", "bob")
        room_id = await alice.create_room(preset="public_chat")
        await bob.join(room_id)
        since = (await sync(alice))["next_batch"]
        polls = [await open_poll(alice, port, since) for _ in range(POLLS)]
        async with asyncio.timeout(60):
            await metrics.reach("hs_long_polls", POLLS)
            for poll in polls:
                poll.close()
            await metrics.reach("hs_long_polls", 0)
        await bob.say(room_id, "still there?")
        assert bodies(joined(await sync(alice, since), room_id)["timeline"]["events"]) == ["still there?"]
