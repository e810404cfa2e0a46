"""Room aliases of this server, and who may publish a room.

Spec: client-server-api "Room aliases" and m.room.canonical_alias.
"""

from collections.abc import Mapping
from typing import Any

from hs._fast.event_record import EventRecord
from hs.directory.remote_aliases import FoundRoom, RemoteAliases
from hs.matrix.errors import (
    BadAlias,
    BadJson,
    Forbidden,
    InvalidParam,
    MatrixError,
    NotFound,
    RoomInUse,
    Unknown,
)
from hs.matrix.ids import parse_room_alias, server_of
from hs.matrix.power_levels import PowerLevels
from hs.rooms.clock import Clock
from hs.rooms.drafts import Draft, OnWrite
from hs.rooms.state import RoomStates
from hs.rooms.writer import RoomWriter
from hs.storage.aliases import DirectoryStore, insert_alias, insert_published
from hs.storage.database import Writer
from hs.storage.events import EventStore
from hs.storage.memberships import MembershipStore
from hs.storage.rooms import RoomInfo, RoomStore

_CANONICAL = "m.room.canonical_alias"


class RoomFacts:
    """Small questions about a room's current state that the directory asks."""

    def __init__(self, states: RoomStates, events: EventStore, members: MembershipStore) -> None:
        self._states = states
        self._events = events
        self._members = members

    async def find_state(self, room: RoomInfo, type: str) -> EventRecord | None:
        """The current state event of this type with an empty key."""
        root = await self._states.current(room.room_nid)
        nid = await self._states.get(room.room_nid, root, type, "")
        return await self._events.get(nid) if nid else None

    async def is_joined(self, room: RoomInfo, user_id: str) -> bool:
        """Whether the user is in the room now."""
        return await self._members.find_membership(room.room_nid, user_id) == "join"

    async def is_world_readable(self, room: RoomInfo) -> bool:
        """Whether anybody may read the room."""
        visibility = await self.find_state(room, "m.room.history_visibility")
        return visibility is not None and visibility.content.get("history_visibility") == "world_readable"

    async def may_set_canonical_alias(self, room: RoomInfo, user_id: str) -> bool:
        """Whether the user is in the room and has the level for m.room.canonical_alias."""
        create = await self.find_state(room, "m.room.create")
        if create is None or not await self.is_joined(room, user_id):
            return False
        levels = await self.find_state(room, "m.room.power_levels")
        power = PowerLevels.of_room(room.version, create, levels)
        return power.of_user(user_id) >= power.of_state_event(_CANONICAL)


class AliasDirectory:
    """Makes, resolves and removes the aliases of this server."""

    def __init__(
        self,
        store: DirectoryStore,
        rooms: RoomStore,
        facts: RoomFacts,
        writer: RoomWriter,
        clock: Clock,
        server_name: str,
        remote: RemoteAliases | None = None,
    ) -> None:
        self._remote = remote
        self._store = store
        self._rooms = rooms
        self._facts = facts
        self._writer = writer
        self._clock = clock
        self._server_name = server_name

    def full_alias(self, localpart: str) -> str:
        """The alias of this server with this local part; InvalidParam where that is none."""
        if ":" in localpart or not localpart:
            raise InvalidParam("room_alias_name is the part between '#' and ':'")
        return self._check_syntax(f"#{localpart}:{self._server_name}")

    async def resolve(self, alias: str) -> RoomInfo:
        """The room that the alias leads to; NotFound where there is none, InvalidParam for a malformed one."""
        self._check_syntax(alias)
        room_nid = await self._store.find_alias_room(alias)
        if room_nid is None:
            raise NotFound(f"room alias {alias} not found")
        return await self._rooms.by_nid(room_nid)

    async def find_room(self, room_id_or_alias: str) -> FoundRoom:
        """The id of the room, which may be of other servers only, and servers that are said to be in it."""
        if not room_id_or_alias.startswith("#"):
            return FoundRoom(room_id_or_alias)
        return await self.find_alias(room_id_or_alias)

    async def find_alias(self, alias: str) -> FoundRoom:
        """Where an alias of any server leads; NotFound where it leads nowhere."""
        self._check_syntax(alias)
        if self._remote is not None and server_of(alias) != self._server_name:
            return await self._remote.find(alias)
        return FoundRoom((await self.resolve(alias)).room_id)

    async def resolve_id_or_alias(self, room_id_or_alias: str) -> RoomInfo:
        """The room with this id or alias; NotFound where this server knows none."""
        if room_id_or_alias.startswith("#"):
            return await self.resolve(room_id_or_alias)
        return await self._rooms.get(room_id_or_alias)

    async def insert(self, user_id: str, alias: str, room_id: str) -> None:
        """Point a new alias to a room that the user is in."""
        self._check_local(alias)
        room = await self._rooms.get(room_id)
        if not await self._facts.is_joined(room, user_id):
            raise Forbidden("you are not in that room")
        if not await self._store.insert_alias(alias, room.room_nid, user_id, self._clock.now_ms()):
            raise Unknown(f"room alias {alias} already exists", http_status=409)

    async def delete(self, user_id: str, is_admin: bool, alias: str) -> None:
        """Remove an alias: its maker, the server's admins and those who set the room's canonical alias may."""
        room = await self.resolve(alias)
        allowed = (
            is_admin
            or await self._store.find_alias_creator(alias) == user_id
            or await self._facts.may_set_canonical_alias(room, user_id)
        )
        if not allowed:
            raise Forbidden("you may not remove this alias")
        if not await self._store.delete_alias(alias):
            raise NotFound(f"room alias {alias} not found")
        await self._withdraw(room, user_id, alias)

    async def list_for(self, user_id: str, is_admin: bool, room: RoomInfo) -> list[str]:
        """The room's local aliases, for those who may read the room."""
        if not (
            is_admin
            or await self._facts.is_joined(room, user_id)
            or await self._facts.is_world_readable(room)
        ):
            raise Forbidden("you are not a member of the room")
        return await self._store.list_room_aliases(room.room_nid)

    async def set_visibility(self, user_id: str, is_admin: bool, room: RoomInfo, is_public: bool) -> None:
        """Publish the room in this server's list, or take it off."""
        if not (is_admin or await self._facts.may_set_canonical_alias(room, user_id)):
            raise Forbidden("you may not publish this room")
        if is_public:
            await self._store.set_published(room.room_nid, self._clock.now_ms())
        else:
            await self._store.delete_published(room.room_nid)

    async def is_published(self, room: RoomInfo) -> bool:
        """Whether the room is in this server's list."""
        return await self._store.is_published(room.room_nid)

    def on_create(self, user_id: str, alias: str | None, publish: bool) -> OnWrite | None:
        """What a new room's commit writes into the directory; RoomInUse takes the room back with it."""
        if alias is None and not publish:
            return None

        async def write(writer: Writer, room: RoomInfo) -> None:
            now_ms = self._clock.now_ms()
            if alias is not None and not await insert_alias(writer, alias, room.room_nid, user_id, now_ms):
                raise RoomInUse(f"room alias {alias} already exists")
            if publish:
                await insert_published(writer, room.room_nid, now_ms)

        return write

    async def check_canonical(self, room: RoomInfo, content: Mapping[str, Any]) -> None:
        """Aliases that the content lists and the room's present event does not must lead to this room.

        Raises InvalidParam for a malformed alias and BadAlias for one that leads elsewhere or nowhere.
        """
        present = await self._facts.find_state(room, _CANONICAL)
        known = set() if present is None else set(_listed(present.content))
        added = [alias for alias in _listed(content, strict=True) if alias not in known]
        for alias in added:
            self._check_syntax(alias)
        if not added:
            return
        leads_to = await self._store.find_alias_rooms(added)
        for alias in added:
            if leads_to.get(alias) != room.room_nid:
                raise BadAlias(f"the alias '{alias}' does not point to this room")

    async def _withdraw(self, room: RoomInfo, user_id: str, alias: str) -> None:
        """Take a removed alias out of the room's canonical_alias event, where the user may."""
        present = await self._facts.find_state(room, _CANONICAL)
        if present is None or alias not in _listed(present.content):
            return
        content = dict(present.content)
        if content.get("alias") == alias:
            del content["alias"]
        if isinstance(content.get("alt_aliases"), list):
            content["alt_aliases"] = [other for other in content["alt_aliases"] if other != alias]
            if not content["alt_aliases"]:
                del content["alt_aliases"]
        try:
            await self._writer.send(room, Draft(_CANONICAL, user_id, content, state_key=""))
        except MatrixError:
            # The spec's recommendation: the alias is gone all the same, whatever the room's rules say.
            return

    def _check_syntax(self, alias: str) -> str:
        parse_room_alias(alias)
        return alias

    def _check_local(self, alias: str) -> None:
        self._check_syntax(alias)
        if server_of(alias) != self._server_name:
            raise InvalidParam("aliases of other servers are made there")


def _listed(content: Mapping[str, Any], *, strict: bool = False) -> list[str]:
    """The aliases in an m.room.canonical_alias content; `strict` raises BadJson for other shapes."""
    main = content.get("alias")
    others = content.get("alt_aliases", [])
    if strict and not (main is None or isinstance(main, str)):
        raise BadJson("alias must be a string")
    if strict and not (isinstance(others, list) and all(isinstance(alias, str) for alias in others)):
        raise BadJson("alt_aliases must be a list of aliases")
    listed = [main] if isinstance(main, str) and main else []
    if isinstance(others, list):
        listed += [alias for alias in others if isinstance(alias, str)]
    return listed
