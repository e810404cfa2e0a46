"""Two homeservers with people: what the scenarios of this folder are played on."""

from dataclasses import dataclass
from typing import Any

from tests.eyes import Eyes
from tests.people import Person, Town


@dataclass(frozen=True)
class Pair:
    """Rooms are made `here` and shared with people `there`."""

    here: Town
    there: Town

    async def people(self) -> tuple[Person, Person]:
        """Somebody here and somebody there."""
        return await self.here.person("here"), await self.there.person("there")

    async def shared_room(self, **request: Any) -> "SharedRoom":
        """A public room made here, with somebody of both servers in it; both have seen the other join."""
        alice, bob = await self.people()
        room_id = await alice.create_room(**({"preset": "public_chat"} | request))
        room = SharedRoom(self, room_id, alice, bob)
        await room.join(bob)
        return room


class SharedRoom:
    """A room with Alice, who made it here, and Bob, who is there."""

    def __init__(self, pair: Pair, room_id: str, alice: Person, bob: Person) -> None:
        self.pair = pair
        self.room_id = room_id
        self.alice, self.bob = alice, bob
        self.alice_sees, self.bob_sees = Eyes(alice), Eyes(bob)

    async def join(self, person: Person) -> None:
        """Have somebody from there in it."""
        await join_by(person, self.room_id, self.pair.here.server_name)
        await self.alice_sees.sees_member(self.room_id, person.user_id, "join")
        await self.bob_sees.sees_member(self.room_id, person.user_id, "join")

    async def both_see(self, event_id: str) -> None:
        """Return once an event has reached both."""
        await self.alice_sees.event(self.room_id, event_id)
        await self.bob_sees.event(self.room_id, event_id)

    async def say(self, person: Person, text: str) -> str:
        """The id of a message that both have seen."""
        event_id = await person.say(self.room_id, text)
        await self.both_see(event_id)
        return event_id

    async def set_state(self, person: Person, type: str, content: dict[str, Any], state_key: str = "") -> str:
        """The id of a state event that both have seen."""
        answer = await person.set_state(self.room_id, type, content, state_key)
        assert answer.status == 200, answer
        event_id: str = answer.body["event_id"]
        await self.both_see(event_id)
        return event_id

    async def check_same_state(self) -> None:
        """AssertionError unless both servers have the same state of the room."""
        ours, theirs = await state_ids(self.alice, self.room_id), await state_ids(self.bob, self.room_id)
        assert ours == theirs


async def join_by(person: Person, room: str, *via: str) -> None:
    """Join a room or alias by way of servers."""
    answer = await try_join(person, room, *via)
    assert answer.status == 200, answer


async def try_join(person: Person, room: str, *via: str) -> Any:
    """The answer to it. The old name of the parameter is there for old servers."""
    query = {"via": via[0], "server_name": via[0]} if via else None
    return await person.ask("POST", "join", room, body={}, query=query)


async def state_ids(person: Person, room_id: str) -> dict[tuple[str, str], str]:
    """The current state of a room as event ids."""
    answer = await person.get("rooms", room_id, "state")
    assert answer.status == 200, answer
    return {(event["type"], event["state_key"]): event["event_id"] for event in answer.body}


async def history(person: Person, room_id: str) -> list[Any]:
    """All events of a room from now back to where it ends, newest first."""
    events: list[Any] = []
    query = {"dir": "b", "limit": "100"}
    for _ in range(50):
        answer = await person.get("rooms", room_id, "messages", **query)
        assert answer.status == 200, answer
        events += answer.body["chunk"]
        if "end" not in answer.body:
            return events
        query["from"] = answer.body["end"]
    raise AssertionError("the history does not end")


def texts(events: list[Any]) -> list[str]:
    """The messages among events."""
    found = [event["content"].get("body") for event in events if event["type"] == "m.room.message"]
    return [text for text in found if text is not None]
