"""How our users get into rooms and out of them, wherever the rooms are.

A room that one of us is in is ours to write to; into others we come through a server that is in them.
Spec: client-server-api "Room membership"; server-server-api "Joining Rooms", "Knocking upon a room".
"""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any
from weakref import WeakValueDictionary

from hs.matrix.errors import Forbidden, NotFound, UnableToAuthoriseJoin, UnableToGrantJoin
from hs.matrix.ids import server_of
from hs.rooms.ends import end_tasks
from hs.rooms.handshakes import choose_servers
from hs.rooms.membership import RoomMemberships
from hs.rooms.participation import Participation
from hs.rooms.remote_rooms import RemoteRooms
from hs.storage.memberships import MembershipStore
from hs.storage.outside import StrippedStateStore
from hs.storage.rooms import RoomInfo, RoomStore

# Of a room that we know, so many of its servers are asked to let a user in.
_KNOWN_SERVERS = 5


class RoomEntrances:
    """Joins, knocks and departures, here or through other servers."""

    def __init__(
        self,
        rooms: RoomStore,
        memberships: RoomMemberships,
        participation: Participation,
        members: MembershipStore,
        stripped: StrippedStateStore,
        server_name: str,
        remote: RemoteRooms | None,
    ) -> None:
        self._rooms = rooms
        self._memberships = memberships
        self._participation = participation
        self._members = members
        self._stripped = stripped
        self._server_name = server_name
        self._remote = remote
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        # What is under way, by room, user and kind: a client that asks again waits for the same.
        self._running: dict[tuple[str, str, str], asyncio.Task[RoomInfo]] = {}

    async def join(
        self, room_id: str, user_id: str, via: Sequence[str] = (), extra: Mapping[str, Any] | None = None
    ) -> RoomInfo:
        """The room that the user is in now; `via` are servers that may be in it."""
        return await self._once((room_id, user_id, "join"), self._join(room_id, user_id, via, extra))

    async def knock(
        self, room_id: str, user_id: str, via: Sequence[str] = (), reason: str | None = None
    ) -> RoomInfo:
        """The room that the user knocks at now."""
        return await self._once((room_id, user_id, "knock"), self._knock(room_id, user_id, via, reason))

    async def leave(self, room: RoomInfo, user_id: str, reason: str | None = None) -> None:
        """Take the user out of the room, of its invite, or of a knock."""
        await self._once((room.room_id, user_id, "leave"), self._leave(room, user_id, reason))

    async def close(self) -> None:
        """Wait a while for what is under way, then cut it."""
        await end_tasks(self._running.values())

    async def _once(self, key: tuple[str, str, str], work: Coroutine[Any, Any, RoomInfo]) -> RoomInfo:
        """Carry the work out in a task of its own: a client that hangs up must not leave it half done."""
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(work)
            task.add_done_callback(lambda done: self._running.pop(key, None))
        else:
            work.close()
        return await asyncio.shield(task)

    async def _join(
        self, room_id: str, user_id: str, via: Sequence[str], extra: Mapping[str, Any] | None
    ) -> RoomInfo:
        lock = self._locks.setdefault(room_id, asyncio.Lock())
        room = await self._rooms.find(room_id)
        if room is not None and await self._is_here(room):
            try:
                await self._memberships.join(room, user_id, extra)
                return room
            except (UnableToAuthoriseJoin, UnableToGrantJoin) as error:
                # Another server of the room may know the user, or have somebody who may let them in.
                others = await self._members.list_joined_servers(room.room_nid, _KNOWN_SERVERS)
                servers = choose_servers(self._server_name, via, others)
                if self._remote is None or not servers:
                    raise Forbidden(error.message) from error
                return await self._join_through(room_id, user_id, servers, extra)
        # One at a time: once the first of us is in, the others join here.
        async with lock:
            room = await self._rooms.find(room_id)
            if room is not None and await self._participation.is_in(room.room_nid):
                await self._memberships.join(room, user_id, extra)
                return room
            servers = choose_servers(self._server_name, await self._inviters(room, user_id), via)
            return await self._join_through(room_id, user_id, servers, extra)

    async def _join_through(
        self, room_id: str, user_id: str, servers: Sequence[str], extra: Mapping[str, Any] | None
    ) -> RoomInfo:
        if self._remote is None or not servers:
            raise NotFound("no server is known that is in the room")
        content = await self._memberships.join_content(user_id, extra)
        present = await self._rooms.find(room_id)
        is_beginning = present is None or not await self._participation.is_in(present.room_nid)
        room = await self._remote.join(room_id, user_id, servers, content, is_beginning)
        await self._memberships.entered(room, user_id)
        return room

    async def _knock(self, room_id: str, user_id: str, via: Sequence[str], reason: str | None) -> RoomInfo:
        room = await self._rooms.find(room_id)
        if room is not None and await self._is_here(room):
            await self._memberships.knock(room, user_id, reason)
            return room
        servers = choose_servers(self._server_name, via)
        if self._remote is None or not servers:
            raise NotFound("no server is known that is in the room")
        content = await self._memberships.knock_content(user_id, reason)
        return await self._remote.knock(room_id, user_id, servers, content)

    async def _leave(self, room: RoomInfo, user_id: str, reason: str | None) -> RoomInfo:
        if self._remote is None or await self._is_here(room):
            await self._memberships.leave(room, user_id, reason)
            return room
        if await self._members.find_membership(room.room_nid, user_id) not in ("invite", "knock"):
            raise Forbidden("you are not in this room")
        servers = choose_servers(self._server_name, await self._inviters(room, user_id))
        content = {} if reason is None else {"reason": reason}
        await self._remote.leave(room, user_id, servers, content)
        return room

    async def _is_here(self, room: RoomInfo) -> bool:
        """Whether the room is ours to write to: one of us is in it, or nobody of anywhere else is."""
        if await self._participation.is_in(room.room_nid):
            return True
        return await self._members.is_deserted(room.room_nid)

    async def _inviters(self, room: RoomInfo | None, user_id: str) -> list[str]:
        """Servers that have told the user of the room: of who invites them, or whom its stripped state names."""
        if room is None:
            return []
        sender = await self._members.find_local_sender(room.room_nid, user_id)
        named = await self._stripped.list_senders(user_id, room.room_nid)
        return [server_of(user) for user in ([] if sender is None else [sender]) + named]
