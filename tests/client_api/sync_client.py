"""A person's /sync as a client uses it: with filters, tokens and what came of it."""

import json
from typing import Any

from tests.people import Answer, Person


async def ask_sync(person: Person, since: str | None = None, **wishes: Any) -> Answer:
    """The answer to one /sync; `filter` may be a dict, the rest goes into the query as it is."""
    query = {"timeout": "0"} | ({} if since is None else {"since": since})
    for name, value in wishes.items():
        if isinstance(value, dict):
            query[name] = json.dumps(value)
        else:
            query[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return await person.ask("GET", "sync", query=query)


async def sync(person: Person, since: str | None = None, **wishes: Any) -> Any:
    """The body of one successful /sync."""
    answer = await ask_sync(person, since, **wishes)
    assert answer.status == 200, answer
    return answer.body


def joined(body: Any, room_id: str) -> Any:
    """The section of a joined room."""
    return body["rooms"]["join"][room_id]


def timeline_ids(section: Any) -> list[str]:
    """Event ids of a room's timeline."""
    return [event["event_id"] for event in section["timeline"]["events"]]


def bodies(events: list[Any]) -> list[str]:
    """Texts of the messages among the events."""
    return [event["content"].get("body") for event in events if event["type"] == "m.room.message"]


def state_keys(events: list[Any]) -> set[tuple[str, str]]:
    """(type, state_key) of state events."""
    return {(event["type"], event["state_key"]) for event in events}


def members_of(events: list[Any]) -> set[str]:
    """State keys of the member events."""
    return {event["state_key"] for event in events if event["type"] == "m.room.member"}


def room_ids(body: Any, membership: str) -> set[str]:
    """The rooms of one section of a sync."""
    return set(body["rooms"].get(membership, {}))
