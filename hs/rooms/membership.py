"""Who is in a room: joins, invites, leaves, kicks, bans, unbans, knocks and forgetting.

Spec: client-server-api "Room membership"; what is allowed is judged by the auth rules in the lane.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from hs._fast.event_record import EventRecord
from hs.matrix.errors import Forbidden, Unknown
from hs.matrix.ids import server_of
from hs.rooms.drafts import Draft, SentEvent
from hs.rooms.restricted import AUTHORISER, RestrictedJoins
from hs.rooms.state import RoomStates
from hs.rooms.writer import RoomWriter
from hs.storage.events import EventStore
from hs.storage.memberships import MembershipStore
from hs.storage.rooms import RoomInfo

# What a new profile does not keep of the join event: the old one, and why the user joined.
_REPLACED_FIELDS = ("displayname", "avatar_url", "reason")

# Invites a user of another server, as the draft says.
InviteElsewhere = Callable[[RoomInfo, Draft], Awaitable[SentEvent]]
# Called with the room and the user who is in it now.
OnJoined = Callable[[RoomInfo, str], Awaitable[None]]


class ProfileSource(Protocol):
    """Where a local user's display name and avatar come from."""

    async def member_fields(self, user_id: str) -> dict[str, str]:
        """`displayname` and `avatar_url` as they go into a member event; absent where not set."""


class RoomMemberships:
    """Changes memberships of local users, and of others where a local user may."""

    def __init__(
        self,
        writer: RoomWriter,
        states: RoomStates,
        events: EventStore,
        members: MembershipStore,
        profiles: ProfileSource,
        restricted: RestrictedJoins,
    ) -> None:
        self._writer = writer
        self._states = states
        self._events = events
        self._members = members
        self._profiles = profiles
        self._restricted = restricted
        self._after_join: list[OnJoined] = []
        self._invite_elsewhere: InviteElsewhere | None = None

    def on_joined(self, act: OnJoined) -> None:
        """Have `act` awaited after each join of a user who was not in the room."""
        self._after_join.append(act)

    def on_remote_invite(self, act: InviteElsewhere) -> None:
        """Have `act` invite users of other servers."""
        self._invite_elsewhere = act

    async def join(self, room: RoomInfo, user_id: str, extra: Mapping[str, Any] | None = None) -> SentEvent:
        """The user's join event; the one that is there where the user is in the room already."""
        content = await self.join_content(user_id, extra)
        present = await self._find_state(room, "m.room.member", user_id)
        if present is not None and _without_authoriser(present.content) == content:
            # Whoever vouched for the user is not asked for again.
            return SentEvent(present.event_id, present.event_nid, present.stream_ordering)
        if room.version.restricted_joins:
            vouched = await self._restricted.find_authoriser(room, user_id)
            if vouched is not None:
                content[AUTHORISER] = vouched
        sent = await self._send(room, user_id, user_id, content)
        if present is None or present.content.get("membership") != "join":
            await self.entered(room, user_id)
        return sent

    async def join_content(self, user_id: str, extra: Mapping[str, Any] | None) -> dict[str, Any]:
        """What the user's join says."""
        # A name that the client gives for this room wins over that of the profile.
        return {**await self._profiles.member_fields(user_id), **_own_fields(extra), "membership": "join"}

    async def entered(self, room: RoomInfo, user_id: str) -> None:
        """Do what follows when the user has come into the room."""
        for act in self._after_join:
            await act(room, user_id)

    async def invite(
        self, room: RoomInfo, sender: str, target: str, extra: Mapping[str, Any] | None = None
    ) -> SentEvent:
        """The invite of `target`; where that is another server's user, once their server has taken it."""
        if self._invite_elsewhere is not None and server_of(target) != server_of(sender):
            content = {**_own_fields(extra), "membership": "invite"}
            return await self._invite_elsewhere(
                room, Draft("m.room.member", sender, content, state_key=target)
            )
        content = {**_own_fields(extra), **await self._profiles.member_fields(target), "membership": "invite"}
        return await self._send(room, sender, target, content)

    async def leave(self, room: RoomInfo, user_id: str, reason: str | None = None) -> SentEvent:
        """The user's departure: also from an invite or a knock."""
        if await self._members.find_membership(room.room_nid, user_id) in (None, "leave", "ban"):
            raise Forbidden("you are not in this room")
        return await self._send(room, user_id, user_id, _with_reason("leave", reason))

    async def kick(self, room: RoomInfo, sender: str, target: str, reason: str | None = None) -> SentEvent:
        """The removal of `target`, who must be in the room, invited or knocking."""
        if await self._members.find_membership(room.room_nid, target) in (None, "leave", "ban"):
            raise Forbidden("that user is not in the room")
        return await self._send(room, sender, target, _with_reason("leave", reason))

    async def ban(self, room: RoomInfo, sender: str, target: str, reason: str | None = None) -> SentEvent:
        """The ban of `target`."""
        return await self._send(room, sender, target, _with_reason("ban", reason))

    async def unban(self, room: RoomInfo, sender: str, target: str, reason: str | None = None) -> SentEvent:
        """The end of a ban: `target` may be invited or join again."""
        if await self._members.find_membership(room.room_nid, target) != "ban":
            raise Forbidden("that user is not banned")
        return await self._send(room, sender, target, _with_reason("leave", reason))

    async def knock(self, room: RoomInfo, user_id: str, reason: str | None = None) -> SentEvent:
        """The user's request to be let in."""
        return await self._send(room, user_id, user_id, await self.knock_content(user_id, reason))

    async def knock_content(self, user_id: str, reason: str | None) -> dict[str, Any]:
        """What the user's knock says."""
        return {**_with_reason("knock", reason), **await self._profiles.member_fields(user_id)}

    async def forget(self, room: RoomInfo, user_id: str) -> None:
        """Hide a room that the user has left from their room list and syncs."""
        if await self._members.find_membership(room.room_nid, user_id) in ("join", "invite", "knock"):
            raise Unknown("you must leave a room before you can forget it")
        await self._members.set_forgotten(room.room_nid, user_id)

    async def set_profile_fields(self, room: RoomInfo, user_id: str) -> SentEvent:
        """The user's join event with the present display name and avatar; Forbidden where they have left."""
        present = await self._find_state(room, "m.room.member", user_id)
        kept = {} if present is None else _own_fields(present.content)
        content = {key: value for key, value in kept.items() if key not in _REPLACED_FIELDS}
        content |= {**await self._profiles.member_fields(user_id), "membership": "join"}
        # The user may be leaving, or being banned, at this moment: a new name must not bring them back.
        draft = Draft("m.room.member", user_id, content, state_key=user_id, needs_membership=True)
        return await self._writer.send(room, draft)

    async def _send(self, room: RoomInfo, sender: str, target: str, content: dict[str, Any]) -> SentEvent:
        return await self._writer.send(room, Draft("m.room.member", sender, content, state_key=target))

    async def _find_state(self, room: RoomInfo, type: str, state_key: str) -> EventRecord | None:
        root = await self._states.current(room.room_nid)
        nid = await self._states.get(room.room_nid, root, type, state_key)
        return await self._events.get(nid) if nid else None


def _own_fields(extra: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (extra or {}).items() if key not in (AUTHORISER, "membership")}


def _without_authoriser(content: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key != AUTHORISER}


def _with_reason(membership: str, reason: str | None) -> dict[str, Any]:
    return {"membership": membership} if reason is None else {"membership": membership, "reason": reason}
