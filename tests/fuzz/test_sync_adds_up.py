"""Clients that only ever /sync know in the end what clients that ask for everything are told.

People do things at random in a few rooms; some sync after each step, some hardly ever. Each keeps what a client
keeps: memberships, state, timelines whose gaps it fills by paging. At the end this is compared with /state and
/messages. HS_FUZZ_STEPS sets how long it goes on, HS_FUZZ_RANDOM=1 makes other choices each time.
"""

import json
import os
import random
from collections.abc import Awaitable, Callable, Collection
from typing import Any
from urllib.parse import quote

import pytest

from tests.people import Person, Town

pytestmark = [pytest.mark.fuzz, pytest.mark.slow]

STEPS = int(os.environ.get("HS_FUZZ_STEPS", "150"))
SEEDS = [random.randrange(10**6) if os.environ.get("HS_FUZZ_RANDOM") else number for number in range(5)]

VISIBILITIES = ("shared", "joined", "invited", "world_readable")


class Room:
    """What one client knows of one room."""

    def __init__(self) -> None:
        self.membership = ""
        self.state: dict[tuple[str, str], str] = {}
        self.timeline: list[str] = []
        # What came before the first event of the timeline.
        self.start: str | None = None
        # What is told beside the events, by name.
        self.beside: dict[str, Any] = {}

    def take_state(self, events: list[Any]) -> None:
        for event in events:
            if "state_key" in event:
                self.state[event["type"], event["state_key"]] = event["event_id"]

    def take_beside(self, news: Any) -> None:
        """Unread counts, the summary, receipts, account data, who is typing."""
        self.beside["unread"] = news["unread_notifications"]
        # What is left out here is read; elsewhere it is as it was.
        self.beside["unread by thread"] = news.get("unread_thread_notifications", {})
        self.beside.setdefault("summary", {}).update(news.get("summary", {}))
        data = self.beside.setdefault("account_data", {})
        data.update({event["type"]: event["content"] for event in news["account_data"]["events"]})
        receipts = self.beside.setdefault("receipts", {})
        for event in news["ephemeral"]["events"]:
            if event["type"] == "m.typing":
                self.beside["typing"] = sorted(event["content"]["user_ids"])
                continue
            for event_id, by_type in event["content"].items():
                for kind, by_user in by_type.items():
                    for user_id, receipt in by_user.items():
                        receipts[kind, user_id, receipt.get("thread_id")] = event_id


class Client:
    """Somebody who syncs, and what they know."""

    def __init__(self, person: Person, limit: int, is_eager: float) -> None:
        self.person = person
        self.limit = limit
        self.is_eager = is_eager
        self.since: str | None = None
        self.rooms: dict[str, Room] = {}

    async def sync(self) -> None:
        body = await self.ask(self.since)
        self.since = body["next_batch"]
        for membership, rooms in body.get("rooms", {}).items():
            for room_id, news in rooms.items():
                await self._take(self.rooms.setdefault(room_id, Room()), room_id, membership, news)

    async def ask(self, since: str | None) -> Any:
        """The body of a sync."""
        timeline = {"limit": self.limit, "unread_thread_notifications": True}
        query = {"timeout": "0", "filter": json.dumps({"room": {"timeline": timeline}})}
        answer = await self.person.get("sync", **query, **({"since": since} if since else {}))
        assert answer.status == 200, answer
        return answer.body

    async def _take(self, room: Room, room_id: str, membership: str, news: Any) -> None:
        was_in, room.membership = room.membership == "join", membership
        if membership in ("invite", "knock"):
            return
        timeline = news["timeline"]
        events = [event["event_id"] for event in timeline["events"]]
        repeated = set(room.timeline).intersection(events)
        is_limited = timeline.get("limited", False)
        assert is_limited or not was_in or not repeated, f"{repeated} came again in {room_id}"
        if repeated or not was_in:
            # Away, and back: such a room is shown anew.
            room.timeline, room.start = events, timeline.get("prev_batch")
        elif is_limited:
            room.timeline += await self.page(room_id, timeline["prev_batch"], set(room.timeline)) + events
        else:
            room.timeline += events
        room.take_state(news.get("state", {}).get("events", ()))
        room.take_state(timeline["events"])
        if membership == "join":
            if not was_in:
                room.beside.pop("typing", None)
            room.take_beside(news)

    async def page(self, room_id: str, token: str | None, known: Collection[str] = ()) -> list[str]:
        """The events before the token, back to one that is known, oldest first."""
        found: list[str] = []
        while token is not None:
            answer = await self.person.get(
                "rooms", room_id, "messages", dir="b", limit="7", **{"from": token}
            )
            assert answer.status == 200, answer
            for event in answer.body["chunk"]:
                if event["event_id"] in known:
                    return found[::-1]
                found.append(event["event_id"])
            token = answer.body.get("end")
        return found[::-1]


class Play:
    """Random steps of everybody."""

    def __init__(self, chance: random.Random, clients: list[Client], room_ids: list[str]) -> None:
        self.chance = chance
        self.clients = clients
        self.room_ids = room_ids
        self.sent: list[tuple[str, str]] = []
        self.steps: list[Callable[[Person, str], Awaitable[Any]]] = [
            *[self.say] * 6, self.set_state, self.redact, self.react, self.join, self.join, self.leave,
            self.invite, self.remove, self.unban, self.rename, self.show, self.tag, self.type, self.read,
            self.read, self.reply, self.mention,
        ]  # fmt: skip

    async def step(self) -> None:
        client = self.chance.choice(self.clients)
        answer = await self.chance.choice(self.steps)(client.person, self.chance.choice(self.room_ids))
        # Refused is fine: they do not know what they may do.
        assert answer is None or answer.status < 500, answer
        for client in self.clients:
            if self.chance.random() < client.is_eager:
                await client.sync()

    def _somebody(self) -> str:
        return self.chance.choice(self.clients).person.user_id

    def _number(self) -> str:
        return str(self.chance.randrange(10**9))

    async def say(self, who: Person, room_id: str) -> Any:
        parts = ("rooms", room_id, "send", "m.room.message", self._number())
        answer = await who.put(*parts, body={"msgtype": "m.text", "body": self._number()})
        if answer.status == 200:
            self.sent.append((room_id, answer.body["event_id"]))
        return answer

    async def set_state(self, who: Person, room_id: str) -> Any:
        return await who.set_state(
            room_id, "org.example.state", {"n": self._number()}, self.chance.choice("abc")
        )

    async def show(self, who: Person, room_id: str) -> Any:
        content = {"history_visibility": self.chance.choice(VISIBILITIES)}
        return await who.set_state(room_id, "m.room.history_visibility", content)

    async def redact(self, who: Person, room_id: str) -> Any:
        if self.sent:
            room_id, event_id = self.chance.choice(self.sent)
            return await who.put("rooms", room_id, "redact", event_id, self._number())

    async def react(self, who: Person, room_id: str) -> Any:
        if self.sent:
            room_id, event_id = self.chance.choice(self.sent)
            content = {
                "m.relates_to": {"rel_type": "m.annotation", "event_id": event_id, "key": self._number()}
            }
            return await who.put("rooms", room_id, "send", "m.reaction", self._number(), body=content)

    async def join(self, who: Person, room_id: str) -> Any:
        return await who.post("join", room_id)

    async def leave(self, who: Person, room_id: str) -> Any:
        return await who.post("rooms", room_id, "leave")

    async def invite(self, who: Person, room_id: str) -> Any:
        return await who.post("rooms", room_id, "invite", body={"user_id": self._somebody()})

    async def remove(self, who: Person, room_id: str) -> Any:
        verb = self.chance.choice(("kick", "ban"))
        return await who.post("rooms", room_id, verb, body={"user_id": self._somebody()})

    async def unban(self, who: Person, room_id: str) -> Any:
        return await who.post("rooms", room_id, "unban", body={"user_id": self._somebody()})

    async def rename(self, who: Person, room_id: str) -> Any:
        name = self._number()
        return await who.put("profile", who.user_id, "displayname", body={"displayname": name})

    async def tag(self, who: Person, room_id: str) -> Any:
        parts = ("user", who.user_id, "rooms", room_id, "account_data", "org.example.tag")
        return await who.put(*parts, body={"n": self._number()})

    async def type(self, who: Person, room_id: str) -> Any:
        body = {"typing": self.chance.random() < 0.5, "timeout": 100_000}
        return await who.put("rooms", room_id, "typing", who.user_id, body=body)

    async def read(self, who: Person, room_id: str) -> Any:
        if self.sent:
            room_id, event_id = self.chance.choice(self.sent[-20:])
            kind = self.chance.choice(("m.read", "m.read", "m.read.private", "m.fully_read"))
            return await who.post("rooms", room_id, "receipt", kind, event_id)

    async def reply(self, who: Person, room_id: str) -> Any:
        if self.sent:
            room_id, event_id = self.chance.choice(self.sent)
            content = {"body": "in a thread", "m.relates_to": {"rel_type": "m.thread", "event_id": event_id}}
            return await who.put("rooms", room_id, "send", "m.room.message", self._number(), body=content)

    async def mention(self, who: Person, room_id: str) -> Any:
        content = {"body": "you", "msgtype": "m.text", "m.mentions": {"user_ids": [self._somebody()]}}
        return await who.put("rooms", room_id, "send", "m.room.message", self._number(), body=content)


async def messages(person: Person, room_id: str) -> list[str]:
    """All that the person may see, oldest first."""
    answer = await person.get("rooms", room_id, "messages", dir="b", limit="1000")
    assert answer.status == 200, answer
    assert "end" not in answer.body, "a play is shorter than this"
    return [event["event_id"] for event in answer.body["chunk"]][::-1]


def tidy(beside: dict[str, Any]) -> dict[str, Any]:
    """Without what is empty."""
    return {name: value for name, value in beside.items() if value}


@pytest.mark.parametrize("seed", SEEDS)
async def test_what_syncs_say_adds_up_to_what_there_is(town: Town, seed: int) -> None:
    chance = random.Random(seed)
    owner, *others = await town.people("owner", "often", "seldom", "late")
    room_ids = [await owner.create_room(preset="public_chat", room_version=v) for v in ("6", "12")]
    clients = [
        Client(owner, 20, 0.3),
        Client(others[0], 10, 1.0),
        Client(others[1], 3, 0.03),
        Client(others[2], 1, 0.0),
    ]
    play = Play(chance, clients, room_ids)
    for _ in range(STEPS):
        await play.step()
    for client in clients:
        await client.sync()
        person, anew = client.person, await client.ask(None)
        for room_id in room_ids:
            what = f"{person.user_id} in {room_id}, seed {seed}"
            answer = await person.get("joined_rooms")
            room = client.rooms.get(room_id, Room())
            assert (room.membership == "join") == (room_id in answer.body["joined_rooms"]), what
            if room.membership != "join":
                continue
            state = (await person.raw("GET", f"/_matrix/client/v3/rooms/{quote(room_id)}/state")).body
            there_is = {(event["type"], event["state_key"]): event["event_id"] for event in state}
            assert room.state == there_is, what
            whole = await client.page(room_id, room.start) + room.timeline
            assert whole == await messages(person, room_id), what
            fresh = Room()
            fresh.take_beside(anew["rooms"]["join"][room_id])
            assert tidy(room.beside) == tidy(fresh.beside), what
