"""A room of the remote's or of ours with somebody from the other side in it, and what these tests ask of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.eyes import Eyes
from tests.people import Person, Town
from tests.remote_room import Pdu, RemoteRoom
from tests.remote_scripts import refuse
from tests.remote_server import RemoteServer
from tests.room_builder import BuiltEvent


@dataclass(frozen=True)
class Probe:
    """`person` is one of ours, `guest` the remote's; both are in the room."""

    town: Town
    remote: RemoteServer
    person: Person
    guest: str
    room: RemoteRoom
    eyes: Eyes

    @property
    def room_id(self) -> str:
        """The room's id."""
        return self.room.room_id

    async def send(self, *events: BuiltEvent | Pdu) -> dict[str, Any]:
        """The results of a transaction, by event id."""
        answer = await self.remote.send(self.town.server_name, *events)
        assert answer.status == 200, answer
        results: dict[str, Any] = answer.body["pdus"]
        return results

    async def sees(self, event: BuiltEvent) -> Any:
        """The event as our person's sync shows it."""
        return await self.eyes.event(self.room_id, event.event_id)

    async def is_hidden(self, event_id: str) -> None:
        """AssertionError if our person can get the event."""
        found = await self.person.get("rooms", self.room_id, "event", event_id)
        assert found.error == (404, "M_NOT_FOUND"), found

    async def state_ids(self, event_id: str) -> set[str]:
        """The state before an event as we tell it the remote."""
        answer = await self.remote.ask(
            self.town.server_name, "GET", "v1", "state_ids", self.room_id, query={"event_id": event_id}
        )
        assert answer.status == 200, answer
        return set(answer.body["pdu_ids"])

    def refuses(self, *parts: str) -> None:
        """Have the remote know nothing of these questions."""
        for part in parts:
            self.remote.script("*", part, refuse(404, "M_UNRECOGNIZED"))


async def in_ours(
    town: Town, remote: RemoteServer, version_id: str = "12", localpart: str = "guest", **request: Any
) -> Probe:
    """A public room of ours that somebody from the remote has joined."""
    person = await town.person("host")
    request = {"preset": "public_chat", "room_version": version_id} | request
    room_id = await person.create_room(**request)
    guest = remote.user(localpart)
    room = await remote.join(town.server_name, room_id, guest)
    # What we send there keeps its copy of the room whole.
    remote.world.rooms[room_id] = room
    return Probe(town, remote, person, guest, room, Eyes(person))


async def in_theirs(town: Town, remote: RemoteServer, version_id: str = "12", **options: Any) -> Probe:
    """A room of the remote's that one of ours has joined."""
    person, room = await town.person("joiner"), remote.make_room(version_id, **options)
    answer = await person.ask("POST", "join", room.room_id, query={"via": remote.name})
    assert answer.status == 200, answer
    return Probe(town, remote, person, remote.user("alice"), room, Eyes(person))


def ids(events: Sequence[BuiltEvent]) -> list[str]:
    """Their event ids."""
    return [event.event_id for event in events]
