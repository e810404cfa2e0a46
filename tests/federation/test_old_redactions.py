"""What old history of other servers says of events that were read before: heard of, wherever they were kept."""

from typing import Any

from tests.people import Person, Town
from tests.remote_server import RemoteServer

_TYPE = "org.example.thing"
# Longer lists of state are kept.
_THINGS = 110


async def things(person: Person, room_id: str) -> dict[str, Any]:
    """Contents of the state's things, by key, asked for twice."""
    answers = [(await person.get("rooms", room_id, "state")).body for _ in range(2)]
    found = [
        {event["state_key"]: event["content"] for event in answer if event["type"] == _TYPE}
        for answer in answers
    ]
    assert found[0] == found[1]
    return found[0]


async def page_back(person: Person, room_id: str) -> list[Any]:
    """All of the room's history, newest first."""
    found: list[Any] = []
    query = {"dir": "b", "limit": "50"}
    while True:
        body = (await person.get("rooms", room_id, "messages", **query)).body
        found += body["chunk"]
        if "end" not in body:
            return found
        query["from"] = body["end"]


async def test_redacted_state_is_not_shown_once_the_redaction_is_there(
    federated_town: Town, remote: RemoteServer
) -> None:
    room = remote.make_room("12", "bob")
    bob = remote.user("bob")
    made = [
        room.send(_TYPE, bob, {"text": f"thing {number}"}, state_key=f"{number}") for number in range(_THINGS)
    ]
    redaction = room.redact(bob, made[7])
    for number in range(5):
        room.say(bob, f"later {number}")
    alice = await federated_town.person("alice")
    answer = await alice.ask("POST", "join", room.room_id, query={"via": remote.name}, body={})
    assert answer.status == 200, answer
    # The remote has sent the event as it was; nobody has told us of the redaction.
    assert (await things(alice, room.room_id))["7"] == {"text": "thing 7"}
    history = await page_back(alice, room.room_id)
    assert redaction.event_id in [event["event_id"] for event in history]
    assert await things(alice, room.room_id) == {
        f"{number}": {} if number == 7 else {"text": f"thing {number}"} for number in range(_THINGS)
    }
