"""What /versions says of unstable features: each flag is checked by using what it promises to clients."""

import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import pytest

from hs.client_api.versions import UNSTABLE_FEATURES
from tests.people import Person, Town

Check = Callable[[Town], Awaitable[None]]

CHECKS: dict[str, Check] = {}


def checks(*flags: str) -> Callable[[Check], Check]:
    """The function fails where one of the flags promises too much."""

    def add(check: Check) -> Check:
        CHECKS.update(dict.fromkeys(flags, check))
        return check

    return add


async def send(person: Person, room_id: str, type: str, content: dict[str, Any], txn: str) -> str:
    answer = await person.put("rooms", room_id, "send", type, txn, body=content)
    assert answer.status == 200, answer
    event_id: str = answer.body["event_id"]
    return event_id


async def sync_room(person: Person, room_id: str, since: str | None = None, **timeline: Any) -> Any:
    """What one sync says of the room."""
    query = {"filter": json.dumps({"room": {"timeline": timeline}}), "timeout": "0"}
    answer = await person.get("sync", **query, **({} if since is None else {"since": since}))
    assert answer.status == 200, answer
    return answer.body["rooms"].get("join", {}).get(room_id)


async def two_people_in_a_room(town: Town) -> tuple[Person, Person, str]:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    return alice, bob, room_id


def receipt_types(room: Any) -> set[str]:
    return {
        type
        for event in room["ephemeral"]["events"]
        if event["type"] == "m.receipt"
        for types in event["content"].values()
        for type in types
    }


@checks("org.matrix.msc2285.stable")
async def private_receipts(town: Town) -> None:
    alice, bob, room_id = await two_people_in_a_room(town)
    event_id = await alice.say(room_id, "hello")
    assert (await sync_room(bob, room_id))["unread_notifications"]["notification_count"] == 1
    answer = await bob.post("rooms", room_id, "receipt", "m.read.private", event_id)
    assert answer.status == 200
    mine, theirs = await sync_room(bob, room_id), await sync_room(alice, room_id)
    assert mine["unread_notifications"]["notification_count"] == 0
    assert receipt_types(mine) == {"m.read.private"}
    assert receipt_types(theirs) == set()
    markers = {"m.fully_read": event_id, "m.read.private": event_id}
    assert (await bob.post("rooms", room_id, "read_markers", body=markers)).status == 200


@checks("org.matrix.msc3771", "org.matrix.msc3773")
async def counts_and_receipts_of_threads(town: Town) -> None:
    alice, bob, room_id = await two_people_in_a_room(town)
    root = await alice.say(room_id, "root")
    reply = await reply_in_thread(alice, room_id, root, "t")
    room = await sync_room(bob, room_id, unread_thread_notifications=True)
    assert room["unread_notifications"]["notification_count"] == 1
    assert room["unread_thread_notifications"][root]["notification_count"] == 1
    answer = await bob.post("rooms", room_id, "receipt", "m.read", reply, body={"thread_id": root})
    assert answer.status == 200
    room = await sync_room(bob, room_id, unread_thread_notifications=True)
    assert room["unread_notifications"]["notification_count"] == 1
    thread = room.get("unread_thread_notifications", {}).get(root, {"notification_count": 0})
    assert thread["notification_count"] == 0
    answer = await bob.post("rooms", room_id, "receipt", "m.read", root, body={"thread_id": "main"})
    assert answer.status == 200
    room = await sync_room(bob, room_id, unread_thread_notifications=True)
    assert room["unread_notifications"]["notification_count"] == 0
    # Who does not ask for threads counts all of it in one.
    assert "unread_thread_notifications" not in await sync_room(alice, room_id)


async def reply_in_thread(person: Person, room_id: str, root: str, txn: str) -> str:
    relation = {"rel_type": "m.thread", "event_id": root}
    content = {"msgtype": "m.text", "body": txn, "m.relates_to": relation}
    return await send(person, room_id, "m.room.message", content, txn)


@checks("org.matrix.msc3440.stable")
async def threads(town: Town) -> None:
    alice, bob, room_id = await two_people_in_a_room(town)
    root, plain = await alice.say(room_id, "root"), await alice.say(room_id, "no thread")
    await reply_in_thread(alice, room_id, root, "t1")
    latest = await reply_in_thread(alice, room_id, root, "t2")
    for person, has_participated in (alice, True), (bob, False):
        event = (await person.get("rooms", room_id, "event", root)).body
        thread = event["unsigned"]["m.relations"]["m.thread"]
        assert thread["count"] == 2
        assert thread["latest_event"]["event_id"] == latest
        assert thread["current_user_participated"] is has_participated
        # Only where the timeline is limited: else the client has the whole thread.
        room = await sync_room(person, room_id, limit=4)
        [told] = [event for event in room["timeline"]["events"] if event["event_id"] == root]
        assert told["unsigned"]["m.relations"]["m.thread"]["count"] == 2
    for wanted, found in [
        ({"related_by_rel_types": ["m.thread"]}, [root]),
        ({"related_by_rel_types": ["m.other"]}, []),
        ({"related_by_senders": [alice.user_id]}, [root]),
        ({"related_by_senders": [bob.user_id]}, []),
        ({}, [latest, plain, root]),
    ]:
        messages = await bob.get("rooms", room_id, "messages", dir="b", filter=json.dumps(wanted), limit="50")
        ids = [event["event_id"] for event in messages.body["chunk"]]
        assert [event_id for event_id in ids if event_id in (root, plain, latest)] == found, wanted


@checks("org.matrix.msc3856.stable")
async def the_list_of_threads(town: Town) -> None:
    alice, bob, room_id = await two_people_in_a_room(town)
    roots = [await alice.say(room_id, str(n)) for n in range(3)]
    for n in (0, 2, 1):
        await reply_in_thread(alice, room_id, roots[n], f"t{n}")
    path = f"/_matrix/client/v1/rooms/{quote(room_id, safe='')}/threads"
    page = (await bob.raw("GET", f"{path}?limit=2")).body
    rest = (await bob.raw("GET", f"{path}?limit=2&from={quote(page['next_batch'], safe='')}")).body
    assert [event["event_id"] for event in page["chunk"]] == [roots[1], roots[2]]
    assert [event["event_id"] for event in rest["chunk"]] == [roots[0]]
    assert page["chunk"][0]["unsigned"]["m.relations"]["m.thread"]["count"] == 1
    assert (await bob.raw("GET", f"{path}?include=participated")).body["chunk"] == []
    assert len((await alice.raw("GET", f"{path}?include=participated")).body["chunk"]) == 3


@checks("org.matrix.msc3715.stable")
async def relations_in_both_directions(town: Town) -> None:
    alice, bob, room_id = await two_people_in_a_room(town)
    root = await alice.say(room_id, "root")
    replies = [await reply_in_thread(alice, room_id, root, f"t{n}") for n in range(3)]
    path = f"/_matrix/client/v1/rooms/{quote(room_id, safe='')}/relations/{quote(root, safe='')}/m.thread"
    for direction, expected in ("f", replies), ("b", replies[::-1]):
        found: list[str] = []
        query = f"?dir={direction}&limit=2"
        while query:
            page = (await bob.raw("GET", path + query)).body
            found += [event["event_id"] for event in page["chunk"]]
            token = page.get("next_batch")
            query = "" if token is None else f"?dir={direction}&limit=2&from={quote(token, safe='')}"
        assert found == expected


@checks("org.matrix.msc3981")
async def relations_of_relations(town: Town) -> None:
    alice, bob, room_id = await two_people_in_a_room(town)
    root = await alice.say(room_id, "root")
    reply = await reply_in_thread(alice, room_id, root, "t")
    reaction = {"m.relates_to": {"rel_type": "m.annotation", "event_id": reply, "key": "x"}}
    liked = await send(bob, room_id, "m.reaction", reaction, "r")
    path = f"/_matrix/client/v1/rooms/{quote(room_id, safe='')}/relations/{quote(root, safe='')}"
    for query, found in [
        ("?org.matrix.msc3981.recurse=true", [liked, reply]),
        ("?recurse=true", [liked, reply]),
        ("?org.matrix.msc3981.recurse=false", [reply]),
        ("", [reply]),
    ]:
        page = (await bob.raw("GET", path + query)).body
        assert [event["event_id"] for event in page["chunk"]] == found, query
        assert ("recursion_depth" in page) is bool(query)


@checks("org.matrix.msc3266")
async def summaries_of_rooms(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    encryption = {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
    room_id = await alice.create_room(preset="public_chat", name="Cheese", initial_state=[encryption])
    secret = await alice.create_room(preset="private_chat")
    for where in "summary/{}", "rooms/{}/summary":
        path = f"/_matrix/client/unstable/im.nheko.summary/{where}"
        for person, membership in (alice, "join"), (bob, "leave"), (town.visitor, None):
            body = (await person.raw("GET", path.format(quote(room_id, safe="")))).body
            assert (body["name"], body.get("membership")) == ("Cheese", membership)
            assert body["im.nheko.summary.room_version"] == body["room_version"] == "12"
            assert body["im.nheko.summary.encryption"] == body["encryption"] == "m.megolm.v1.aes-sha2"
        answer = await bob.raw("GET", path.format(quote(secret, safe="")))
        assert answer.error == (404, "M_NOT_FOUND")


@checks("uk.half-shot.msc2666.query_mutual_rooms", "uk.half-shot.msc2666.query_mutual_rooms.stable")
async def rooms_shared_with_somebody(town: Town) -> None:
    alice, bob, room_id = await two_people_in_a_room(town)
    user = quote(bob.user_id, safe="")
    for path in "unstable/uk.half-shot.msc2666/user/mutual_rooms", "v1/mutual_rooms":
        answer = await alice.raw("GET", f"/_matrix/client/{path}?user_id={user}")
        assert answer.body["joined"] == [room_id]
        answer = await alice.raw("GET", f"/_matrix/client/{path}")
        assert answer.error == (400, "M_MISSING_PARAM")
    path = f"/_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms?user_id={user}"
    assert (await alice.raw("GET", f"{path}&batch_token=1{'0' * 17}")).body["joined"] == []
    assert (await alice.raw("GET", f"{path}&batch_token=x")).error == (400, "M_INVALID_PARAM")


@checks("org.matrix.msc4222")
async def the_state_after_the_timeline(town: Town) -> None:
    alice, _, room_id = await two_people_in_a_room(town)
    since = None
    name = "org.matrix.msc4222.state_after"
    for topic in "one", "two":
        await alice.set_state(room_id, "m.room.topic", {"topic": topic})
        query = {"org.matrix.msc4222.use_state_after": "true", **({} if since is None else {"since": since})}
        body = (await alice.get("sync", **query)).body
        room = body["rooms"]["join"][room_id]
        assert {"state", "state_after", name} & room.keys() == {name}
        topics = [e["content"]["topic"] for e in room[name]["events"] if e["type"] == "m.room.topic"]
        assert topics == [topic]
        both = (await alice.get("sync", **query, use_state_after="true")).body["rooms"]["join"][room_id]
        assert {"state", "state_after", name} & both.keys() == {"state_after"}
        since = body["next_batch"]
    # Also where no event is new.
    account_data = ("user", alice.user_id, "rooms", room_id, "account_data", "org.example.x")
    await alice.put(*account_data, body={"x": 1})
    query["since"] = since
    assert (await alice.get("sync", **query)).body["rooms"]["join"][room_id][name] == {"events": []}


@checks("org.matrix.msc3030", "org.matrix.msc3030.stable")
async def events_by_time(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    event_id = await alice.say(room_id, "hello")
    room = quote(room_id, safe="")
    for prefix in ("v1", "unstable/org.matrix.msc3030"):
        path = f"/_matrix/client/{prefix}/rooms/{room}/timestamp_to_event?dir=b&ts=9007199254740991"
        assert (await alice.raw("GET", path)).body["event_id"] == event_id


@checks("org.matrix.msc3827.stable")
async def published_rooms_of_a_type(town: Town) -> None:
    alice = await town.person("alice")
    wanted = {"visibility": "public", "name": f"place of {alice.user_id}"}
    space = await alice.create_room(**wanted, creation_content={"type": "m.space"})
    plain = await alice.create_room(**wanted)
    for types, found in (["m.space"], [space]), ([None], [plain]), ([], []):
        search = {"generic_search_term": wanted["name"], "room_types": types}
        answer = await alice.post("publicRooms", body={"filter": search})
        assert [room["room_id"] for room in answer.body["chunk"]] == found
    search = {"generic_search_term": wanted["name"], "room_types": ["m.space"]}
    [room] = (await alice.post("publicRooms", body={"filter": search})).body["chunk"]
    assert room["room_type"] == "m.space"


@checks("org.matrix.msc3952_intentional_mentions")
async def mentions(town: Town) -> None:
    alice, bob, room_id = await two_people_in_a_room(town)
    name = bob.user_id[1:].partition(":")[0]
    text = {"msgtype": "m.text", "body": f"hello {name}"}
    for n, (meant, highlights) in enumerate([({}, 0), ({"user_ids": [bob.user_id]}, 1), ({"room": True}, 2)]):
        await send(alice, room_id, "m.room.message", {**text, "m.mentions": meant}, f"t{n}")
        unread = (await sync_room(bob, room_id))["unread_notifications"]
        assert unread == {"notification_count": n + 1, "highlight_count": highlights}


@checks("com.beeper.msc4169")
async def redactions_are_sent_like_other_events(town: Town) -> None:
    alice = await town.person("alice")
    for version in ("1", "10", "11", "12"):
        room_id = await alice.create_room(room_version=version)
        event_id = await alice.say(room_id, "oops")
        content = {"redacts": event_id, "reason": "typo"}
        redaction = await send(alice, room_id, "m.room.redaction", content, "t")
        event = (await alice.get("rooms", room_id, "event", event_id)).body
        assert event["content"] == {}, version
        assert event["unsigned"]["redacted_because"]["event_id"] == redaction


@checks("uk.tcpip.msc4133", "uk.tcpip.msc4133.stable")
async def profiles_with_any_field(town: Town) -> None:
    alice = await town.person("alice")
    user = quote(alice.user_id, safe="")
    for n, prefix in enumerate(("unstable/uk.tcpip.msc4133", "v3")):
        path = f"/_matrix/client/{prefix}/profile/{user}"
        assert (await alice.raw("PUT", f"{path}/org.example.n", b'{"org.example.n": %d}' % n)).status == 200
        assert (await alice.raw("GET", f"{path}/org.example.n")).body == {"org.example.n": n}
        assert (await alice.raw("GET", path)).body["org.example.n"] == n
        assert (await alice.raw("DELETE", f"{path}/org.example.n")).status == 200


def test_every_flag_has_its_check() -> None:
    assert set(CHECKS) == set(UNSTABLE_FEATURES)


async def test_flags_are_told(town: Town) -> None:
    answer = await town.visitor.raw("GET", "/_matrix/client/versions")
    assert answer.body["unstable_features"] == dict.fromkeys(CHECKS, True)


@pytest.mark.parametrize("flag", sorted(CHECKS))
async def test_what_is_promised_works(town: Town, flag: str) -> None:
    await CHECKS[flag](town)
