"""Unread counts and past notifications, as clients see them."""

from typing import Any

import pytest

from tests.people import Person, Town

Counts = tuple[int, int]


@pytest.fixture
async def pair(town: Town) -> tuple[Person, Person]:
    """Two people."""
    alice, bob = await town.people("alice", "bob")
    return alice, bob


async def shared_room(alice: Person, bob: Person) -> str:
    """A room of theirs."""
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    return room_id


class Device:
    """Follows one room by /sync."""

    def __init__(self, person: Person, room_id: str, by_thread: bool = True) -> None:
        self._person = person
        self._room_id = room_id
        self._since: str | None = None
        self._filter = (
            '{"room":{"timeline":{"unread_thread_notifications":true}}}' if by_thread else '{"room":{}}'
        )
        self.counts: Counts = (0, 0)
        self.threads: dict[str, Counts] = {}

    async def sync(self) -> Counts:
        """(notifications, highlights) of the room; `threads` have theirs."""
        query = {"filter": self._filter} | ({} if self._since is None else {"since": self._since})
        answer = await self._person.get("sync", **query)
        assert answer.status == 200, answer
        self._since = answer.body["next_batch"]
        room = answer.body.get("rooms", {}).get("join", {}).get(self._room_id)
        if room is not None:
            self.counts = _counts(room["unread_notifications"])
            threads = room.get("unread_thread_notifications", {})
            self.threads = {root: _counts(count) for root, count in threads.items()}
        return self.counts


def _counts(section: dict[str, int]) -> Counts:
    return section["notification_count"], section["highlight_count"]


class Texts:
    """Sends messages and receipts, with transaction ids of its own."""

    def __init__(self) -> None:
        self._sent = 0

    async def send(self, person: Person, room_id: str, body: str = "hello", **content: Any) -> str:
        """The id of a message."""
        self._sent += 1
        content |= {"msgtype": "m.text", "body": body}
        answer = await person.put("rooms", room_id, "send", "m.room.message", f"t{self._sent}", body=content)
        assert answer.status == 200, answer
        event_id: str = answer.body["event_id"]
        return event_id

    async def reply(self, person: Person, room_id: str, root: str, **content: Any) -> str:
        """The id of a message in a thread."""
        content["m.relates_to"] = {"rel_type": "m.thread", "event_id": root}
        return await self.send(person, room_id, "reply", **content)


@pytest.fixture
def texts() -> Texts:
    """What people say."""
    return Texts()


def mention(person: Person) -> dict[str, Any]:
    return {"m.mentions": {"user_ids": [person.user_id]}}


async def read(
    person: Person, room_id: str, event_id: str, thread: str | None = None, kind: str = "m.read"
) -> None:
    body = {} if thread is None else {"thread_id": thread}
    answer = await person.post("rooms", room_id, "receipt", kind, event_id, body=body)
    assert answer.status == 200, answer


async def test_a_count_comes_with_the_event_and_goes_with_the_receipt(
    pair: tuple[Person, Person], texts: Texts
) -> None:
    alice, bob = pair
    room = await shared_room(alice, bob)
    device = Device(bob, room)
    assert await device.sync() == (0, 0)
    await texts.send(alice, room)
    assert await device.sync() == (1, 0)
    last = await texts.send(alice, room, **mention(bob))
    assert await device.sync() == (2, 1)
    assert await Device(bob, room).sync() == (2, 1)
    await read(bob, room, last)
    assert await device.sync() == (0, 0)
    assert await Device(alice, room).sync() == (0, 0)


async def test_a_private_receipt_reads_as_well(pair: tuple[Person, Person], texts: Texts) -> None:
    alice, bob = pair
    room = await shared_room(alice, bob)
    device = Device(bob, room)
    first, second = [await texts.send(alice, room) for _ in range(2)]
    await read(bob, room, second, kind="m.read.private")
    assert await device.sync() == (0, 0)
    # The public one is behind: that does not unread anything.
    await read(bob, room, first)
    assert await device.sync() == (0, 0)


async def test_own_messages_read_the_room(pair: tuple[Person, Person], texts: Texts) -> None:
    alice, bob = pair
    room = await shared_room(alice, bob)
    device = Device(bob, room)
    await texts.send(alice, room)
    assert await device.sync() == (1, 0)
    await texts.send(bob, room)
    assert await device.sync() == (0, 0)
    await texts.send(alice, room)
    assert await device.sync() == (1, 0)


async def test_threads_have_counts_of_their_own_for_clients_that_ask(
    pair: tuple[Person, Person], texts: Texts
) -> None:
    alice, bob = pair
    room = await shared_room(alice, bob)
    new, old = Device(bob, room), Device(bob, room, by_thread=False)
    root = await texts.send(alice, room)
    reply = await texts.reply(alice, room, root, **mention(bob))
    assert await new.sync() == (1, 0)
    assert new.threads == {root: (1, 1)}
    assert await old.sync() == (2, 1)
    assert old.threads == {}
    await read(bob, room, root, "main")
    assert (await new.sync(), new.threads) == ((0, 0), {root: (1, 1)})
    assert await old.sync() == (1, 1)
    await read(bob, room, reply, root)
    assert (await new.sync(), new.threads) == ((0, 0), {})
    assert await old.sync() == (0, 0)


async def test_a_muted_room_counts_mentions_only(pair: tuple[Person, Person], texts: Texts) -> None:
    alice, bob = pair
    room = await shared_room(alice, bob)
    device = Device(bob, room)
    await device.sync()
    answer = await bob.put("pushrules", "global", "room", room, body={"actions": []})
    assert answer.status == 200, answer
    await texts.send(alice, room)
    assert await device.sync() == (0, 0)
    await texts.send(alice, room, **mention(bob))
    assert await device.sync() == (1, 1)
    assert (await bob.delete("pushrules", "global", "room", room)).status == 200
    await texts.send(alice, room)
    assert await device.sync() == (2, 1)


async def test_a_keyword_highlights_from_the_next_message_on(
    pair: tuple[Person, Person], texts: Texts
) -> None:
    alice, bob = pair
    room = await shared_room(alice, bob)
    device = Device(bob, room)
    await texts.send(alice, room, "cake")
    body = {"pattern": "cake", "actions": ["notify", {"set_tweak": "highlight"}]}
    assert (await bob.put("pushrules", "global", "content", "cake", body=body)).status == 200
    assert await device.sync() == (1, 0)
    await texts.send(alice, room, "Cake?")
    assert await device.sync() == (2, 1)


async def test_what_is_redacted_is_not_unread(pair: tuple[Person, Person], texts: Texts) -> None:
    alice, bob = pair
    room = await shared_room(alice, bob)
    device = Device(bob, room)
    event_id = await texts.send(alice, room, **mention(bob))
    assert await device.sync() == (1, 1)
    answer = await alice.put("rooms", room, "redact", event_id, "r1", body={})
    assert answer.status == 200, answer
    assert await device.sync() == (0, 0)


async def test_who_is_ignored_is_not_counted(pair: tuple[Person, Person], texts: Texts) -> None:
    alice, bob = pair
    room = await shared_room(alice, bob)
    device = Device(bob, room)
    await texts.send(alice, room)
    body: dict[str, Any] = {"ignored_users": {alice.user_id: {}}}
    answer = await bob.put("user", bob.user_id, "account_data", "m.ignored_user_list", body=body)
    assert answer.status == 200, answer
    await texts.send(alice, room, **mention(bob))
    assert await device.sync() == (1, 0)


async def test_past_notifications_are_listed(pair: tuple[Person, Person], texts: Texts) -> None:
    alice, bob = pair
    room = await shared_room(alice, bob)
    first = await texts.send(alice, room)
    second = await texts.send(alice, room, **mention(bob))
    third = await texts.send(alice, room)
    await read(bob, room, first)
    answer = await bob.get("notifications", limit="2")
    assert answer.status == 200, answer
    shown = [(n["event"]["event_id"], n["read"]) for n in answer.body["notifications"]]
    assert shown == [(third, False), (second, False)]
    assert answer.body["notifications"][1]["actions"] == ["notify", {"set_tweak": "highlight"}]
    answer = await bob.get("notifications", limit="2", **{"from": answer.body["next_token"]})
    shown = [(n["event"]["event_id"], n["read"]) for n in answer.body["notifications"]]
    assert shown == [(first, True)]
    assert "next_token" not in answer.body
    answer = await bob.get("notifications", only="highlight")
    assert [n["event"]["event_id"] for n in answer.body["notifications"]] == [second]
    assert (await alice.get("notifications")).body == {"notifications": []}


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"from": "x"}, 400),
        ({"from": "-1"}, 400),
        ({"from": "9" * 30}, 400),
        ({"from": "9" * 19}, 400),
        ({"from": "\u0661"}, 400),
        ({"limit": "-1"}, 400),
        ({"limit": "x"}, 400),
        ({"limit": "0"}, 200),
        ({"limit": str(10**30)}, 200),
        ({"only": "nonsense"}, 200),
        ({"from": ""}, 200),
    ],
)
async def test_strange_queries_are_answered(town: Town, query: dict[str, str], status: int) -> None:
    alice = await town.person("alice")
    answer = await alice.get("notifications", **query)
    assert answer.status == status, answer
    assert status == 200 or answer.errcode == "M_INVALID_PARAM"
