"""What a room shows to whoever might join it. Spec: client-server-api GET /room_summary, GET /hierarchy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hs._fast.event_record import EventRecord
from hs.directory.public_rooms import build_entry
from hs.storage.events import EventStore
from hs.storage.overviews import OverviewStore, RoomParts
from hs.storage.rooms import RoomInfo, RoomStore

_TYPES = (
    "m.room.create",
    "m.room.name",
    "m.room.topic",
    "m.room.canonical_alias",
    "m.room.avatar",
    "m.room.join_rules",
    "m.room.history_visibility",
    "m.room.guest_access",
    "m.room.encryption",
)
_OPEN = ("public", "knock", "knock_restricted")
_RESTRICTED = ("restricted", "knock_restricted")
# Rooms that let others in whose members are looked up; the rules of a room are anybody's text.
_MOST_ALLOWED = 100


@dataclass(frozen=True, slots=True)
class Overview:
    """A room as the summary that clients get, and what decides whether they get it."""

    room: RoomInfo
    entry: dict[str, Any]
    membership: str | None
    is_accessible: bool


class RoomOverviews:
    """Makes overviews."""

    def __init__(self, store: OverviewStore, rooms: RoomStore, events: EventStore) -> None:
        self._store = store
        self._rooms = rooms
        self._events = events

    async def get(self, user_id: str, room: RoomInfo) -> Overview:
        """The overview of one room for a user."""
        return (await self._build(user_id, {room.room_nid: room}))[room.room_nid]

    async def list_children(self, room: RoomInfo) -> list[EventRecord]:
        """The m.space.child events of a space; of no more rooms than are looked at are these ever in memory."""
        nids = await self._store.list_children(room.room_nid)
        records = await self._events.get_many(nids)
        return [records[nid] for nid in nids if nid in records]

    async def list_known(self, user_id: str, room_ids: Sequence[str]) -> dict[str, Overview]:
        """The overviews of those of the rooms that this server knows, by id."""
        nids = await self._store.list_nids(room_ids)
        built = await self._build(user_id, await self._rooms.list_by_nids(list(nids.values())))
        return {overview.room.room_id: overview for overview in built.values()}

    async def _build(self, user_id: str, rooms: Mapping[int, RoomInfo]) -> dict[int, Overview]:
        if not rooms:
            return {}
        parts = await self._store.list_parts(user_id, list(rooms), _TYPES)
        records = await self._events.get_many([nid for part in parts.values() for nid in part.state.values()])
        entries = {nid: _entry(rooms[nid], part, records) for nid, part in parts.items()}
        allowed = {id for entry in entries.values() for id in entry.get("allowed_room_ids", ())}
        memberships = await self._store.list_memberships_of(user_id, list(allowed)) if allowed else {}
        joined = {room_id for room_id, membership in memberships.items() if membership == "join"}
        return {
            nid: Overview(
                rooms[nid],
                entries[nid],
                part.membership,
                is_accessible(entries[nid], part.membership, joined),
            )
            for nid, part in parts.items()
        }


def _entry(room: RoomInfo, parts: RoomParts, records: Mapping[int, EventRecord]) -> dict[str, Any]:
    contents = {type: records[nid].content for type, nid in parts.state.items() if nid in records}
    entry = build_entry(room.room_id, contents)
    entry |= {"num_joined_members": parts.joined, "room_version": room.version.id}
    # The specification knows this one.
    if contents.get("m.room.encryption", {}).get("algorithm") == "m.megolm.v1.aes-sha2":
        entry["encryption"] = "m.megolm.v1.aes-sha2"
    if entry["join_rule"] in _RESTRICTED:
        entry["allowed_room_ids"] = _allowed(contents["m.room.join_rules"].get("allow"))
    return entry


def _allowed(conditions: object) -> list[str]:
    ids = [
        condition["room_id"]
        for condition in (conditions if isinstance(conditions, list) else [])
        if isinstance(condition, dict)
        and condition.get("type") == "m.room_membership"
        and isinstance(condition.get("room_id"), str)
        and condition["room_id"].startswith("!")
    ]
    return ids[:_MOST_ALLOWED]


def is_accessible(entry: Mapping[str, Any], membership: str | None, joined: set[str]) -> bool:
    """Whether the user is in the room, may come in or knock, or may look in from outside.

    `joined` are those of the `allowed_room_ids` that the user is in.
    """
    if membership in ("join", "invite") or entry["world_readable"]:
        return True
    if membership == "ban":
        return False
    return entry["join_rule"] in _OPEN or not joined.isdisjoint(entry.get("allowed_room_ids", ()))
