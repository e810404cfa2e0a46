"""Room upgrades: a new room of another version takes the old one's place.

Spec: client-server-api module "Room upgrades".

    new room     ONE commit: create event with `predecessor`, state, bans, power levels
    old room     ONE commit: tombstone, aliases, power levels; local aliases and the published entry move with it

Whatever happens between the two leaves the old room as it was, and an unused new one.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hs._fast.event_record import EventRecord
from hs.matrix.errors import Forbidden, InvalidParam
from hs.matrix.ids import parse_user_id
from hs.matrix.power_levels import PowerLevels
from hs.matrix.room_versions import RoomVersion, get_room_version
from hs.rooms.create import CreateRoom, RoomCreator, create_draft, power_levels
from hs.rooms.drafts import Draft
from hs.rooms.lane import Lanes
from hs.rooms.state import RoomStates
from hs.rooms.successor import (
    COPIED_TYPES,
    adapt_join_rules,
    adapt_power_levels,
    close_power_levels,
    fits,
    keep_aliases,
    list_aliases,
)
from hs.rooms.writer import RoomWriter
from hs.storage.aliases import DirectoryStore, move_room_entries
from hs.storage.database import Writer
from hs.storage.events import EventStore
from hs.storage.members import MemberStore
from hs.storage.rooms import RoomInfo, RoomStore
from hs.storage.state import StateKey
from hs.storage.timeline import TimelineStore

logger = logging.getLogger(__name__)

MAX_ADDITIONAL_CREATORS = 100
# What one upgrade copies at most: an event each, built in one go. The newest bans and children are kept.
MAX_BANS = 1_000
MAX_CHILDREN = 1_000

_CREATE = ("m.room.create", "")
_POWER = ("m.room.power_levels", "")
_TOMBSTONE = ("m.room.tombstone", "")
_ALIAS = ("m.room.canonical_alias", "")
_CHILD = "m.space.child"
_NEWEST = 2**63 - 1
_CHUNK = 500


@dataclass(frozen=True, slots=True)
class OldRoom:
    """What an upgrade needs to know of the room."""

    info: RoomInfo
    state: dict[StateKey, EventRecord]
    power: PowerLevels
    # Of the room when it was in use, where an earlier upgrade has raised them; None where there are none.
    levels: dict[str, Any] | None
    last_event_id: str | None

    def content(self, key: StateKey) -> dict[str, Any] | None:
        """The content of a state event, or None."""
        record = self.state.get(key)
        return None if record is None else dict(record.content)


class OldRooms:
    """Reads what there is to be taken over."""

    def __init__(
        self, states: RoomStates, events: EventStore, members: MemberStore, timeline: TimelineStore
    ) -> None:
        self._states = states
        self._events = events
        self._members = members
        self._timeline = timeline

    async def read(self, room: RoomInfo, user_id: str) -> OldRoom:
        """The room for an upgrade by the user; Forbidden where the user is not in it."""
        root = await self._states.current(room.room_nid)
        member = ("m.room.member", user_id)
        keys = [_CREATE, _POWER, _TOMBSTONE, _ALIAS, member, *((type, "") for type in COPIED_TYPES)]
        nids = await self._states.get_many(room.room_nid, root, keys)
        found = await self._events.get_many(list(nids.values()))
        state = {key: found[nid] for key, nid in nids.items() if nid in found}
        if member not in state or state[member].content.get("membership") != "join":
            raise Forbidden("you are not in this room")
        power = PowerLevels.of_room(room.version, state[_CREATE], state.get(_POWER))
        place = await self._timeline.find_place_at(room.room_nid, _NEWEST)
        last = None if place is None else await self._events.get(place.event_nid)
        levels = await self._find_levels(room, state)
        return OldRoom(room, state, power, levels, None if last is None else last.event_id)

    async def _find_levels(
        self, room: RoomInfo, state: Mapping[StateKey, EventRecord]
    ) -> dict[str, Any] | None:
        present = state.get(_POWER)
        if present is None:
            return None
        if _TOMBSTONE in state and present.replaces_nid:
            former = await self._events.get(present.replaces_nid)
            power = PowerLevels.of_room(room.version, state[_CREATE], former)
            if close_power_levels(former.content, power, room.version) == present.content:
                return dict(former.content)
        return dict(present.content)

    async def find_create(self, room: RoomInfo) -> EventRecord | None:
        """A room's create event, or None."""
        root = await self._states.current(room.room_nid)
        nid = await self._states.get(room.room_nid, root, *_CREATE)
        return await self._events.get(nid) if nid else None

    async def list_children(self, room: RoomInfo) -> list[EventRecord]:
        """The newest m.space.child events of a space; those that were taken out are left out."""
        root = await self._states.current(room.room_nid)
        state = await self._states.list_without_members(room.room_nid, root)
        names = await self._states.key_names(room.room_nid, list(state))
        nids = [nid for ix, nid in state.items() if names[ix][0] == _CHILD]
        children = await self._newest(room, nids, MAX_CHILDREN)
        return [child for child in children if child.content]

    async def list_bans(self, room: RoomInfo) -> list[EventRecord]:
        """The newest member events that are bans."""
        nids = await self._members.list_member_nids(room.room_nid, "ban", None)
        return await self._newest(room, nids, MAX_BANS)

    async def _newest(self, room: RoomInfo, nids: Sequence[int], at_most: int) -> list[EventRecord]:
        if len(nids) > at_most:
            logger.warning(
                "upgrade of %s: %d of %d events are not copied", room.room_id, len(nids) - at_most, len(nids)
            )
        kept = sorted(nids)[-at_most:]
        found: list[EventRecord] = []
        for first in range(0, len(kept), _CHUNK):
            found += (await self._events.get_many(kept[first : first + _CHUNK])).values()
        return sorted(found, key=lambda record: record.event_nid)


class RoomUpgrader:
    """Upgrades rooms."""

    def __init__(
        self,
        rooms: RoomStore,
        old_rooms: OldRooms,
        creator: RoomCreator,
        writer: RoomWriter,
        directory: DirectoryStore,
    ) -> None:
        self._rooms = rooms
        self._old_rooms = old_rooms
        self._creator = creator
        self._writer = writer
        self._directory = directory
        # One upgrade of a room at a time: who comes second finds it done.
        self._lanes = Lanes()
        self._running: set[asyncio.Task[str]] = set()

    async def upgrade(
        self, room: RoomInfo, user_id: str, new_version: str, additional_creators: Sequence[str] = ()
    ) -> str:
        """The id of the room that replaces `room` from now on, or already did in this version.

        Raises UnsupportedRoomVersion, InvalidParam for what is no user id, and Forbidden where the user may
        not send m.room.tombstone. A caller that goes away does not interrupt it.
        """
        version = get_room_version(new_version)
        # Ignored where the version knows none.
        others = _check_creators(additional_creators) if version.privileged_creators else []
        work = self._upgrade(room, user_id, version, others)
        task = asyncio.create_task(work, name=f"upgrade {room.room_id}")
        self._running.add(task)
        task.add_done_callback(self._end)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Wait until what has begun is done."""
        await asyncio.gather(*self._running, return_exceptions=True)

    def _end(self, task: asyncio.Task[str]) -> None:
        self._running.discard(task)
        # Asking for the exception keeps asyncio quiet where nobody is left to raise it for.
        if not task.cancelled():
            task.exception()

    async def _upgrade(
        self, room: RoomInfo, user_id: str, version: RoomVersion, others: Sequence[str]
    ) -> str:
        async with self._lanes.turn(room.room_nid):
            old = await self._old_rooms.read(room, user_id)
            if old.power.of_user(user_id) < old.power.of_state_event(_TOMBSTONE[0]):
                raise Forbidden("you may not replace this room")
            done = await self._find_done(old, version)
            if done is not None:
                return done
            aliases = await self._directory.list_room_aliases(room.room_nid)
            new_id = await self._make(old, user_id, version, others, aliases)
            await self._retire(old, user_id, await self._rooms.get(new_id), aliases)
            return new_id

    async def _find_done(self, old: OldRoom, version: RoomVersion) -> str | None:
        """The room of that version that the tombstone points to and that says so itself."""
        tombstone = old.content(_TOMBSTONE) or {}
        replacement = tombstone.get("replacement_room")
        if not isinstance(replacement, str) or "\x00" in replacement:
            return None
        new = await self._rooms.find(replacement)
        if new is None or new.version != version:
            return None
        create = await self._old_rooms.find_create(new)
        predecessor = None if create is None else create.content.get("predecessor")
        is_ours = isinstance(predecessor, dict) and predecessor.get("room_id") == old.info.room_id
        return new.room_id if is_ours else None

    # --- the new room

    async def _make(
        self, old: OldRoom, user_id: str, version: RoomVersion, others: Sequence[str], aliases: Sequence[str]
    ) -> str:
        """The id of the new room, committed with all it takes over."""
        request = CreateRoom(creation_content=_creation_content(old, others, version))
        creators = {user_id, *others} if version.privileged_creators else {user_id}
        drafts = [
            Draft(type, user_id, content, state_key=state_key, deduplicate=False)
            for (type, state_key), content in self._copied_state(old, version, aliases).items()
        ]
        if (old.content(_CREATE) or {}).get("type") == "m.space":
            drafts += [
                Draft(_CHILD, user_id, dict(child.content), state_key=child.state_key)
                for child in await self._old_rooms.list_children(old.info)
                if fits(child.content, version)
            ]
        drafts += [
            _ban(user_id, ban)
            for ban in await self._old_rooms.list_bans(old.info)
            if ban.state_key not in creators
        ]
        # Last: until there is one, who made the room may do all of this, whatever their level.
        adapted = (
            power_levels(user_id, request, version)
            if old.levels is None
            else adapt_power_levels(old.levels, old.info.version, version, old.power.creators, creators)
        )
        drafts.append(Draft(_POWER[0], user_id, adapted, state_key=""))
        room = await self._creator.make(version, create_draft(user_id, request, version), drafts)
        return room.room_id

    def _copied_state(
        self, old: OldRoom, version: RoomVersion, aliases: Sequence[str]
    ) -> dict[StateKey, dict[str, Any]]:
        found = {(type, ""): content for type in COPIED_TYPES if (content := old.content((type, "")))}
        rules = found.get(("m.room.join_rules", ""))
        if rules is not None:
            found["m.room.join_rules", ""] = adapt_join_rules(rules, version)
        alias = keep_aliases(old.content(_ALIAS) or {}, aliases)
        if list_aliases(alias):
            found[_ALIAS] = alias
        return {key: content for key, content in found.items() if fits(content, version)}

    # --- the old room

    async def _retire(self, old: OldRoom, user_id: str, new: RoomInfo, aliases: Sequence[str]) -> None:
        """Send everybody on to the new room; what the user may not change beside the tombstone stays."""

        async def move(writer: Writer, room: RoomInfo) -> None:
            await move_room_entries(writer, room.room_nid, new.room_nid)

        content = {"body": "This room has been replaced", "replacement_room": new.room_id}
        tombstone = Draft(_TOMBSTONE[0], user_id, content, state_key="")
        others = [
            Draft(type, user_id, changed, state_key=state_key)
            for (type, state_key), changed in _closing_state(old, aliases).items()
            if old.power.of_user(user_id) >= old.power.of_state_event(type)
        ]
        try:
            await self._writer.send_all(old.info, [tombstone, *others], move)
        except Forbidden:
            if not others:
                raise
            # A level above the user's own cannot be changed, say: the tombstone is what counts.
            await self._writer.send_all(old.info, [tombstone], move)


def _closing_state(old: OldRoom, aliases: Sequence[str]) -> dict[StateKey, dict[str, Any]]:
    """The state events that change in the old room beside its tombstone."""
    changed: dict[StateKey, dict[str, Any]] = {}
    alias = old.content(_ALIAS)
    if alias is not None and set(list_aliases(alias)) & set(aliases):
        changed[_ALIAS] = keep_aliases(alias, [one for one in list_aliases(alias) if one not in aliases])
    levels = old.content(_POWER) or {}
    closed = close_power_levels(levels, old.power, old.info.version)
    if closed != levels:
        changed[_POWER] = closed
    return changed


def _creation_content(
    old: OldRoom, additional_creators: Sequence[str], version: RoomVersion
) -> dict[str, Any]:
    create = old.content(_CREATE) or {}
    content: dict[str, Any] = {"predecessor": {"room_id": old.info.room_id}}
    # Since v12 the tombstone names the new room's hash, so that no event of the old room's end is known by now.
    if old.last_event_id is not None and not version.room_id_is_create_hash:
        content["predecessor"]["event_id"] = old.last_event_id
    if isinstance(create.get("type"), str):
        content["type"] = create["type"]
    if create.get("m.federate") is False:
        content["m.federate"] = False
    if additional_creators:
        content["additional_creators"] = list(additional_creators)
    return content


def _ban(sender: str, ban: EventRecord) -> Draft:
    reason = ban.content.get("reason")
    content = {"membership": "ban"} | ({"reason": reason} if isinstance(reason, str) else {})
    return Draft("m.room.member", sender, content, state_key=ban.state_key)


def _check_creators(user_ids: Sequence[str]) -> list[str]:
    if len(user_ids) > MAX_ADDITIONAL_CREATORS:
        raise InvalidParam(f"at most {MAX_ADDITIONAL_CREATORS} additional creators are accepted")
    for user_id in user_ids:
        parse_user_id(user_id)
    return list(dict.fromkeys(user_ids))
