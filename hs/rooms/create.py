"""New rooms: the events that a createRoom request implies, in the spec's order, in one commit.

Spec: client-server-api "Creation", POST /createRoom.
"""

import logging
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from hs.matrix.errors import BadJson, InvalidParam, InvalidRoomState, MatrixError
from hs.matrix.ids import parse_user_id, server_of
from hs.matrix.room_versions import DEFAULT_ROOM_VERSION, RoomVersion, get_room_version
from hs.matrix.server_acl import is_allowed
from hs.rooms.drafts import Draft, OnWrite
from hs.rooms.membership import InviteElsewhere, ProfileSource
from hs.rooms.writer import RoomWriter
from hs.storage.rooms import RoomInfo

logger = logging.getLogger(__name__)

# A room may be made with this many invites at once; clients invite further people afterwards.
MAX_INVITES = 100
MAX_INITIAL_STATE = 500

_JOIN_RULES = {"public_chat": "public"}


class InitialState(msgspec.Struct, frozen=True):
    """One entry of `initial_state`."""

    type: str
    content: dict[str, Any]
    state_key: str = ""


class CreateRoom(msgspec.Struct, frozen=True):
    """The body of POST /createRoom."""

    visibility: Literal["public", "private"] = "private"
    room_alias_name: str | None = None
    name: str | None = None
    topic: str | None = None
    invite: list[str] = []
    invite_3pid: list[dict[str, Any]] = []
    room_version: str | None = None
    creation_content: dict[str, Any] = {}
    initial_state: list[InitialState] = []
    preset: Literal["private_chat", "public_chat", "trusted_private_chat"] | None = None
    is_direct: bool = False
    power_level_content_override: dict[str, Any] = {}

    @property
    def effective_preset(self) -> str:
        """The preset, which follows from the visibility where it is not given."""
        return self.preset or ("public_chat" if self.visibility == "public" else "private_chat")


class InviteGate(Protocol):
    """Says whether a user of ours or of another server can be invited."""

    def check_invite(self, target: str) -> None:
        """Raises a MatrixError where the user cannot be invited."""


class RoomCreator:
    """Makes rooms."""

    def __init__(
        self, writer: RoomWriter, profiles: ProfileSource, gate: InviteGate, server_name: str
    ) -> None:
        self._writer = writer
        self._profiles = profiles
        self._gate = gate
        self._server_name = server_name
        self._invite_elsewhere: InviteElsewhere | None = None

    async def create(
        self, creator: str, request: CreateRoom, *, alias: str | None = None, on_write: OnWrite | None = None
    ) -> str:
        """The id of the new room, whose events are all committed together.

        `alias` becomes the canonical alias; `on_write` runs in the same transaction, so that directory
        entries and the room stand or fall together. Raises InvalidRoomState or Forbidden where the
        wanted state is not allowed, UnsupportedRoomVersion, InvalidParam.
        """
        version = get_room_version(
            DEFAULT_ROOM_VERSION if request.room_version is None else request.room_version
        )
        self._check(creator, request)
        drafts = plan_state(creator, request, version, alias)
        invites = [
            await self._invite(creator, target, request.is_direct) for target in dict.fromkeys(request.invite)
        ]
        drafts += [draft for draft in invites if self._is_local(draft)]
        room = await self.make(version, create_draft(creator, request, version), drafts, on_write)
        for draft in invites:
            if not self._is_local(draft):
                await self._invite_remote(room, draft)
        return room.room_id

    async def make(
        self, version: RoomVersion, create: Draft, drafts: Sequence[Draft], on_write: OnWrite | None = None
    ) -> RoomInfo:
        """The new room: its create event, the join of its creator, and then the drafts."""
        profile = await self._profiles.member_fields(create.sender)
        join = _member(create.sender, create.sender, {"membership": "join", **profile})
        # Up to version 11 the room's id is a free choice; from 12 on it is the create event's hash.
        room_id = (
            None if version.room_id_is_create_hash else f"!{secrets.token_urlsafe(18)}:{self._server_name}"
        )
        return await self._writer.create_room(version, room_id, [create, join, *drafts], on_write)

    def on_remote_invite(self, act: InviteElsewhere) -> None:
        """Have `act` invite users of other servers."""
        self._invite_elsewhere = act

    def _is_local(self, invite: Draft) -> bool:
        return server_of(invite.state_key or "") == self._server_name

    async def _invite_remote(self, room: RoomInfo, draft: Draft) -> None:
        if self._invite_elsewhere is None:
            return
        try:
            await self._invite_elsewhere(room, draft)
        except MatrixError as error:
            # The room stands, and its creator sees in it who was not invited.
            logger.info("%s was not invited to a new room: %s", draft.state_key, error)

    def _check(self, creator: str, request: CreateRoom) -> None:
        if len(request.invite) > MAX_INVITES:
            raise InvalidParam(f"at most {MAX_INVITES} users can be invited at creation")
        if len(request.initial_state) > MAX_INITIAL_STATE:
            raise InvalidParam(f"at most {MAX_INITIAL_STATE} initial_state events are accepted")
        if request.invite_3pid:
            raise InvalidParam("invite_3pid needs an identity server, which is not supported")
        for target in request.invite:
            self._check_invite(target)
        for entry in request.initial_state:
            if entry.type == "m.room.member":
                self._check_member(creator, entry)
            elif (entry.type, entry.state_key) == ("m.room.server_acl", ""):
                check_acl(entry.content, self._server_name)

    def _check_member(self, creator: str, entry: InitialState) -> None:
        """Whom the creator may make a member of what kind before there is anybody else."""
        parse_user_id(entry.state_key)
        membership = entry.content.get("membership")
        if membership not in (("join",) if entry.state_key == creator else ("invite", "ban")):
            raise InvalidRoomState(
                "initial_state can invite and ban others, and leaves the creator in the room"
            )
        if membership == "invite":
            self._check_invite(entry.state_key)

    def _check_invite(self, target: str) -> None:
        parse_user_id(target)
        self._gate.check_invite(target)

    async def _invite(self, creator: str, target: str, is_direct: bool) -> Draft:
        content: dict[str, Any] = {"membership": "invite", **await self._profiles.member_fields(target)}
        if is_direct:
            content["is_direct"] = True
        return _member(creator, target, content)


def check_acl(content: Mapping[str, Any], server_name: str) -> None:
    """InvalidParam for an m.room.server_acl that would shut this server out of the room, and nobody could undo."""
    if not is_allowed(content, server_name):
        raise InvalidParam("the server ACL would deny this server")


def _member(sender: str, target: str, content: dict[str, Any]) -> Draft:
    return Draft("m.room.member", sender, content, state_key=target)


def create_draft(creator: str, request: CreateRoom, version: RoomVersion) -> Draft:
    """The m.room.create event: the client's extra keys under those that are the server's to say."""
    content = dict(request.creation_content)
    content["room_version"] = version.id
    if version.implicit_creator:
        content.pop("creator", None)
    else:
        content["creator"] = creator
    if version.privileged_creators:
        content |= _additional_creators(creator, request)
    else:
        content.pop("additional_creators", None)
    return Draft("m.room.create", creator, content, state_key="")


def _additional_creators(creator: str, request: CreateRoom) -> dict[str, Any]:
    named = request.creation_content.get("additional_creators", [])
    if not isinstance(named, list) or not all(isinstance(user, str) for user in named):
        raise BadJson("creation_content.additional_creators must be a list of user ids")
    if request.effective_preset == "trusted_private_chat":
        named = [*named, *request.invite]
    others = [user for user in dict.fromkeys(named) if user != creator]
    return {"additional_creators": others} if others else {}


def power_levels(creator: str, request: CreateRoom, version: RoomVersion) -> dict[str, Any]:
    """The default m.room.power_levels content with the request's override on top."""
    users: dict[str, int] = {}
    events = {
        "m.room.name": 50,
        "m.room.power_levels": 100,
        "m.room.history_visibility": 100,
        "m.room.canonical_alias": 50,
        "m.room.avatar": 50,
        "m.room.tombstone": 100,
        "m.room.server_acl": 100,
        "m.room.encryption": 100,
    }
    if version.privileged_creators:
        # Since v12 creators are above all levels and must not be listed; only they may tombstone.
        events["m.room.tombstone"] = 150
    else:
        users[creator] = 100
        if request.effective_preset == "trusted_private_chat":
            users |= dict.fromkeys(request.invite, 100)
    content: dict[str, Any] = {
        "users": users,
        "users_default": 0,
        "events": events,
        "events_default": 0,
        "state_default": 50,
        "ban": 50,
        "kick": 50,
        "redact": 50,
        # In private rooms, anyone inside may bring others in; in public ones nobody needs to.
        "invite": 0 if request.effective_preset != "public_chat" else 50,
    }
    return content | request.power_level_content_override


def plan_state(creator: str, request: CreateRoom, version: RoomVersion, alias: str | None) -> list[Draft]:
    """State events 3 to 7 of the spec's list, later ones winning over earlier ones of the same key."""
    preset = request.effective_preset
    planned: dict[tuple[str, str], dict[str, Any]] = {
        ("m.room.power_levels", ""): power_levels(creator, request, version),
    }
    if alias is not None:
        planned["m.room.canonical_alias", ""] = {"alias": alias}
    planned["m.room.join_rules", ""] = {"join_rule": _JOIN_RULES.get(preset, "invite")}
    planned["m.room.history_visibility", ""] = {"history_visibility": "shared"}
    if preset != "public_chat":
        # There it is "forbidden", which is what a room without the event says: other servers make none.
        planned["m.room.guest_access", ""] = {"guest_access": "can_join"}
    for entry in request.initial_state:
        if entry.type == "m.room.create":
            raise BadJson("initial_state cannot hold m.room.create")
        planned[entry.type, entry.state_key] = entry.content
    if request.name:
        planned["m.room.name", ""] = {"name": request.name}
    if request.topic:
        # Since spec v1.15 the topic has a rich form beside the plain one (m.room.topic).
        rich = {"m.text": [{"body": request.topic, "mimetype": "text/plain"}]}
        planned["m.room.topic", ""] = {"topic": request.topic, "m.topic": rich}
    return [
        Draft(type, creator, content, state_key=state_key, deduplicate=False)
        for (type, state_key), content in planned.items()
    ]
