"""What a restart must not change for clients that go on from before it."""

from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from tests.people import Town
from tests.server_process import ServerProcess

pytestmark = [pytest.mark.faults, pytest.mark.slow]


def texts_of(body: Any, room_id: str) -> list[str]:
    room = body.get("rooms", {}).get("join", {}).get(room_id, {"timeline": {"events": []}})
    return [event["content"].get("body") for event in room["timeline"]["events"]]


@pytest.mark.parametrize("by_kill", [False, True], ids=["stop", "kill"])
async def test_tokens_stay_good_when_the_last_commits_before_the_restart_failed(
    make_server: Callable[..., ServerProcess], by_kill: bool
) -> None:
    """A commit that is taken back leaves a gap in the stream, which tokens may have passed already."""
    server = make_server()
    server.start()
    async with aiohttp.ClientSession() as session:
        town = Town(session, server.base_url, server.server_name)
        alice, bob = await town.people("alice", "bob")
        room_id = await alice.create_room(preset="public_chat", room_alias_name="taken")
        await bob.join(room_id)
        for _ in range(3):
            refused = await alice.post("createRoom", body={"room_alias_name": "taken"})
            assert refused.error == (400, "M_ROOM_IN_USE")
        since = (await alice.sync())["next_batch"]

    if by_kill:
        server.kill()
    else:
        assert server.stop() == 0
    server.start()
    async with aiohttp.ClientSession() as session:
        alice.session = bob.session = session
        await bob.say(room_id, "after the restart")
        body = await alice.sync(since)
        assert texts_of(body, room_id) == ["after the restart"]
        assert body["next_batch"] != since


async def test_sessions_transactions_and_aliases_outlive_a_kill(
    make_server: Callable[..., ServerProcess],
) -> None:
    server = make_server()
    server.start()
    async with aiohttp.ClientSession() as session:
        town = Town(session, server.base_url, server.server_name)
        alice = await town.person("alice")
        room_id = await alice.create_room(room_alias_name="kept", name="Before")
        event_id = await alice.say(room_id, "hello", txn="t")
    server.kill_everything()
    server.start()
    async with aiohttp.ClientSession() as session:
        alice.session = session
        assert await alice.say(room_id, "hello", txn="t") == event_id
        assert (await alice.get("directory", "room", "#kept:test.example")).body["room_id"] == room_id
        assert await alice.state(room_id, "m.room.name") == {"name": "Before"}
        assert (await alice.set_state(room_id, "m.room.name", {"name": "After"})).status == 200
        assert await alice.state(room_id, "m.room.name") == {"name": "After"}
    server.stop()
