"""Joining, inviting, leaving, kicking, banning, knocking and forgetting.

Spec: client-server-api "Room membership".
"""

from typing import Any

import msgspec

from hs.client_api.paths import v3
from hs.client_api.room_params import get_own_room, get_room
from hs.directory.aliases import AliasDirectory
from hs.directory.remote_aliases import FoundRoom
from hs.http.endpoint import Auth, Caller, Empty, endpoint
from hs.matrix.errors import BadJson, MissingParam, ThreepidDenied
from hs.matrix.ids import is_server_name, parse_room_id, parse_user_id
from hs.rooms.create import InviteGate
from hs.rooms.entrances import RoomEntrances
from hs.rooms.membership import RoomMemberships
from hs.rooms.third_party_invites import ThirdPartyInvites, read_claim
from hs.storage.rooms import RoomStore


class ReasonBody(msgspec.Struct):
    """The body of a membership change of one's own."""

    reason: str | None = None


class ServersQuery(msgspec.Struct):
    """The query of POST /join and POST /knock: which servers are in the room.

    `server_name` is what `via` was called before v1.12.
    """

    via: list[str] = []
    server_name: list[str] = []

    @property
    def servers(self) -> list[str]:
        """The servers to try; what is no server's name is left out."""
        return [name for name in (self.via or self.server_name) if is_server_name(name)]


class TargetBody(msgspec.Struct):
    """Whose membership to change."""

    user_id: str
    reason: str | None = None


class InviteBody(msgspec.Struct):
    """The body of POST /invite in both forms: by user id, or by third-party identifier."""

    user_id: str | None = None
    reason: str | None = None
    id_server: str | None = None
    medium: str | None = None
    address: str | None = None


class MembershipApi:
    """Changes memberships."""

    def __init__(
        self,
        rooms: RoomStore,
        memberships: RoomMemberships,
        entrances: RoomEntrances,
        third_party: ThirdPartyInvites,
        directory: AliasDirectory,
        gate: InviteGate,
    ) -> None:
        self._rooms = rooms
        self._memberships = memberships
        self._entrances = entrances
        self._third_party = third_party
        self._directory = directory
        self._gate = gate

    @endpoint("POST", *v3("/rooms/{room_id}/join"), auth=Auth.USER, limit="join")
    async def post_join_by_id(self, caller: Caller, room_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """Join the room with this id."""
        parse_room_id(room_id)
        return await self._join(caller, FoundRoom(room_id), [], body)

    @endpoint("POST", *v3("/join/{room_id_or_alias}"), auth=Auth.USER, limit="join")
    async def post_join(
        self, caller: Caller, room_id_or_alias: str, body: dict[str, Any], query: ServersQuery
    ) -> dict[str, Any]:
        """Join the room with this id or alias."""
        return await self._join(caller, await self._find(room_id_or_alias), query.servers, body)

    @endpoint("POST", *v3("/knock/{room_id_or_alias}"), auth=Auth.USER, limit="join")
    async def post_knock(
        self, caller: Caller, room_id_or_alias: str, body: ReasonBody, query: ServersQuery
    ) -> dict[str, Any]:
        """Ask to be let into the room."""
        found = await self._find(room_id_or_alias)
        servers = [*query.servers, *found.servers]
        room = await self._entrances.knock(found.room_id, caller.user_id, servers, body.reason)
        return {"room_id": room.room_id}

    @endpoint("POST", *v3("/rooms/{room_id}/invite"), auth=Auth.USER, limit="invite")
    async def post_invite(self, caller: Caller, room_id: str, body: InviteBody) -> Empty:
        """Invite a user."""
        room = await get_own_room(self._rooms, room_id)
        if body.user_id is None:
            if body.id_server or body.medium or body.address:
                raise ThreepidDenied("this server does not invite by third-party identifiers")
            raise MissingParam("user_id is missing")
        parse_user_id(body.user_id)
        self._gate.check_invite(body.user_id)
        await self._memberships.invite(room, caller.user_id, body.user_id, _reason(body.reason))
        return Empty()

    @endpoint("POST", *v3("/rooms/{room_id}/leave"), auth=Auth.USER, limit="join")
    async def post_leave(self, caller: Caller, room_id: str, body: ReasonBody) -> Empty:
        """Leave the room, reject its invite or take a knock back."""
        room = await get_room(self._rooms, room_id)
        await self._entrances.leave(room, caller.user_id, body.reason)
        return Empty()

    @endpoint("POST", *v3("/rooms/{room_id}/kick"), auth=Auth.USER, limit="invite")
    async def post_kick(self, caller: Caller, room_id: str, body: TargetBody) -> Empty:
        """Remove a user, or reject their knock."""
        parse_user_id(body.user_id)
        room = await get_own_room(self._rooms, room_id)
        await self._memberships.kick(room, caller.user_id, body.user_id, body.reason)
        return Empty()

    @endpoint("POST", *v3("/rooms/{room_id}/ban"), auth=Auth.USER, limit="invite")
    async def post_ban(self, caller: Caller, room_id: str, body: TargetBody) -> Empty:
        """Remove a user and keep them out."""
        parse_user_id(body.user_id)
        room = await get_own_room(self._rooms, room_id)
        await self._memberships.ban(room, caller.user_id, body.user_id, body.reason)
        return Empty()

    @endpoint("POST", *v3("/rooms/{room_id}/unban"), auth=Auth.USER, limit="invite")
    async def post_unban(self, caller: Caller, room_id: str, body: TargetBody) -> Empty:
        """Lift a ban."""
        parse_user_id(body.user_id)
        room = await get_own_room(self._rooms, room_id)
        await self._memberships.unban(room, caller.user_id, body.user_id, body.reason)
        return Empty()

    @endpoint("POST", *v3("/rooms/{room_id}/forget"), auth=Auth.USER, limit="join")
    async def post_forget(self, caller: Caller, room_id: str) -> Empty:
        """Take a room that the caller has left off their lists."""
        await self._memberships.forget(await get_room(self._rooms, room_id), caller.user_id)
        return Empty()

    async def _join(
        self, caller: Caller, found: FoundRoom, via: list[str], body: dict[str, Any]
    ) -> dict[str, Any]:
        servers = [*via, *found.servers]
        signed = body.get("third_party_signed")
        if signed is not None:
            sender = signed.get("sender") if isinstance(signed, dict) else None
            if not isinstance(sender, str):
                raise BadJson("third_party_signed names no sender")
            await self._third_party.redeem(read_claim(found.room_id, sender, caller.user_id, signed))
        room = await self._entrances.join(found.room_id, caller.user_id, servers, _own_content(body))
        return {"room_id": room.room_id}

    async def _find(self, room_id_or_alias: str) -> FoundRoom:
        if not room_id_or_alias.startswith("#"):
            parse_room_id(room_id_or_alias)
        return await self._directory.find_room(room_id_or_alias)


def _reason(reason: str | None) -> dict[str, Any]:
    return {} if reason is None else {"reason": reason}


def _own_content(body: dict[str, Any]) -> dict[str, Any]:
    """What a join says besides: any fields, as peers take them; none says that an identity server vouches."""
    reason = body.get("reason")
    if not (reason is None or isinstance(reason, str)):
        raise BadJson("reason must be a string")
    content = {key: value for key, value in body.items() if key not in ("reason", "third_party_signed")}
    return content | _reason(reason)
