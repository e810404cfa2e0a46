"""Typing notifications over HTTP."""

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from tests.client_api.sync_client import joined, sync
from tests.people import Answer, Person, Town
from tests.server_fixtures import make_server  # noqa: F401
from tests.server_process import ServerProcess

# Presence is news as well, and not what is waited for here.
ONLY_ROOMS: dict[str, Any] = {"presence": {"not_types": ["*"]}}


async def set_typing(person: Person, room_id: str, typing: bool, **more: Any) -> Answer:
    return await person.put("rooms", room_id, "typing", person.user_id, body={"typing": typing, **more})


def typing_in(body: Any, room_id: str) -> list[str] | None:
    """Who is typing according to this sync; None where it does not say."""
    if room_id not in body["rooms"]["join"]:
        return None
    events = joined(body, room_id)["ephemeral"]["events"]
    [user_ids] = [e["content"]["user_ids"] for e in events if e["type"] == "m.typing"] or [None]
    ids: list[str] | None = user_ids
    return ids


async def shared_room(alice: Person, *others: Person) -> str:
    room_id = await alice.create_room(preset="public_chat")
    for person in others:
        await person.join(room_id)
    return room_id


async def test_typing_is_told_by_sync(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await shared_room(alice, bob)
    before = await sync(bob)
    assert not typing_in(before, room_id)
    assert (await set_typing(alice, room_id, True, timeout=30_000)).body == {}
    started = await sync(bob, before["next_batch"])
    assert typing_in(started, room_id) == [alice.user_id]
    # Once only; but a first sync has it too.
    assert typing_in(await sync(bob, started["next_batch"]), room_id) is None
    assert typing_in(await sync(bob), room_id) == [alice.user_id]
    assert (await set_typing(alice, room_id, False)).body == {}
    assert typing_in(await sync(bob, started["next_batch"]), room_id) == []


async def test_a_long_poll_hears_of_typing_and_of_its_timeout(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await shared_room(alice, bob)
    since = (await sync(bob))["next_batch"]
    poll = asyncio.create_task(sync(bob, since, timeout=30_000, filter=ONLY_ROOMS))
    await set_typing(alice, room_id, True)
    body = await poll
    assert typing_in(body, room_id) == [alice.user_id]
    await set_typing(alice, room_id, True, timeout=200)
    body = await sync(bob, body["next_batch"], timeout=30_000, filter=ONLY_ROOMS)
    assert typing_in(body, room_id) == []


async def test_a_message_ends_typing(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await shared_room(alice, bob)
    await set_typing(alice, room_id, True)
    since = (await sync(bob))["next_batch"]
    await alice.say(room_id, "here it is")
    assert typing_in(await sync(bob, since), room_id) == []


async def test_who_leaves_is_not_typing(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await shared_room(alice, bob)
    await set_typing(bob, room_id, True)
    since = (await sync(alice))["next_batch"]
    await bob.post("rooms", room_id, "leave")
    assert typing_in(await sync(alice, since), room_id) == []
    assert (await set_typing(bob, room_id, True)).error == (403, "M_FORBIDDEN")


async def test_only_members_type_and_only_for_themselves(town: Town) -> None:
    alice, bob, carol = await town.people("alice", "bob", "carol")
    room_id = await shared_room(alice, bob)
    answer = await bob.put("rooms", room_id, "typing", alice.user_id, body={"typing": True})
    assert answer.error == (403, "M_FORBIDDEN")
    assert (await set_typing(carol, room_id, True)).error == (403, "M_FORBIDDEN")
    await alice.invite(room_id, carol.user_id)
    for typing in (True, False):
        assert (await set_typing(carol, room_id, typing)).error == (403, "M_FORBIDDEN")
    assert (await set_typing(alice, "!unknown:example.org", True)).error == (403, "M_FORBIDDEN")
    assert (await set_typing(alice, "no-room", True)).error == (400, "M_INVALID_PARAM")
    assert not typing_in(await sync(alice), room_id)
    answer = await town.visitor.put("rooms", room_id, "typing", alice.user_id, body={"typing": True})
    assert answer.error == (401, "M_MISSING_TOKEN")


@pytest.mark.parametrize(
    "body", [{}, {"typing": "yes"}, {"typing": None}, {"typing": True, "timeout": "long"}, []], ids=str
)
async def test_what_is_no_typing_state_is_refused(town: Town, body: Any) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    answer = await alice.put("rooms", room_id, "typing", alice.user_id, body=body)
    assert answer.error == (400, "M_BAD_JSON")


@pytest.mark.parametrize("timeout", [-1, 0, 10**30, None])
async def test_any_timeout_is_made_to_fit(town: Town, timeout: int | None) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    assert (await set_typing(alice, room_id, True, timeout=timeout, other=[1])).body == {}


async def test_a_restart_ends_typing_and_tokens_from_before_it_stay_good(
    make_server: Callable[..., ServerProcess],  # noqa: F811
) -> None:
    server = make_server()
    server.start()
    async with aiohttp.ClientSession() as session:
        town = Town(session, server.base_url, server.server_name)
        alice, bob = await town.people("alice", "bob")
        room_id = await shared_room(alice, bob)
        await set_typing(alice, room_id, True)
        since = (await sync(bob))["next_batch"]
    server.stop()
    server.start()
    async with aiohttp.ClientSession() as session:
        alice.session = bob.session = session
        body = await sync(bob, since)
        assert typing_in(body, room_id) in (None, [])
        await set_typing(alice, room_id, True)
        assert typing_in(await sync(bob, body["next_batch"]), room_id) == [alice.user_id]
        assert typing_in(await sync(bob, since), room_id) == [alice.user_id]


async def test_what_was_typed_before_a_restart_ends_the_typing_after_it(
    make_server: Callable[..., ServerProcess],  # noqa: F811
) -> None:
    server = make_server()
    server.start()
    async with aiohttp.ClientSession() as session:
        town = Town(session, server.base_url, server.server_name)
        alice, bob = await town.people("alice", "bob")
        room_id = await shared_room(alice, bob)
        await set_typing(alice, room_id, True)
        body = await sync(bob)
        assert typing_in(body, room_id) == [alice.user_id]
    server.stop()
    server.start()
    async with aiohttp.ClientSession() as session:
        alice.session = bob.session = session
        await alice.say(room_id, "what I was typing")
        body = await sync(bob, body["next_batch"])
        assert typing_in(body, room_id) == []
        await alice.say(room_id, "more")
        assert typing_in(await sync(bob, body["next_batch"]), room_id) is None
