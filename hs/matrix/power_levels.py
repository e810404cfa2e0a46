"""The power levels of a room, with all defaults: who may do what.

For everybody but the auth rules, which work on records: endpoints, push rules, the public face of a
room. Spec: client-server-api "m.room.power_levels", rooms/v12 "Authorisation rules" on creators.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

from hs._fast import event_auth
from hs._fast.auth_payload import level_of, payload_of
from hs.matrix.room_versions import RoomVersion

CREATOR_POWER: Final[int] = event_auth.CREATOR_POWER
"""What `of_user` answers for the creators of rooms that have privileged ones (since v12)."""


class _HasSenderAndContent(Protocol):
    @property
    def sender(self) -> str: ...

    @property
    def content(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class PowerLevels:
    """Levels of users and levels needed; entries that are no level count as absent."""

    creators: frozenset[str]
    has_privileged_creators: bool
    # False in a room without m.room.power_levels, where the creator has 100.
    is_set: bool
    users: Mapping[str, int]
    events: Mapping[str, int]
    notifications: Mapping[str, int]
    defaults: Mapping[str, int]

    @classmethod
    def of_contents(
        cls,
        version: RoomVersion,
        create_sender: str,
        create: Mapping[str, Any],
        levels: Mapping[str, Any] | None,
    ) -> Self:
        """The levels of a room by the contents of its create event and its power levels event, if any."""
        made = payload_of(version.number, "m.room.create", create_sender, None, create) or {}
        content = levels if levels is not None else {}
        parsed = payload_of(version.number, "m.room.power_levels", "", None, content) or {}
        # The auth rules look at notifications only since v6; push rules always do.
        notifications = content.get("notifications")
        return cls(
            creators=frozenset(made["creators"]),
            has_privileged_creators=version.privileged_creators,
            is_set=levels is not None,
            users=parsed["users"],
            events=parsed["events"],
            notifications={
                key: level
                for key, value in (notifications.items() if isinstance(notifications, dict) else ())
                if (level := level_of(version.number, value)) is not None
            },
            defaults=parsed["levels"],
        )

    @classmethod
    def of_room(
        cls, version: RoomVersion, create: _HasSenderAndContent, levels: _HasSenderAndContent | None
    ) -> Self:
        """The levels of a room by its create event and its power levels event, if any."""
        return cls.of_contents(
            version, create.sender, create.content, None if levels is None else levels.content
        )

    def of_user(self, user_id: str) -> int:
        """The user's level; CREATOR_POWER for a creator since v12."""
        if user_id in self.creators and self.has_privileged_creators:
            return CREATOR_POWER
        if not self.is_set:
            return 100 if user_id in self.creators else 0
        return self.users.get(user_id, self.users_default)

    def of_state_event(self, type: str) -> int:
        """The level needed to send a state event of this type (memberships have their own)."""
        return self.events.get(type, self.defaults.get("state_default", 50))

    def of_message(self, type: str) -> int:
        """The level needed to send an event of this type that is no state."""
        return self.events.get(type, self.defaults.get("events_default", 0))

    def of_notification(self, key: str) -> int:
        """The level needed to trigger a notification of this kind, such as "room"."""
        return self.notifications.get(key, 50)

    @property
    def users_default(self) -> int:
        """The level of users who have none of their own."""
        return self.defaults.get("users_default", 0)

    @property
    def invite(self) -> int:
        """The level needed to invite."""
        return self.defaults.get("invite", 0)

    @property
    def kick(self) -> int:
        """The level needed to remove somebody of a lower level."""
        return self.defaults.get("kick", 50)

    @property
    def ban(self) -> int:
        """The level needed to ban somebody of a lower level, or to lift a ban."""
        return self.defaults.get("ban", 50)

    @property
    def redact(self) -> int:
        """The level needed to redact other people's events."""
        return self.defaults.get("redact", 50)
