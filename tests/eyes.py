"""What a person sees of rooms, by /sync: waits until something is there, on any homeserver.

eyes = Eyes(bob)
event = await eyes.event(room_id, event_id)
await eyes.until(lambda: eyes.state(room_id, "m.room.topic") == {"topic": "x"})
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any, TypeVar

from tests.people import Person

T = TypeVar("T")

WAIT_S = 40.0

# Nothing of what came since the last sync is left out.
_FILTER = json.dumps({"room": {"timeline": {"limit": 1000}}})


class Eyes:
    """A client that remembers all that its syncs said."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self._since: str | None = None
        self._events: dict[str, dict[str, Any]] = {}
        self._states: dict[str, dict[tuple[str, str], Any]] = {}
        self._ephemeral: dict[tuple[str, str], Any] = {}
        self._invites: dict[str, list[Any]] = {}
        self._knocks: dict[str, list[Any]] = {}
        self.memberships: dict[str, str] = {}
        self.presence: dict[str, Any] = {}

    async def until(self, is_so: Callable[[], T]) -> T:
        """What `is_so` returns once it is true; asked again after each sync."""
        try:
            async with asyncio.timeout(WAIT_S):
                while not (found := is_so()):
                    await self.look()
        except TimeoutError:
            raise AssertionError(
                f"{self.person.user_id} did not come to see it: {self.memberships}"
            ) from None
        return found

    async def look(self, timeout_ms: int = 3000) -> None:
        """One sync."""
        query = {"filter": _FILTER, "timeout": str(timeout_ms if self._since else 0)}
        answer = await self.person.get("sync", **query | ({"since": self._since} if self._since else {}))
        assert answer.status == 200, answer
        body = answer.body
        self._since = body["next_batch"]
        rooms = body.get("rooms", {})
        for section in ("join", "leave", "invite", "knock"):
            for room_id, room in rooms.get(section, {}).items():
                self.memberships[room_id] = section
                self._take(room_id, room)
        for event in body.get("presence", {}).get("events", ()):
            self.presence[event["sender"]] = event["content"]

    def _take(self, room_id: str, room: Any) -> None:
        state = self._states.setdefault(room_id, {})
        timeline = room.get("timeline", {}).get("events", [])
        for event in [*room.get("state", {}).get("events", ()), *timeline]:
            self._events[event["event_id"]] = event | {"room_id": room_id}
            if "state_key" in event:
                state[event["type"], event["state_key"]] = event
        for event in room.get("ephemeral", {}).get("events", ()):
            self._ephemeral[room_id, event["type"]] = event["content"]
        if "invite_state" in room:
            self._invites[room_id] = room["invite_state"]["events"]
        if "knock_state" in room:
            self._knocks[room_id] = room["knock_state"]["events"]

    def state(self, room_id: str, type: str, state_key: str = "") -> Any:
        """The content of a state event as the syncs told it, or None."""
        event = self._states.get(room_id, {}).get((type, state_key))
        return None if event is None else event["content"]

    def member(self, room_id: str, user_id: str) -> str | None:
        """Somebody's membership."""
        content = self.state(room_id, "m.room.member", user_id)
        return None if content is None else content["membership"]

    def texts(self, room_id: str) -> list[str]:
        """The messages seen so far, in order."""
        messages = [
            e for e in self._events.values() if e["room_id"] == room_id and e["type"] == "m.room.message"
        ]
        return [event["content"]["body"] for event in messages if "body" in event["content"]]

    async def event(self, room_id: str, event_id: str) -> Any:
        """The event, once it is there."""
        return await self.until(lambda: self._events.get(event_id))

    async def membership(self, room_id: str, section: str) -> None:
        """Return once the room is in this section of the syncs: join, leave, invite or knock."""
        await self.until(lambda: self.memberships.get(room_id) == section)

    async def sees_member(self, room_id: str, user_id: str, membership: str) -> None:
        """Return once somebody is this in the room."""
        await self.until(lambda: self.member(room_id, user_id) == membership)

    async def invite_state(self, room_id: str) -> list[Any]:
        """The stripped state of an invite, once it is there."""
        return await self.until(lambda: self._invites.get(room_id) or [])

    async def knock_state(self, room_id: str) -> list[Any]:
        """The stripped state of a room that was knocked at, once it is there."""
        return await self.until(lambda: self._knocks.get(room_id) or [])

    async def ephemeral(self, room_id: str, type: str, is_wanted: Callable[[Any], Any]) -> Any:
        """The content of typing notices or receipts, once it is as wanted."""

        def find() -> Any:
            content = self._ephemeral.get((room_id, type))
            return content if content is not None and is_wanted(content) else None

        return await self.until(find)

    async def sees_state(self, room_id: str, type: str, content: Any, state_key: str = "") -> None:
        """Return once this is the content of a state event."""
        await self.until(lambda: self.state(room_id, type, state_key) == content)

    async def sees_name(self, room_id: str, user_id: str, name: str) -> None:
        """Return once somebody has this name in the room."""
        await self.until(
            lambda: (self.state(room_id, "m.room.member", user_id) or {}).get("displayname") == name
        )

    async def sees_typing(self, room_id: str, *user_ids: str) -> None:
        """Return once just these are typing."""
        await self.ephemeral(room_id, "m.typing", lambda content: content["user_ids"] == [*user_ids])

    async def sees_receipt(self, room_id: str, event_id: str, user_id: str) -> None:
        """Return once somebody has read up to the event."""
        await self.ephemeral(
            room_id, "m.receipt", lambda content: user_id in content.get(event_id, {}).get("m.read", {})
        )

    async def sees_status(self, user_id: str, status: str) -> None:
        """Return once somebody's presence says this."""
        await self.until(lambda: self.presence.get(user_id, {}).get("status_msg") == status)
