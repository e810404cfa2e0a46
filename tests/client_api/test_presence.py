"""Presence over HTTP."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from tests.client_api.sync_client import sync
from tests.people import Answer, Person, Town
from tests.server_fixtures import make_server  # noqa: F401
from tests.server_process import ServerProcess


async def set_status(person: Person, presence: str, **more: Any) -> Answer:
    return await person.put("presence", person.user_id, "status", body={"presence": presence, **more})


async def get_status(viewer: Person, person: Person) -> Any:
    answer = await viewer.get("presence", person.user_id, "status")
    assert answer.status == 200, answer
    return answer.body


def presence_in(body: Any) -> dict[str, Any]:
    """Content of the m.presence events by user."""
    return {event["sender"]: event["content"] for event in body["presence"]["events"]}


async def until_told(person: Person, since: str, of: Person, **wanted: Any) -> str:
    """The token of the sync that tells of a user's presence what is wanted."""
    while True:
        body = await sync(person, since, timeout=30_000)
        since = body["next_batch"]
        content = presence_in(body).get(of.user_id, {})
        if wanted.items() <= content.items():
            return since


async def pair(town: Town) -> tuple[Person, Person]:
    """Two who share a room."""
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    return alice, bob


async def test_a_status_is_told_to_who_shares_a_room(town: Town) -> None:
    alice, bob = await pair(town)
    since = (await sync(bob))["next_batch"]
    answer = await set_status(alice, "unavailable", status_msg="lunch")
    assert (answer.status, answer.body) == (200, {})
    content = presence_in(await sync(bob, since))[alice.user_id]
    assert (content["presence"], content["status_msg"]) == ("unavailable", "lunch")
    assert (await get_status(bob, alice))["status_msg"] == "lunch"
    own = await get_status(alice, alice)
    assert (own["presence"], own["status_msg"]) == ("unavailable", "lunch")
    # The own devices hear of it as well.
    assert alice.user_id in presence_in(await sync(alice, since, set_presence="unavailable"))


async def test_who_syncs_is_online(town: Town) -> None:
    alice, bob = await pair(town)
    since = (await sync(bob, set_presence="offline"))["next_batch"]
    assert (await get_status(alice, bob))["presence"] == "offline"
    waiting = asyncio.create_task(until_told(bob, since, alice, presence="online", currently_active=True))
    body = await sync(alice)
    # The first sync shows oneself, and who else is there.
    assert presence_in(body)[alice.user_id]["presence"] == "online"
    await waiting
    assert (await get_status(bob, alice))["presence"] == "online"
    await sync(alice, set_presence="unavailable")
    assert (await get_status(bob, alice))["presence"] == "unavailable"
    await sync(alice, set_presence="offline")
    assert (await get_status(bob, alice))["presence"] == "offline"


async def test_activity_brings_back_from_unavailable(town: Town) -> None:
    alice, bob = await pair(town)
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    await set_status(alice, "unavailable")
    since = (await sync(bob))["next_batch"]
    await alice.put("rooms", room_id, "typing", alice.user_id, body={"typing": True})
    await until_told(bob, since, alice, presence="online")


async def test_strangers_may_not_ask(town: Town) -> None:
    alice, carol = await town.people("alice", "carol")
    await set_status(alice, "online", status_msg="private")
    answer = await carol.get("presence", alice.user_id, "status")
    assert answer.error == (403, "M_FORBIDDEN")
    # Nor learn who exists.
    unknown = await carol.get("presence", "@nobody:example.org", "status")
    assert unknown.body == answer.body
    assert (await carol.get("presence", "nobody", "status")).error == (400, "M_INVALID_PARAM")
    assert alice.user_id not in presence_in(await sync(carol))
    # An invitation is not enough.
    room_id = await alice.create_room(preset="private_chat")
    await alice.invite(room_id, carol.user_id)
    assert (await carol.get("presence", alice.user_id, "status")).error == (403, "M_FORBIDDEN")
    assert alice.user_id not in presence_in(await sync(carol))
    # The room is.
    since = (await sync(carol))["next_batch"]
    await carol.join(room_id)
    await until_told(carol, since, alice, presence="online", status_msg="private")
    await carol.post("rooms", room_id, "leave")
    assert (await carol.get("presence", alice.user_id, "status")).error == (403, "M_FORBIDDEN")


async def test_everybody_speaks_for_themselves(town: Town) -> None:
    alice, bob = await pair(town)
    answer = await bob.put("presence", alice.user_id, "status", body={"presence": "online"})
    assert answer.error == (403, "M_FORBIDDEN")
    answer = await town.visitor.put("presence", alice.user_id, "status", body={"presence": "online"})
    assert answer.error == (401, "M_MISSING_TOKEN")
    assert (await town.visitor.get("presence", alice.user_id, "status")).error == (401, "M_MISSING_TOKEN")


@pytest.mark.parametrize(
    "body", [{}, {"presence": "asleep"}, {"presence": None}, {"presence": "online", "status_msg": 1}], ids=str
)
async def test_what_is_no_presence_is_refused(town: Town, body: Any) -> None:
    alice = await town.person("alice")
    answer = await alice.put("presence", alice.user_id, "status", body=body)
    assert answer.error == (400, "M_BAD_JSON")


async def test_status_messages_are_bounded_and_may_hold_anything(town: Town) -> None:
    alice = await town.person("alice")
    answer = await set_status(alice, "online", status_msg="x" * 1001)
    assert answer.error == (400, "M_INVALID_PARAM")
    for text, kept in (("☃" * 1000, "☃" * 1000), ("a\x00b", "a\ufffdb"), ("", None), (None, None)):
        assert (await set_status(alice, "online", status_msg=text)).status == 200
        assert (await get_status(alice, alice)).get("status_msg") == kept


async def test_a_filter_keeps_presence_out(town: Town) -> None:
    alice, bob = await pair(town)
    await set_status(alice, "online")
    for presence in ({"not_types": ["m.presence"]}, {"senders": [bob.user_id]}):
        assert alice.user_id not in presence_in(await sync(bob, filter={"presence": presence}))
    assert alice.user_id in presence_in(await sync(bob, filter={"presence": {"senders": [alice.user_id]}}))


async def test_turned_off_it_says_nothing(make_local_town: Callable[..., Awaitable[Town]]) -> None:
    alice, bob = await pair(await make_local_town(presence={"enabled": False}))
    since = (await sync(bob))["next_batch"]
    assert (await set_status(alice, "online", status_msg="hello")).body == {}
    for body in (await sync(bob, since), await sync(bob), await sync(alice)):
        assert presence_in(body) == {}
    assert await get_status(bob, alice) == {"presence": "offline"}


async def test_large_rooms_are_left_alone(make_local_town: Callable[..., Awaitable[Town]]) -> None:
    alice, bob = await pair(await make_local_town(presence={"max_room_members": 1}))
    await set_status(alice, "online")
    assert presence_in(await sync(bob)).keys() == {bob.user_id}
    assert (await get_status(bob, alice))["presence"] == "online"


@pytest.mark.parametrize("by_kill", [False, True], ids=["stop", "kill"])
async def test_a_restart_remembers(
    make_server: Callable[..., ServerProcess],  # noqa: F811
    by_kill: bool,
) -> None:
    server = make_server()
    server.start()
    async with aiohttp.ClientSession() as session:
        town = Town(session, server.base_url, server.server_name)
        alice, bob = await pair(town)
        await set_status(alice, "online", status_msg="hello")
        since = (await sync(bob))["next_batch"]
    if by_kill:
        server.kill()
    else:
        assert server.stop() == 0
    server.start()
    async with aiohttp.ClientSession() as session:
        alice.session = bob.session = session
        if not by_kill:
            assert (await get_status(bob, alice))["status_msg"] == "hello"
            # Nothing has changed.
            assert alice.user_id not in presence_in(await sync(bob, since))
        await set_status(alice, "unavailable", status_msg="changed")
        assert presence_in(await sync(bob, since))[alice.user_id]["status_msg"] == "changed"
