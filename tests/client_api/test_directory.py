"""Room aliases and the published list of rooms."""

from typing import Any
from uuid import uuid4

import pytest

from tests.people import Town


def new_alias(town: Town) -> str:
    return f"#place-{uuid4().hex}:{town.server_name}"


async def test_an_alias_is_made_resolved_listed_and_removed(town: Town) -> None:
    alice = await town.person("alice")
    room_id, alias = await alice.create_room(), new_alias(town)
    assert (await alice.put("directory", "room", alias, body={"room_id": room_id})).body == {}
    found = await town.visitor.get("directory", "room", alias)
    assert found.body == {"room_id": room_id, "servers": [town.server_name]}
    assert (await alice.get("rooms", room_id, "aliases")).body == {"aliases": [alias]}
    assert (await alice.delete("directory", "room", alias)).body == {}
    assert (await town.visitor.get("directory", "room", alias)).error == (404, "M_NOT_FOUND")
    assert (await alice.delete("directory", "room", alias)).error == (404, "M_NOT_FOUND")
    assert (await alice.get("rooms", room_id, "aliases")).body == {"aliases": []}


async def test_an_alias_leads_to_one_room(town: Town) -> None:
    alice = await town.person("alice")
    first, second, alias = await alice.create_room(), await alice.create_room(), new_alias(town)
    await alice.put("directory", "room", alias, body={"room_id": first})
    answer = await alice.put("directory", "room", alias, body={"room_id": second})
    assert answer.error == (409, "M_UNKNOWN")
    assert (await alice.get("directory", "room", alias)).body["room_id"] == first


@pytest.mark.parametrize(
    "alias",
    ["place", "#place", "#nul\x00:test.example", "#p:elsewhere.example", "#" + "x" * 300 + ":test.example"],
)
async def test_names_that_are_no_alias_of_this_server(town: Town, alias: str) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    answer = await alice.put("directory", "room", alias, body={"room_id": room_id})
    assert answer.error == (400, "M_INVALID_PARAM")


async def test_aliases_may_be_any_text_without_colons(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    alias = f"#Füße / 100% ☕ {uuid4().hex}:{town.server_name}"
    assert (await alice.put("directory", "room", alias, body={"room_id": room_id})).status == 200
    assert (await alice.get("directory", "room", alias)).body["room_id"] == room_id


async def test_only_members_give_a_room_a_name(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id, alias = await alice.create_room(), new_alias(town)
    assert (await bob.put("directory", "room", alias, body={"room_id": room_id})).error == (
        403,
        "M_FORBIDDEN",
    )
    unknown = await bob.put("directory", "room", alias, body={"room_id": "!unheardof:test.example"})
    assert unknown.error == (404, "M_NOT_FOUND")
    wrong = await bob.put("directory", "room", alias, body={"room_id": "no room"})
    assert wrong.error == (400, "M_INVALID_PARAM")
    assert (await bob.get("rooms", room_id, "aliases")).error == (403, "M_FORBIDDEN")


async def test_who_made_an_alias_or_moderates_the_room_removes_it(town: Town) -> None:
    alice, bob, carol = await town.people("alice", "bob", "carol")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    await carol.join(room_id)
    by_bob, also_by_bob = new_alias(town), new_alias(town)
    for alias in (by_bob, also_by_bob):
        assert (await bob.put("directory", "room", alias, body={"room_id": room_id})).status == 200
    assert (await carol.delete("directory", "room", by_bob)).error == (403, "M_FORBIDDEN")
    assert (await bob.delete("directory", "room", by_bob)).status == 200
    assert (await alice.delete("directory", "room", also_by_bob)).status == 200


async def test_a_removed_alias_leaves_the_canonical_alias_event(town: Town) -> None:
    alice = await town.person("alice")
    room_id, main, other = await alice.create_room(), new_alias(town), new_alias(town)
    for alias in (main, other):
        await alice.put("directory", "room", alias, body={"room_id": room_id})
    content = {"alias": main, "alt_aliases": [other]}
    assert (await alice.set_state(room_id, "m.room.canonical_alias", content)).status == 200
    await alice.delete("directory", "room", main)
    assert await alice.state(room_id, "m.room.canonical_alias") == {"alt_aliases": [other]}
    await alice.delete("directory", "room", other)
    assert await alice.state(room_id, "m.room.canonical_alias") == {}


async def test_canonical_aliases_must_lead_here(town: Town) -> None:
    alice = await town.person("alice")
    room_id, elsewhere = await alice.create_room(), await alice.create_room()
    here, there, nowhere = new_alias(town), new_alias(town), new_alias(town)
    await alice.put("directory", "room", here, body={"room_id": room_id})
    await alice.put("directory", "room", there, body={"room_id": elsewhere})

    async def set_canonical(content: Any) -> Any:
        return (await alice.set_state(room_id, "m.room.canonical_alias", content)).error

    assert await set_canonical({"alias": there}) == (400, "M_BAD_ALIAS")
    assert await set_canonical({"alias": nowhere}) == (400, "M_BAD_ALIAS")
    assert await set_canonical({"alias": here, "alt_aliases": [there]}) == (400, "M_BAD_ALIAS")
    assert await set_canonical({"alias": "no alias"}) == (400, "M_INVALID_PARAM")
    assert await set_canonical({"alias": 5}) == (400, "M_BAD_JSON")
    assert await set_canonical({"alt_aliases": "text"}) == (400, "M_BAD_JSON")
    assert await set_canonical({"alias": here}) == (200, None)
    # What is listed already is not judged again.
    await alice.delete("directory", "room", there)
    assert await set_canonical({"alias": here, "alt_aliases": []}) == (200, None)


async def test_publishing_needs_the_level_and_a_known_room(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    parts = ("directory", "list", "room")
    assert (await town.visitor.get(*parts, room_id)).body == {"visibility": "private"}
    assert (await bob.put(*parts, room_id)).error == (403, "M_FORBIDDEN")
    assert (await alice.put(*parts, room_id)).status == 200  # public is the default
    assert (await town.visitor.get(*parts, room_id)).body == {"visibility": "public"}
    assert (await alice.put(*parts, room_id, body={"visibility": "private"})).status == 200
    assert (await town.visitor.get(*parts, room_id)).body == {"visibility": "private"}
    assert (await alice.put(*parts, room_id, body={"visibility": "loud"})).error == (400, "M_BAD_JSON")
    unknown = "!unheardof:test.example"
    assert (await town.visitor.get(*parts, unknown)).error == (404, "M_NOT_FOUND")
    assert (await alice.put(*parts, unknown)).error == (404, "M_NOT_FOUND")


async def test_an_entry_shows_what_the_room_says_about_itself(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    word = uuid4().hex
    room_id = await alice.create_room(
        visibility="public",
        name=f"Space of {word}",
        topic="All about it",
        room_alias_name=f"space-{word}",
        creation_content={"type": "m.space"},
        initial_state=[
            {"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}},
            {"type": "m.room.avatar", "content": {"url": "mxc://test.example/picture"}},
        ],
    )
    await bob.join(room_id)
    answer = await bob.post("publicRooms", body={"filter": {"generic_search_term": word.upper()}})
    assert answer.body["chunk"] == [
        {
            "room_id": room_id,
            "name": f"Space of {word}",
            "topic": "All about it",
            "canonical_alias": f"#space-{word}:{town.server_name}",
            "avatar_url": "mxc://test.example/picture",
            "join_rule": "public",
            "room_type": "m.space",
            "world_readable": True,
            "guest_can_join": False,
            "num_joined_members": 2,
        }
    ]
    assert answer.body["total_room_count_estimate"] == 1


async def test_a_redacted_name_is_gone_from_the_list(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room(visibility="public", name="Offensive")
    shown = {room["room_id"]: room for room in (await alice.post("publicRooms")).body["chunk"]}
    assert shown[room_id]["name"] == "Offensive"
    event = await alice.set_state(room_id, "m.room.name", {"name": "Offensive"})
    await alice.put("rooms", room_id, "redact", event.body["event_id"], "t")
    shown = {room["room_id"]: room for room in (await alice.post("publicRooms")).body["chunk"]}
    assert "name" not in shown[room_id]


async def test_rooms_are_filtered_by_type(town: Town) -> None:
    alice = await town.person("alice")
    word = uuid4().hex
    plain = await alice.create_room(visibility="public", name=word)
    space = await alice.create_room(visibility="public", name=word, creation_content={"type": "m.space"})

    async def find(room_types: Any) -> set[str]:
        wanted = {"generic_search_term": word, "room_types": room_types}
        answer = await alice.post("publicRooms", body={"filter": wanted})
        return {room["room_id"] for room in answer.body["chunk"]}

    assert await find(None) == {plain, space}
    assert await find([None]) == {plain}
    assert await find(["m.space"]) == {space}
    assert await find(["m.space", None]) == {plain, space}
    assert await find([]) == set()


async def test_pages_cover_the_list_without_loss_or_repeats(town: Town) -> None:
    alice = await town.person("alice")
    word = uuid4().hex
    made = [await alice.create_room(visibility="public", name=f"{word} {number}") for number in range(7)]

    async def page(since: str | None) -> Any:
        body = {"limit": 3, "filter": {"generic_search_term": word}} | ({"since": since} if since else {})
        return (await alice.post("publicRooms", body=body)).body

    pages = [await page(None)]
    while "next_batch" in pages[-1]:
        pages.append(await page(pages[-1]["next_batch"]))
    assert [len(p["chunk"]) for p in pages] == [3, 3, 1]
    assert [room["room_id"] for p in pages for room in p["chunk"]] == made
    assert "prev_batch" not in pages[0]
    back = await page(pages[2]["prev_batch"])
    assert back["chunk"] == pages[1]["chunk"]
    assert (await page(back["prev_batch"]))["chunk"] == pages[0]["chunk"]


async def test_larger_rooms_come_first(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    word = uuid4().hex
    small = await alice.create_room(visibility="public", name=word)
    large = await alice.create_room(visibility="public", name=word)
    await bob.join(large)
    answer = await alice.post("publicRooms", body={"filter": {"generic_search_term": word}})
    assert [room["room_id"] for room in answer.body["chunk"]] == [large, small]
    await alice.post("rooms", small, "leave")
    answer = await alice.post("publicRooms", body={"filter": {"generic_search_term": word}})
    assert [room["room_id"] for room in answer.body["chunk"]] == [large]


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ({"since": "elsewhere"}, (400, "M_INVALID_PARAM")),
        ({"limit": "-1"}, (400, "M_INVALID_PARAM")),
        ({"limit": "many"}, (400, "M_INVALID_PARAM")),
        ({"server": "other.example"}, (404, "M_NOT_FOUND")),
    ],
)
async def test_wrong_queries_are_told_what_is_wrong(town: Town, query: dict[str, str], error: Any) -> None:
    assert (await town.visitor.get("publicRooms", **query)).error == error
    assert (await town.visitor.get("publicRooms", limit="1")).status == 200


async def test_searching_needs_an_account(town: Town) -> None:
    assert (await town.visitor.post("publicRooms")).error == (401, "M_MISSING_TOKEN")
