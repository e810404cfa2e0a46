"""The published list of rooms: search, room types and paging.

Spec: client-server-api "Published room directory".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from cachetools import LRUCache

from hs.matrix.errors import InvalidParam
from hs.storage.aliases import DirectoryStore
from hs.storage.events import EventStore
from hs.storage.rooms import RoomStore

# One answer's rooms: clients ask for 20 to 100.
MAX_LIMIT = 500
DEFAULT_LIMIT = 100

_MOST_TYPES = 100
# An entry is about 500 bytes; servers publish some thousand rooms at most.
_CACHED_ENTRIES = 20_000

_TYPES = (
    "m.room.create",
    "m.room.name",
    "m.room.topic",
    "m.room.canonical_alias",
    "m.room.avatar",
    "m.room.join_rules",
    "m.room.history_visibility",
    "m.room.guest_access",
)
# In an entry, never told: users of other servers cannot join the room.
_OURS_ALONE = "hs.ours_alone"
_TOKEN = re.compile(r"([np])(\d{1,18})\.(\d{1,18})")


class ListFilter(msgspec.Struct):
    """Which rooms to show."""

    generic_search_term: str | None = None
    room_types: list[str | None] | None = None


class ListBody(msgspec.Struct):
    """The body of POST /publicRooms, of users and of servers."""

    limit: int | None = None
    since: str | None = None
    filter: ListFilter | None = None
    include_all_networks: bool = False
    third_party_instance_id: str | None = None


@dataclass(frozen=True, slots=True)
class Search:
    """What a client looks for; empty fields do not narrow the list."""

    term: str = ""
    room_types: frozenset[str | None] | None = None
    # Other servers are not told of rooms that their users cannot join.
    is_for_servers: bool = False


@dataclass(frozen=True, slots=True)
class _Place:
    """A room's place in the list: largest first, then oldest."""

    joined: int
    room_nid: int

    @property
    def key(self) -> tuple[int, int]:
        return -self.joined, self.room_nid

    def token(self, direction: str) -> str:
        return f"{direction}{self.joined}.{self.room_nid}"


class PublicRooms:
    """Lists the rooms that this server publishes."""

    def __init__(self, store: DirectoryStore, rooms: RoomStore, events: EventStore) -> None:
        self._store = store
        self._rooms = rooms
        self._events = events
        # By the numbers of the state events an entry is made of: what they say never changes.
        self._entries: LRUCache[tuple[int, ...], dict[str, Any]] = LRUCache(_CACHED_ENTRIES)

    async def list_wanted(self, wanted: ListBody, *, is_for_servers: bool = False) -> dict[str, Any]:
        """A page as the body of /publicRooms; InvalidParam for a token that is none, or a negative limit.

        Tokens name a place in the order, not an offset: rooms that come and go between two pages
        neither repeat nor hide others.
        """
        if wanted.third_party_instance_id and not wanted.include_all_networks:
            # Rooms of other networks come with application services, and there are none yet.
            return {"chunk": [], "total_room_count_estimate": 0}
        count = check_limit(wanted.limit)
        if is_for_servers:
            # Spec: 0, the default, is no limit.
            count = count or DEFAULT_LIMIT
        search = _search_of(wanted.filter or ListFilter(), is_for_servers)
        backwards, edge = _parse_token(wanted.since)
        state = await self._store.list_published_state(_TYPES)
        joined = await self._store.count_joined(list(state))
        entries = await self._load_entries(state)
        # A room without members cannot be joined by anybody, so it is not worth finding.
        places = sorted(
            (
                _Place(joined[nid], nid)
                for nid, entry in entries.items()
                if nid in joined and _matches(entry, search)
            ),
            key=lambda place: place.key,
        )
        if edge is None:
            start = 0
        elif backwards:
            start = max(0, sum(place.key < edge.key for place in places) - count)
        else:
            start = sum(place.key <= edge.key for place in places)
        page = places[start : start + count]
        chunk = [_told(entries[place.room_nid]) | {"num_joined_members": place.joined} for place in page]
        answer: dict[str, Any] = {"chunk": chunk, "total_room_count_estimate": len(places)}
        if page and start + count < len(places):
            answer["next_batch"] = page[-1].token("n")
        if page and start > 0:
            answer["prev_batch"] = page[0].token("p")
        return answer

    async def _load_entries(
        self, state: Mapping[int, Mapping[str, tuple[int, int]]]
    ) -> dict[int, dict[str, Any]]:
        """The directory entry of each room, without its member count."""
        keys = {
            room_nid: (room_nid, *(number for type in _TYPES for number in events.get(type, (0, 0))))
            for room_nid, events in state.items()
        }
        # Taken out before anything is awaited: others make the cache forget.
        known = {nid: entry for nid, key in keys.items() if (entry := self._entries.get(key)) is not None}
        missing = {nid: events for nid, events in state.items() if nid not in known}
        built = await self._build_entries(missing) if missing else {}
        for room_nid, entry in built.items():
            self._entries[keys[room_nid]] = entry
        return known | built

    async def _build_entries(
        self, state: Mapping[int, Mapping[str, tuple[int, int]]]
    ) -> dict[int, dict[str, Any]]:
        rooms = await self._rooms.list_by_nids(list(state))
        records = await self._events.get_many(
            [nid for events in state.values() for nid, _ in events.values()]
        )
        entries = {}
        for room_nid, events in state.items():
            contents = {type: records[nid].content for type, (nid, _) in events.items() if nid in records}
            entries[room_nid] = build_entry(rooms[room_nid].room_id, contents)
            if contents.get("m.room.create", {}).get("m.federate") is False:
                entries[room_nid][_OURS_ALONE] = True
        return entries


def build_entry(room_id: str, contents: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A PublishedRoomsChunk without its member count, from state contents by type."""

    def text(type: str, field: str, begins_with: str = "") -> str | None:
        value = contents.get(type, {}).get(field)
        return value if isinstance(value, str) and value and value.startswith(begins_with) else None

    entry = {
        "room_id": room_id,
        "name": text("m.room.name", "name"),
        "topic": text("m.room.topic", "topic"),
        "canonical_alias": text("m.room.canonical_alias", "alias", "#"),
        "avatar_url": text("m.room.avatar", "url", "mxc://"),
        # The rules' own default: without the event nobody joins uninvited.
        "join_rule": text("m.room.join_rules", "join_rule") or "invite",
        "room_type": text("m.room.create", "type"),
        "world_readable": text("m.room.history_visibility", "history_visibility") == "world_readable",
        "guest_can_join": text("m.room.guest_access", "guest_access") == "can_join",
    }
    return {key: value for key, value in entry.items() if value is not None}


def _told(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != _OURS_ALONE}


def _matches(entry: Mapping[str, Any], search: Search) -> bool:
    if search.is_for_servers and _OURS_ALONE in entry:
        return False
    if search.room_types is not None and entry.get("room_type") not in search.room_types:
        return False
    if not search.term:
        return True
    term = search.term.casefold()
    return any(term in str(entry.get(field, "")).casefold() for field in ("name", "topic", "canonical_alias"))


def _parse_token(since: str | None) -> tuple[bool, _Place | None]:
    """Whether to page backwards, and from which place on."""
    if not since:
        return False, None
    match = _TOKEN.fullmatch(since)
    if match is None:
        raise InvalidParam("since is not a token of this list")
    return match[1] == "p", _Place(int(match[2]), int(match[3]))


def check_limit(limit: int | None) -> int:
    """How many rooms to show for the limit that somebody asks for; InvalidParam for a negative one."""
    count = DEFAULT_LIMIT if limit is None else limit
    if count < 0:
        raise InvalidParam("limit must not be negative")
    return min(count, MAX_LIMIT)


def _search_of(wanted: ListFilter, is_for_servers: bool) -> Search:
    types = None if wanted.room_types is None else frozenset(wanted.room_types[:_MOST_TYPES])
    return Search(wanted.generic_search_term or "", types, is_for_servers)
