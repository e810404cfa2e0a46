"""Tags of rooms."""

import asyncio
from urllib.parse import quote

from tests.client_api.sync_client import joined, sync
from tests.people import CLIENT, Answer, Person, Town

ROOM = "!room:test.example"


async def put_tag(person: Person, tag: str, room_id: str = ROOM, **info: object) -> Answer:
    return await person.put("user", person.user_id, "rooms", room_id, "tags", tag, body=info)


async def tags(person: Person, room_id: str = ROOM) -> object:
    """The tags of the room, as they are listed and as they are account data."""
    answer = await person.get("user", person.user_id, "rooms", room_id, "tags")
    assert answer.status == 200
    assert answer.body.keys() == {"tags"}
    stored = await person.get("user", person.user_id, "rooms", room_id, "account_data", "m.tag")
    assert stored.body == answer.body or stored.status == 404
    return answer.body["tags"]


async def test_tags_come_and_go(town: Town) -> None:
    alice = await town.person("alice")
    assert await tags(alice) == {}
    assert (await put_tag(alice, "m.favourite", order=0.25)).body == {}
    await put_tag(alice, "u.Work ☃/%", **{"org.example": [1]})
    await put_tag(alice, "u.empty")
    assert await tags(alice) == {
        "m.favourite": {"order": 0.25},
        "u.Work ☃/%": {"org.example": [1]},
        "u.empty": {},
    }
    await put_tag(alice, "m.favourite", order=1)
    path = ("user", alice.user_id, "rooms", ROOM, "tags")
    for tag in ("u.Work ☃/%", "u.empty", "u.empty", "never.there"):
        answer = await alice.delete(*path, tag)
        assert (answer.status, answer.body) == (200, {})
    assert await tags(alice) == {"m.favourite": {"order": 1}}
    await alice.delete(*path, "m.favourite")
    assert await tags(alice) == {}


async def test_they_are_the_users_own_and_the_rooms(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    await put_tag(alice, "m.favourite")
    assert await tags(bob) == {}
    assert await tags(alice, "!other:test.example") == {}
    path = ("user", bob.user_id, "rooms", ROOM, "tags")
    for answer in (
        await alice.get(*path),
        await alice.put(*path, "u.x"),
        await alice.delete(*path, "u.x"),
    ):
        assert answer.error == (403, "M_FORBIDDEN")


async def test_syncs_tell_of_them(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    since, bobs = (await sync(alice))["next_batch"], (await sync(bob))["next_batch"]
    waiting = asyncio.create_task(
        sync(alice, since, timeout=30_000, filter={"presence": {"not_types": ["*"]}})
    )
    await put_tag(alice, "m.lowpriority", room_id, order=0.5)
    async with asyncio.timeout(10):
        body = await waiting
    event = {"type": "m.tag", "content": {"tags": {"m.lowpriority": {"order": 0.5}}}}
    assert joined(body, room_id)["account_data"]["events"] == [event]
    assert event in joined(await sync(alice), room_id)["account_data"]["events"]
    await alice.delete("user", alice.user_id, "rooms", room_id, "tags", "m.lowpriority")
    after = await sync(alice, body["next_batch"])
    assert joined(after, room_id)["account_data"]["events"] == [{"type": "m.tag", "content": {"tags": {}}}]
    # What is not there is no news when it goes.
    await alice.delete("user", alice.user_id, "rooms", room_id, "tags", "m.lowpriority")
    assert (await sync(alice, after["next_batch"]))["rooms"]["join"] == {}
    assert (await sync(bob, bobs))["rooms"]["join"] == {}


async def test_of_many_at_once_none_is_lost(town: Town) -> None:
    alice = await town.person("alice")
    names = [f"u.{number}" for number in range(20)]
    answers = await asyncio.gather(*(put_tag(alice, name) for name in names))
    assert {answer.status for answer in answers} == {200}
    assert await tags(alice) == {name: {} for name in names}
    path = ("user", alice.user_id, "rooms", ROOM, "tags")
    await asyncio.gather(*(alice.delete(*path, name) for name in names[1:]), put_tag(alice, "u.new"))
    assert await tags(alice) == {"u.0": {}, "u.new": {}}


async def test_what_clients_store_with_a_tag_stays_as_it_is(town: Town) -> None:
    alice = await town.person("alice")
    info: dict[str, object] = {"order": 0.1, "big": 10**30, "text": "☃\x00", "deep": [[[[{}]]]], "none": None}
    assert (await put_tag(alice, "u.a", **info)).status == 200
    assert (await put_tag(alice, "u.b", order=None)).status == 200
    assert await tags(alice) == {"u.a": info, "u.b": {}}


async def test_m_tag_of_another_shape(town: Town) -> None:
    alice = await town.person("alice")
    place = ("user", alice.user_id, "rooms", ROOM, "account_data", "m.tag")
    for content in (
        {},
        {"tags": None},
        {"tags": []},
        {"tags": {"u.odd": 5, "u.odder": {"order": "1"}}},
        {"tag": 10**30},
    ):
        assert (await alice.put(*place, body=content)).status == 200
        answer = await alice.raw("GET", f"{CLIENT}/user/{quote(alice.user_id)}/rooms/{quote(ROOM)}/tags")
        assert (answer.status, answer.body) == (200, {"tags": {}})
        assert (await put_tag(alice, "u.new")).status == 200
        assert await tags(alice) == {"u.new": {}}
        assert (await alice.delete("user", alice.user_id, "rooms", ROOM, "tags", "u.new")).status == 200


async def test_odd_tags_are_refused(town: Town) -> None:
    alice = await town.person("alice")
    invalid = (400, "M_INVALID_PARAM")
    assert (await put_tag(alice, "u." + "x" * 253)).status == 200
    for tag in ("u." + "x" * 254, "u." + "é" * 127, ""):
        assert (await put_tag(alice, tag)).error == invalid, tag
    url = f"{CLIENT}/user/{quote(alice.user_id)}/rooms/{quote(ROOM)}/tags/"
    for raw in ("%00", "%ff", "%ed%a0%80"):
        assert (await alice.raw("PUT", url + raw, b"{}")).error == invalid
        assert (await alice.raw("DELETE", url + raw)).error == invalid
    assert (await put_tag(alice, "u.x", "no room")).error == invalid
    bodies = (b"[]", b'{"order": "0.5"}', b'{"order": true}', b'{"order": {}}', b'{"order": 1e999}')
    for data in bodies:
        assert (await alice.raw("PUT", url + "u.x", data)).error == (400, "M_BAD_JSON"), data
    assert (await alice.raw("PUT", url + "u.x", b"{")).error == (400, "M_NOT_JSON")


async def test_there_is_an_end_to_them(town: Town) -> None:
    alice = await town.person("alice")
    for number in range(4):
        assert (await put_tag(alice, f"u.{number}", text="x" * 60_000)).status == 200
    before = await tags(alice)
    for number in range(4, 6):
        assert (await put_tag(alice, f"u.{number}", text="x" * 60_000)).error == (413, "M_TOO_LARGE")
    assert await tags(alice) == before
    # There is room again once something is gone.
    await alice.delete("user", alice.user_id, "rooms", ROOM, "tags", "u.0")
    assert (await put_tag(alice, "u.5", text="x" * 60_000)).status == 200
