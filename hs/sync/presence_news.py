"""Who is told of whose presence: people who share a room that is small enough, and everybody of themselves.

A change marks the small rooms of who has changed, and wakes who waits there. A sync looks for marked rooms
among its user's; only where it finds one it asks who has changed. Nothing is kept by pairs of users.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec
from cachetools import LRUCache

from hs.rooms.clock import Clock
from hs.storage.members import UserRoomRow
from hs.storage.presence import PresenceStore
from hs.sync.news import Notifier
from hs.sync.presence_states import PresenceStates, UserState
from hs.sync.recent_rooms import RecentRooms
from hs.sync.small_rooms import SmallRooms

# Users of one answer, the last changed first; about 150 KB.
MAX_EVENTS = 1_000
# Members that are looked at for one answer.
_MAX_MEMBERS = 20_000
# Rooms of another server's user that are looked at.
_MAX_REMOTE_ROOMS = 1_000
# Users as other servers are told of them, and the rooms by whose members each may be seen.
OnTold = Callable[[Sequence[Mapping[str, object]], Mapping[str, Collection[int]]], None]
# A server that has come into a room, and the users there who are not offline.
OnNewServer = Callable[[str, Sequence[Mapping[str, object]]], None]
# After so many changes of others it is cheaper to ask for the members of one's rooms.
_MAX_SCANNED = 200
# Users who have changed are remembered for syncs that come back late; about 500 bytes each.
_MAX_CHANGED = 50_000
# Who has come into a room is told who else is there; about 200 bytes each.
_MAX_ARRIVALS = 20_000


class PresenceNews:
    """The order in which users have changed, and who sees it."""

    def __init__(
        self,
        store: PresenceStore,
        notifier: Notifier,
        small: SmallRooms,
        states: PresenceStates,
        clock: Clock,
    ) -> None:
        self._store = store
        self._notifier = notifier
        self._user_rooms = notifier.user_rooms
        self._small = small
        self._states = states
        self._clock = clock
        self.current = self._start = clock.now_ms()
        # By serial, ascending.
        self._changed: OrderedDict[str, int] = OrderedDict()
        self._rooms = RecentRooms()
        self._arrivals: OrderedDict[tuple[str, int], int] = OrderedDict()
        # Rooms of other servers' users, when they changed last.
        self._remote_rooms: LRUCache[str, frozenset[int]] = LRUCache(_MAX_CHANGED)
        self._listeners: list[OnTold] = []
        self._server_listeners: list[OnNewServer] = []

    def on_told(self, listener: OnTold) -> None:
        """Call `listener` with those of our users whom others are told of."""
        self._listeners.append(listener)

    def on_new_server(self, listener: OnNewServer) -> None:
        """Call `listener` with servers whose first user has come into a small room, and who is there."""
        self._server_listeners.append(listener)

    def start(self, newest: int) -> None:
        """Go on after the serials of an earlier process."""
        self.current = self._start = max(self._clock.now_ms(), newest)

    def restore(self, user_id: str, serial: int) -> None:
        """A user who had changed in an earlier process; serials must ascend."""
        self._changed[user_id] = serial

    def serial_of(self, user_id: str) -> int:
        """The serial of the user's last change; 0 where it is forgotten."""
        return self._changed.get(user_id, 0)

    async def announce(
        self, changed: Mapping[str, bool], arrivals: Sequence[tuple[str, int]]
    ) -> list[UserState]:
        """Tell of users who have changed (whether they are told of themselves, too), and of (user, room) joins.

        Gives the users that there was something to tell of.
        """
        joined = {user_id: await self._joined_rooms(user_id) for user_id in changed}
        rooms = {room_nid for room_nids in joined.values() for room_nid in room_nids}
        small = set(await self._small.among(rooms | {room_nid for _, room_nid in arrivals}))
        members_by_server = await self._list_new_servers([one for one in arrivals if one[1] in small])
        # From here on nothing is awaited: whoever sees the new serials sees what goes with them.
        marked: set[int] = set()
        told = []
        seen_in: dict[str, set[int]] = defaultdict(set)
        for user_id, is_own in changed.items():
            user = self._states.users.get(user_id)
            if user is not None:
                told.append(user)
                rooms = small.intersection(joined[user_id])
                self._mark(user_id, rooms, marked)
                if not user.is_remote:
                    seen_in[user_id] |= rooms
                if is_own:
                    user.own_serial = self.current
        for user_id, room_nid in arrivals:
            user = self._states.users.get(user_id)
            if room_nid in small:
                if user is not None and user.state != "offline":
                    self._mark(user_id, [room_nid], marked)
                    seen_in[user_id].add(room_nid)
                else:
                    self._mark(None, [room_nid], marked)
                self._arrivals[user_id, room_nid] = self.current
        self._trim()
        # Most of them share several of the rooms.
        woken = set[str]().union(*map(self._user_rooms.list_users, marked))
        woken.update(user_id for user_id, is_own in changed.items() if is_own)
        for user_id in woken:
            self._notifier.wake_user(user_id)
        self._tell(seen_in)
        for server_name, members in members_by_server.items():
            self._tell_new_server(server_name, members)
        return told

    async def _list_new_servers(self, arrivals: Sequence[tuple[str, int]]) -> dict[str, set[str]]:
        """Servers that had no user in a small room before these came, and the members of such rooms."""
        if not arrivals or not self._server_listeners:
            return {}
        found: dict[str, set[str]] = defaultdict(set)
        for server_name, room_nids in (await self._store.list_new_servers(arrivals)).items():
            found[server_name].update(await self._store.list_joined(room_nids, _MAX_MEMBERS))
        return found

    def _tell_new_server(self, server_name: str, members: Collection[str]) -> None:
        now_ms, users = self._clock.now_ms(), self._states.users
        there = [user for id in members if (user := users.get(id)) is not None and _is_there(user)]
        entries = [
            {"user_id": user.user_id, **describe(user, now_ms)} for user in there if not user.is_remote
        ]
        if entries:
            for listener in self._server_listeners:
                listener(server_name, entries)

    def _tell(self, seen_in: Mapping[str, Collection[int]]) -> None:
        if not self._listeners or not any(seen_in.values()):
            return
        now_ms, users = self._clock.now_ms(), self._states.users
        entries = [{"user_id": id, **describe(users[id], now_ms)} for id, rooms in seen_in.items() if rooms]
        for listener in self._listeners:
            listener(entries, seen_in)

    async def list_visible(self, user_id: str) -> list[UserState]:
        """The user, and everybody they can see; those who are not offline."""
        users = self._states.users
        found: set[str] = set()
        if len(users) > (user_id in users):
            found = await self._list_members(await self._joined_rooms(user_id))
        return self._newest([users[id] for id in found | {user_id} if id in users and _is_there(users[id])])

    async def list_changed(self, user_id: str, since: int, upto: int) -> list[UserState]:
        """Whom of those that they can see the user is to be told of."""
        if since >= self.current:
            return []
        rows = await self._user_rooms.get(user_id)
        if since < self._start:
            # Marks do not outlive the process.
            marked: Collection[int] = list(rows)
        else:
            marked = self._rooms.list_since(rows.keys(), since)
        joined = [room_nid for room_nid in marked if rows[room_nid].membership == "join"]
        users = self._states.users
        found: set[str] = set()
        if joined:
            new = [nid for nid in joined if since < self._arrivals.get((user_id, nid), 0) <= upto]
            found |= await self._find_changed(joined, since, upto) - {user_id}
            if new:
                members = await self._list_members(new) - {user_id}
                found |= {id for id in members if id in users and _is_there(users[id])}
        own = users.get(user_id)
        if own is not None and since < own.own_serial <= upto:
            found.add(user_id)
        return self._newest([users[id] for id in found if id in users])

    async def _find_changed(self, room_nids: Sequence[int], since: int, upto: int) -> set[str]:
        """Users in these rooms who have changed in (since, upto]."""
        changed = []
        for scanned, (user_id, serial) in enumerate(reversed(self._changed.items())):
            if serial <= since:
                break
            if scanned >= _MAX_SCANNED:
                members = await self._list_members(room_nids)
                return {id for id in members if since < self.serial_of(id) <= upto}
            if serial <= upto:
                changed.append(user_id)
        small = await self._small.among(room_nids) if changed else []
        return {id for id in changed if await self._is_in(id, small)}

    async def _is_in(self, user_id: str, room_nids: Sequence[int]) -> bool:
        if user_id in self._remote_rooms:
            return not self._remote_rooms[user_id].isdisjoint(room_nids)
        return _is_in(await self._user_rooms.get(user_id), room_nids)

    async def _list_members(self, room_nids: Collection[int]) -> set[str]:
        """Everybody in those of the rooms that are small."""
        small = await self._small.among(room_nids)
        return set(await self._store.list_joined(small, _MAX_MEMBERS)) if small else set()

    async def _joined_rooms(self, user_id: str) -> Collection[int]:
        user = self._states.users.get(user_id)
        if user is not None and user.is_remote:
            found = frozenset(await self._store.list_joined_rooms(user_id, _MAX_REMOTE_ROOMS))
            self._remote_rooms[user_id] = found
            return found
        rows = await self._user_rooms.get(user_id)
        return [room_nid for room_nid, row in rows.items() if row.membership == "join"]

    def _newest(self, users: list[UserState]) -> list[UserState]:
        users.sort(key=lambda user: self.serial_of(user.user_id))
        return users[-MAX_EVENTS:]

    def _mark(self, user_id: str | None, room_nids: Collection[int], marked: set[int]) -> None:
        """Take the next serial for these rooms, and for who has changed in them."""
        self.current = max(self.current + 1, self._clock.now_ms())
        if user_id is not None:
            self._changed[user_id] = self.current
            self._changed.move_to_end(user_id)
        for room_nid in room_nids:
            self._rooms.note(room_nid, self.current)
        marked.update(room_nids)

    def _trim(self) -> None:
        while len(self._changed) > _MAX_CHANGED:
            user_id, _ = self._changed.popitem(last=False)
            self._states.forget(user_id)
        while len(self._arrivals) > _MAX_ARRIVALS:
            self._arrivals.popitem(last=False)


def render(user: UserState, now_ms: int) -> bytes:
    """The user's m.presence event as JSON."""
    return b'{"content":%b,"sender":%b,"type":"m.presence"}' % (
        render_status(user, now_ms),
        msgspec.json.encode(user.user_id),
    )


def render_status(user: UserState, now_ms: int) -> bytes:
    """What the user is, as JSON."""
    return msgspec.json.encode(describe(user, now_ms))


def describe(user: UserState, now_ms: int) -> dict[str, object]:
    """What the user is, as in m.presence."""
    content: dict[str, object] = {"presence": user.state}
    if user.last_active_ms:
        content["last_active_ago"] = max(now_ms - user.last_active_ms, 0)
    if user.state == "online":
        # Nobody hears more of it until they are idle.
        content["currently_active"] = True
    if user.status_msg:
        content["status_msg"] = user.status_msg
    return content


def _is_there(user: UserState) -> bool:
    return user.state != "offline"


def _is_in(rows: Mapping[int, UserRoomRow], room_nids: Sequence[int]) -> bool:
    return any((row := rows.get(nid)) is not None and row.membership == "join" for nid in room_nids)
