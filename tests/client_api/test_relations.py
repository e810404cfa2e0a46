"""What relates to an event: bundled with it, listed page by page, in threads, and asked for by filters."""

import itertools
import json
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tests.client_api.sync_client import joined, sync
from tests.people import Answer, Person, Town

_numbers = itertools.count(1)


async def send(person: Person, room_id: str, content: dict[str, Any], type: str = "m.room.message") -> str:
    """The id of an event."""
    answer = await person.put("rooms", room_id, "send", type, f"rel{next(_numbers)}", body=content)
    assert answer.status == 200, answer
    event_id: str = answer.body["event_id"]
    return event_id


async def relate(
    person: Person, room_id: str, rel_type: str, event_id: str, type: str = "m.room.message", **content: Any
) -> str:
    """The id of an event that relates to another."""
    relation = {"rel_type": rel_type, "event_id": event_id} | content.pop("relation", {})
    body = {"msgtype": "m.text", "body": "child", "m.relates_to": relation} | content
    return await send(person, room_id, body, type)


async def edit(person: Person, room_id: str, event_id: str, text: str) -> str:
    """The id of an edit."""
    new = {"msgtype": "m.text", "body": text}
    return await relate(person, room_id, "m.replace", event_id, **{"body": f"* {text}", "m.new_content": new})


async def ask(person: Person, path: str, **query: Any) -> Answer:
    """The answer to GET /_matrix/client/v1/rooms/..."""
    texts = {name.rstrip("_"): value for name, value in query.items() if value is not None}
    suffix = f"?{urlencode(texts)}" if texts else ""
    return await person.raw("GET", f"/_matrix/client/v1/rooms/{path}{suffix}")


async def relations(person: Person, room_id: str, *parts: str, **query: Any) -> Any:
    """The body of a successful GET /relations."""
    path = "/".join(quote(part, safe="") for part in (room_id, "relations", *parts))
    answer = await ask(person, path, **query)
    assert answer.status == 200, answer
    return answer.body


async def threads(person: Person, room_id: str, **query: Any) -> Any:
    """The body of a successful GET /threads."""
    answer = await ask(person, f"{quote(room_id, safe='')}/threads", **query)
    assert answer.status == 200, answer
    return answer.body


async def bundle(person: Person, room_id: str, event_id: str) -> Any:
    """What GET /event bundles with an event."""
    answer = await person.get("rooms", room_id, "event", event_id)
    assert answer.status == 200, answer
    return answer.body["unsigned"].get("m.relations", {})


async def ignore(person: Person, *users: Person) -> None:
    """Ignore these, and nobody else."""
    content = {"ignored_users": {user.user_id: {} for user in users}}
    answer = await person.put("user", person.user_id, "account_data", "m.ignored_user_list", body=content)
    assert answer.status == 200, answer


async def redact(person: Person, room_id: str, event_id: str) -> None:
    answer = await person.put("rooms", room_id, "redact", event_id, f"red{next(_numbers)}", body={})
    assert answer.status == 200, answer


async def meet(town: Town, *names: str, **wishes: Any) -> tuple[str, list[Person]]:
    """A room with people in it, the first of them its creator."""
    people = await town.people(*names)
    room_id = await people[0].create_room(**{"preset": "public_chat", **wishes})
    for person in people[1:]:
        await person.join(room_id)
    return room_id, people


def ids(events: list[Any]) -> list[str]:
    return [event["event_id"] for event in events]


class TestEdits:
    async def test_the_newest_edit_is_bundled_whole_and_the_content_stays(self, town: Town) -> None:
        room_id, [alice, bob] = await meet(town, "alice", "bob")
        event_id = await alice.say(room_id, "first")
        assert await bundle(bob, room_id, event_id) == {}
        await edit(alice, room_id, event_id, "second")
        newest = await edit(alice, room_id, event_id, "third")
        body = (await bob.get("rooms", room_id, "event", event_id)).body
        assert body["content"]["body"] == "first"
        shown = body["unsigned"]["m.relations"]["m.replace"]
        assert shown["event_id"] == newest
        assert shown["content"]["m.new_content"]["body"] == "third"
        assert shown["room_id"] == room_id
        assert (shown["sender"], shown["type"]) == (alice.user_id, "m.room.message")
        assert shown["unsigned"]["membership"] == "join"

    async def test_invalid_edits_are_left_out(self, town: Town) -> None:
        room_id, [alice, bob] = await meet(town, "alice", "bob")
        event_id = await alice.say(room_id, "first")
        await edit(bob, room_id, event_id, "not mine")
        await relate(alice, room_id, "m.replace", event_id)
        new = {"m.new_content": {"body": "x"}}
        await relate(alice, room_id, "m.replace", event_id, "org.example.other", **new)
        relation = {"rel_type": "m.replace", "event_id": event_id}
        await alice.set_state(room_id, "m.room.message", {"m.relates_to": relation, **new}, "key")
        assert await bundle(alice, room_id, event_id) == {}
        valid = await edit(alice, room_id, event_id, "second")
        assert (await bundle(alice, room_id, event_id))["m.replace"]["event_id"] == valid
        # Nor can an edit be edited.
        await edit(alice, room_id, valid, "third")
        assert await bundle(alice, room_id, valid) == {}

    async def test_a_redacted_edit_is_undone_and_a_redacted_event_has_none(self, town: Town) -> None:
        room_id, [alice] = await meet(town, "alice")
        event_id = await alice.say(room_id, "first")
        second = await edit(alice, room_id, event_id, "second")
        third = await edit(alice, room_id, event_id, "third")
        assert (await bundle(alice, room_id, event_id))["m.replace"]["event_id"] == third
        await redact(alice, room_id, third)
        assert (await bundle(alice, room_id, event_id))["m.replace"]["event_id"] == second
        await redact(alice, room_id, event_id)
        assert await bundle(alice, room_id, event_id) == {}

    async def test_encrypted_edits_need_no_visible_content(self, town: Town) -> None:
        room_id, [alice] = await meet(town, "alice")
        event_id = await send(alice, room_id, {"ciphertext": "1"}, "m.room.encrypted")
        newest = await relate(alice, room_id, "m.replace", event_id, "m.room.encrypted", ciphertext="2")
        assert (await bundle(alice, room_id, event_id))["m.replace"]["event_id"] == newest

    async def test_state_events_get_nothing_bundled(self, town: Town) -> None:
        room_id, [alice] = await meet(town, "alice")
        event_id = (await alice.set_state(room_id, "m.room.topic", {"topic": "x"})).body["event_id"]
        await relate(alice, room_id, "m.reference", event_id)
        assert await bundle(alice, room_id, event_id) == {}


class TestThreads:
    async def test_a_root_tells_of_its_thread(self, town: Town) -> None:
        room_id, [alice, bob, carol] = await meet(town, "alice", "bob", "carol")
        root = await alice.say(room_id, "root")
        await relate(alice, room_id, "m.thread", root)
        newest = await relate(bob, room_id, "m.thread", root, body="newest")
        changed = await edit(bob, room_id, newest, "edited")
        for person, takes_part in ((alice, True), (bob, True), (carol, False)):
            thread = (await bundle(person, room_id, root))["m.thread"]
            assert thread["count"] == 2
            assert thread["current_user_participated"] is takes_part
            assert thread["latest_event"]["event_id"] == newest
            latest = thread["latest_event"]["unsigned"]["m.relations"]
            assert latest["m.replace"]["event_id"] == changed

    async def test_redacted_and_ignored_messages_do_not_count(self, town: Town) -> None:
        room_id, [alice, bob, carol] = await meet(town, "alice", "bob", "carol")
        root = await alice.say(room_id, "root")
        kept = await relate(bob, room_id, "m.thread", root)
        ignored = await relate(carol, room_id, "m.thread", root)
        gone = await relate(bob, room_id, "m.thread", root)
        assert (await bundle(alice, room_id, root))["m.thread"]["count"] == 3
        await redact(bob, room_id, gone)
        thread = (await bundle(alice, room_id, root))["m.thread"]
        assert (thread["count"], thread["latest_event"]["event_id"]) == (2, ignored)
        await ignore(alice, carol)
        thread = (await bundle(alice, room_id, root))["m.thread"]
        assert (thread["count"], thread["latest_event"]["event_id"]) == (1, kept)
        assert (await bundle(bob, room_id, root))["m.thread"]["count"] == 2
        await redact(bob, room_id, kept)
        assert await bundle(alice, room_id, root) == {}

    async def test_no_thread_starts_from_a_relation(self, town: Town) -> None:
        room_id, [alice] = await meet(town, "alice")
        root = await alice.say(room_id, "root")
        child = await relate(alice, room_id, "m.thread", root)
        content = {
            "msgtype": "m.text",
            "body": "x",
            "m.relates_to": {"rel_type": "m.thread", "event_id": child},
        }
        answer = await alice.put("rooms", room_id, "send", "m.room.message", "nested", body=content)
        assert answer.error == (400, "M_UNKNOWN")
        # What answers somebody relates to nothing in this sense.
        reply = await send(
            alice, room_id, {"body": "x", "m.relates_to": {"m.in_reply_to": {"event_id": root}}}
        )
        await relate(alice, room_id, "m.thread", reply)
        assert (await bundle(alice, room_id, reply))["m.thread"]["count"] == 1

    async def test_who_left_sees_the_thread_as_it_was(self, town: Town) -> None:
        room_id, [alice, bob] = await meet(town, "alice", "bob")
        root = await alice.say(room_id, "root")
        seen = await relate(alice, room_id, "m.thread", root)
        await bob.post("rooms", room_id, "leave")
        await relate(alice, room_id, "m.thread", root)
        await edit(alice, room_id, root, "later")
        found = await bundle(bob, room_id, root)
        assert found["m.thread"]["count"] == 1
        assert found["m.thread"]["latest_event"]["event_id"] == seen
        assert "m.replace" not in found
        assert (await bundle(alice, room_id, root))["m.thread"]["count"] == 2


async def test_references_are_listed_and_annotations_are_not(town: Town) -> None:
    room_id, [alice, bob] = await meet(town, "alice", "bob")
    event_id = await alice.say(room_id, "first")
    await relate(bob, room_id, "m.annotation", event_id, "m.reaction", relation={"key": "x"})
    assert await bundle(alice, room_id, event_id) == {}
    one = await relate(alice, room_id, "m.reference", event_id)
    two = await relate(bob, room_id, "m.reference", event_id, "org.example.other")
    assert await bundle(alice, room_id, event_id) == {
        "m.reference": {"chunk": [{"event_id": one}, {"event_id": two}]}
    }
    await ignore(alice, bob)
    assert await bundle(alice, room_id, event_id) == {"m.reference": {"chunk": [{"event_id": one}]}}


async def test_every_way_to_read_an_event_bundles(town: Town) -> None:
    room_id, [alice, bob] = await meet(town, "alice", "bob")
    event_id = await alice.say(room_id, "first")
    child = await relate(alice, room_id, "m.thread", event_id)
    newest = await edit(alice, room_id, child, "second")
    page = (await bob.get("rooms", room_id, "messages", dir="b", limit="10")).body["chunk"]
    context = (await bob.get("rooms", room_id, "context", newest)).body["events_before"]
    listed = (await relations(bob, room_id, event_id))["chunk"]
    timeline = joined(await sync(bob, filter={"room": {"timeline": {"limit": 3}}}), room_id)["timeline"]
    assert timeline["limited"]
    for events in (page, context, listed, timeline["events"]):
        [found] = [event for event in events if event["event_id"] == child]
        assert found["unsigned"]["m.relations"]["m.replace"]["event_id"] == newest
    for events in (page, timeline["events"], (await threads(bob, room_id))["chunk"]):
        [found] = [event for event in events if event["event_id"] == event_id]
        thread = found["unsigned"]["m.relations"]["m.thread"]
        assert thread["count"] == 1
        assert ("room_id" in thread["latest_event"]) is ("room_id" in found)


class TestRelations:
    async def test_children_are_listed_by_kind_and_type(self, town: Town) -> None:
        room_id, [alice, bob] = await meet(town, "alice", "bob")
        parent = await alice.say(room_id, "parent")
        assert await relations(bob, room_id, parent) == {"chunk": []}
        first = await relate(alice, room_id, "m.thread", parent)
        second = await relate(bob, room_id, "m.reference", parent)
        third = await relate(bob, room_id, "m.reference", parent, "org.example.other")
        await alice.say(room_id, "unrelated")
        assert ids((await relations(alice, room_id, parent))["chunk"]) == [third, second, first]
        assert ids((await relations(alice, room_id, parent, dir="f"))["chunk"]) == [first, second, third]
        assert ids((await relations(alice, room_id, parent, "m.reference"))["chunk"]) == [third, second]
        found = await relations(alice, room_id, parent, "m.reference", "org.example.other")
        assert ids(found["chunk"]) == [third]
        assert found["chunk"][0]["room_id"] == room_id
        assert (await relations(alice, room_id, parent, "org.example.nothing"))["chunk"] == []
        await redact(bob, room_id, second)
        assert ids((await relations(alice, room_id, parent))["chunk"]) == [third, first]

    @pytest.mark.parametrize("direction", ["b", "f"])
    @pytest.mark.parametrize("limit", [1, 2, 3, 7])
    async def test_pages_lose_and_repeat_nothing(self, town: Town, direction: str, limit: int) -> None:
        room_id, [alice] = await meet(town, "alice")
        parent = await alice.say(room_id, "parent")
        sent = []
        for n in range(7):
            sent.append(await relate(alice, room_id, "m.thread", parent))
            await alice.say(room_id, f"between {n}")
        found: list[str] = []
        start: str | None = None
        while True:
            body = await relations(alice, room_id, parent, dir=direction, limit=limit, from_=start)
            assert len(body["chunk"]) <= limit
            assert body.get("prev_batch") == start
            found += ids(body["chunk"])
            if "next_batch" not in body:
                break
            start = body["next_batch"]
        assert found == (sent[::-1] if direction == "b" else sent)

    async def test_sync_tokens_bound_the_page(self, town: Town) -> None:
        room_id, [alice] = await meet(town, "alice")
        parent = await alice.say(room_id, "parent")
        old = await relate(alice, room_id, "m.thread", parent)
        token = (await sync(alice))["next_batch"]
        new = await relate(alice, room_id, "m.thread", parent)
        assert ids((await relations(alice, room_id, parent, from_=token))["chunk"]) == [old]
        assert ids((await relations(alice, room_id, parent, to=token))["chunk"]) == [new]
        assert ids((await relations(alice, room_id, parent, dir="f", from_=token))["chunk"]) == [new]

    async def test_recursion_finds_what_relates_to_children(self, town: Town) -> None:
        room_id, [alice] = await meet(town, "alice")
        chain = [await alice.say(room_id, "parent")]
        for _ in range(4):
            chain.append(await relate(alice, room_id, "m.reference", chain[-1]))
        liked = await relate(alice, room_id, "m.annotation", chain[1], "m.reaction", relation={"key": "x"})
        body = await relations(alice, room_id, chain[0], recurse="true")
        assert ids(body["chunk"]) == [liked, *chain[3:0:-1]]
        assert body["recursion_depth"] == 3
        body = await relations(alice, room_id, chain[0], "m.annotation", recurse="true")
        assert ids(body["chunk"]) == [liked]
        body = await relations(alice, room_id, chain[0], recurse="false")
        assert ids(body["chunk"]) == [chain[1]]
        assert body["recursion_depth"] == 0
        assert "recursion_depth" not in await relations(alice, room_id, chain[0])

    async def test_a_parent_that_one_may_not_see_is_not_there(self, town: Town) -> None:
        room_id, [alice] = await meet(town, "alice", preset="private_chat")
        parent = await alice.say(room_id, "parent")
        await relate(alice, room_id, "m.thread", parent)
        stranger = await town.person("stranger")
        room, event = quote(room_id, safe=""), quote(parent, safe="")
        for person, path in (
            (stranger, f"{room}/relations/{event}"),
            (stranger, f"{room}/relations/{event}/m.thread"),
            (alice, f"{room}/relations/%24nothing"),
            (alice, f"%21nothing%3Ahs/relations/{event}"),
        ):
            assert (await ask(person, path)).error == (404, "M_NOT_FOUND")
        assert (await ask(stranger, f"{room}/threads")).error == (403, "M_FORBIDDEN")

    async def test_children_that_one_may_not_see_are_left_out(self, town: Town) -> None:
        hidden = [{"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}]
        room_id, [alice, bob] = await meet(town, "alice", "bob", initial_state=hidden)
        parent = await alice.say(room_id, "parent")
        seen = await relate(alice, room_id, "m.thread", parent)
        await bob.post("rooms", room_id, "leave")
        await relate(alice, room_id, "m.thread", parent)
        await edit(alice, room_id, parent, "while away")
        await bob.join(room_id)
        assert ids((await relations(bob, room_id, parent))["chunk"]) == [seen]
        found = await bundle(bob, room_id, parent)
        assert found["m.thread"]["latest_event"]["event_id"] == seen
        assert "m.replace" not in found

    @pytest.mark.parametrize(
        "suffix",
        ["?from=x", "?to=t1", "?dir=x", "?limit=-1", "?limit=x", "?recurse=maybe", "/m.thread%00", "/a/b%00"],
    )
    async def test_nonsense_is_refused(self, town: Town, suffix: str) -> None:
        room_id, [alice] = await meet(town, "alice")
        parent = await alice.say(room_id, "parent")
        path = f"{quote(room_id, safe='')}/relations/{quote(parent, safe='')}{suffix}"
        answer = await ask(alice, path)
        assert answer.error == (400, "M_INVALID_PARAM"), answer


class TestThreadList:
    async def test_threads_are_ordered_by_their_newest_message(self, town: Town) -> None:
        room_id, [alice, bob] = await meet(town, "alice", "bob")
        roots = [await alice.say(room_id, f"root {n}") for n in range(4)]
        assert await threads(bob, room_id) == {"chunk": []}
        for root in (*roots[:3], roots[0]):
            await relate(bob, room_id, "m.thread", root)
        body = await threads(bob, room_id)
        assert ids(body["chunk"]) == [roots[0], roots[2], roots[1]]
        assert "next_batch" not in body
        counts = [event["unsigned"]["m.relations"]["m.thread"]["count"] for event in body["chunk"]]
        assert counts == [2, 1, 1]

    @pytest.mark.parametrize("limit", [1, 2, 5])
    async def test_pages_stay_as_they_were_while_threads_go_on(self, town: Town, limit: int) -> None:
        room_id, [alice] = await meet(town, "alice")
        roots = [await alice.say(room_id, f"root {n}") for n in range(5)]
        for root in roots:
            await relate(alice, room_id, "m.thread", root)
        found: list[str] = []
        start: str | None = None
        while True:
            body = await threads(alice, room_id, limit=limit, from_=start)
            found += ids(body["chunk"])
            await relate(alice, room_id, "m.thread", roots[0])
            await relate(alice, room_id, "m.thread", roots[-1])
            if "next_batch" not in body:
                break
            start = body["next_batch"]
        assert found == roots[::-1]

    async def test_participated_are_one_s_own_and_those_one_wrote_in(self, town: Town) -> None:
        room_id, [alice, bob] = await meet(town, "alice", "bob")
        started = await alice.say(room_id, "mine")
        answered = await bob.say(room_id, "answered")
        foreign = await bob.say(room_id, "foreign")
        await relate(bob, room_id, "m.thread", started)
        await relate(alice, room_id, "m.thread", answered)
        await relate(bob, room_id, "m.thread", foreign)
        assert ids((await threads(alice, room_id))["chunk"]) == [foreign, answered, started]
        found = await threads(alice, room_id, include="participated")
        assert ids(found["chunk"]) == [answered, started]

    async def test_ignored_users_start_redacted_threads_and_answer_in_none(self, town: Town) -> None:
        room_id, [alice, bob, carol] = await meet(town, "alice", "bob", "carol")
        one = await carol.say(room_id, "secret")
        two = await bob.say(room_id, "other")
        await relate(bob, room_id, "m.thread", one)
        await relate(carol, room_id, "m.thread", two)
        await ignore(alice, carol)
        [found] = (await threads(alice, room_id))["chunk"]
        assert found["event_id"] == one
        assert found["content"] == {}
        assert len((await threads(bob, room_id))["chunk"]) == 2

    async def test_threads_without_messages_are_none(self, town: Town) -> None:
        room_id, [alice] = await meet(town, "alice")
        root = await alice.say(room_id, "root")
        child = await relate(alice, room_id, "m.thread", root)
        await relate(alice, room_id, "m.thread", "$unknown")
        assert ids((await threads(alice, room_id))["chunk"]) == [root]
        await redact(alice, room_id, child)
        assert (await threads(alice, room_id))["chunk"] == []

    @pytest.mark.parametrize("query", [{"include": "x"}, {"limit": 0}, {"from": "x"}])
    async def test_nonsense_is_refused(self, town: Town, query: dict[str, Any]) -> None:
        room_id, [alice] = await meet(town, "alice")
        answer = await ask(alice, f"{quote(room_id, safe='')}/threads", **query)
        assert answer.error == (400, "M_INVALID_PARAM"), answer


class TestFilters:
    async def test_events_are_asked_for_by_what_relates_to_them(self, town: Town) -> None:
        room_id, [alice, bob] = await meet(town, "alice", "bob")
        answered = await alice.say(room_id, "answered")
        liked = await alice.say(room_id, "liked")
        await alice.say(room_id, "alone")
        await relate(bob, room_id, "m.thread", answered)
        await relate(alice, room_id, "m.annotation", liked, "m.reaction", relation={"key": "x"})
        for wanted, expected in (
            ({"related_by_rel_types": ["m.thread"]}, [answered]),
            ({"related_by_senders": [alice.user_id]}, [liked]),
            ({"related_by_senders": [bob.user_id], "related_by_rel_types": ["m.annotation"]}, []),
            ({"related_by_rel_types": ["m.thread", "m.annotation"]}, [answered, liked]),
            ({"related_by_senders": []}, []),
        ):
            text = json.dumps(wanted)
            page = (await alice.get("rooms", room_id, "messages", dir="f", filter=text)).body
            assert ids(page["chunk"]) == expected
            section = await sync(alice, filter={"room": {"timeline": wanted}})
            assert ids(joined(section, room_id)["timeline"]["events"]) == expected
            context = (await alice.get("rooms", room_id, "context", answered, filter=text)).body
            around = ids(context["events_before"] + context["events_after"])
            assert around == [event_id for event_id in expected if event_id != answered]
