"""One event to many servers: time until the last has it, and our CPU for each.

    .venv/bin/python -m bench.federation.fan_out --servers 500 --messages 5

A whole `hs serve` sends over HTTPS to receivers that are another process: one listener for each server, an answer
for each transaction, and no signature checks, so that only the sending is measured. The members are written into
the database; everything else is as it comes out of the box. The first message opens the connections and is shown
on its own.
"""

import argparse
import asyncio
import multiprocessing
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import aiohttp
import asyncpg
import uvloop
from aiohttp import web

from bench.load.processes import ProcessTree
from hs.storage.embedded import EmbeddedPostgres
from tests.certificates import Authority
from tests.databases import make_database, make_template
from tests.federation_town import FederatedProcess
from tests.people import Town
from tests.server_process import find_free_ports

_WAIT_S = 120


async def receive(authority: Authority, ports: Sequence[int], pipe: Connection) -> None:
    """Answer transactions; tell the pipe of each marker that all ports have seen."""
    seen: dict[bytes, set[int]] = {}

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        start = body.find(b"marker-")
        if start >= 0:
            marker = body[start : body.index(b'"', start)]
            ports_with_it = seen.setdefault(marker, set())
            ports_with_it.add(int(request.headers["Host"].rpartition(":")[2]))
            if len(ports_with_it) == len(ports):
                pipe.send((marker, time.monotonic()))
        return web.json_response({"pdus": {}})

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    context = authority.server_context()
    for port in ports:
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context, reuse_address=True).start()
    pipe.send((b"ready", 0.0))
    await asyncio.Event().wait()


def run_receivers(authority: Authority, ports: Sequence[int], pipe: Connection) -> None:
    """The receivers' process."""
    uvloop.run(receive(authority, ports, pipe))


async def wait_for(pipe: Connection, marker: bytes) -> float:
    """When the last of the receivers had it."""
    loop = asyncio.get_running_loop()
    while True:
        assert await loop.run_in_executor(None, pipe.poll, _WAIT_S), f"{marker!r} did not arrive everywhere"
        found, when_s = pipe.recv()
        if found == marker:
            return float(when_s)


async def measure(
    server: FederatedProcess, url: str, pipe: Connection, names: Sequence[str], messages: int
) -> None:
    """Make the room, send, print."""
    async with aiohttp.ClientSession() as session:
        alice = await Town(session, server.base_url, server.server_name).person("alice")
        room_id = await alice.create_room(preset="public_chat")
        server.stop()
        connection = await asyncpg.connect(url)
        await connection.execute(
            "INSERT INTO memberships (room_nid, user_id, membership, event_nid) "
            "SELECT room_nid, '@bob:' || s, 'join', 0 FROM rooms, unnest($2::text[]) AS s WHERE room_id = $1",
            room_id,
            list(names),
        )
        await connection.close()
        server.start()
        tree = ProcessTree(server.pid)
        times, costs = [], []
        for number in range(messages + 1):
            await tree.rest()
            cpu_s, begun_s = tree.cpu_s(), time.monotonic()
            await alice.say(room_id, f"marker-{number}")
            took_s = await wait_for(pipe, f"marker-{number}".encode()) - begun_s
            await tree.rest()
            times.append(took_s)
            costs.append((tree.cpu_s() - cpu_s) / len(names))
    print(f"first message, new connections: {times[0]:.2f} s, {costs[0] * 1e6:.0f} us of CPU per server")
    print(
        f"median of {messages} more: {statistics.median(times[1:]):.2f} s until the last of {len(names)} has it, "
        f"{statistics.median(costs[1:]) * 1e6:.0f} us of CPU per server"
    )


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description="One event to many servers.")
    parser.add_argument("--servers", type=int, default=500)
    parser.add_argument("--messages", type=int, default=5)
    wishes = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="hs-bench-"))
    authority = Authority(folder)
    ports = find_free_ports(wishes.servers)
    ours, theirs = multiprocessing.Pipe()
    receivers = multiprocessing.get_context("fork").Process(
        target=run_receivers, args=(authority, ports, theirs), daemon=True
    )
    receivers.start()
    names = [f"127.0.0.1:{port}" for port in ports]
    try:
        with EmbeddedPostgres.start(folder / "postgres") as postgres:
            asyncio.run(make_template(postgres.url))
            url = asyncio.run(make_database(postgres.url))
            server = FederatedProcess(folder, authority, url, {"log": {"level": "warning"}})
            server.start()
            try:
                assert asyncio.run(wait_for(ours, b"ready")) == 0.0
                asyncio.run(measure(server, url, ours, names, wishes.messages))
            finally:
                server.kill()
    finally:
        receivers.terminate()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
