"""How many are in a room and whom to name it after, for the rooms that syncs show.

Spec: client-server-api GET /sync, RoomSummary.
"""

from dataclasses import dataclass

from cachetools import LRUCache

from hs.rooms.state import RoomStates
from hs.storage.events import EventStore
from hs.storage.members import MemberCounts, MemberStore
from hs.sync.news import RoomNews

_CACHED_ROOMS = 10_000
_HEROES = 5
_NAMES = {("m.room.name", ""): "name", ("m.room.canonical_alias", ""): "alias"}


@dataclass(frozen=True, slots=True)
class Summary:
    """A room's summary for one user; `heroes` is None where the room has a name."""

    joined: int
    invited: int
    heroes: tuple[str, ...] | None

    def to_dict(self) -> dict[str, object]:
        """As /sync has it."""
        counts: dict[str, object] = {
            "m.joined_member_count": self.joined,
            "m.invited_member_count": self.invited,
        }
        return counts if self.heroes is None else {**counts, "m.heroes": self.heroes}


class RoomSummaries:
    """Summaries, read again only when something they are made of has changed."""

    def __init__(self, members: MemberStore, states: RoomStates, events: EventStore, news: RoomNews) -> None:
        self._members = members
        self._states = states
        self._events = events
        self._news = news
        self._counts: LRUCache[int, tuple[int, MemberCounts]] = LRUCache(_CACHED_ROOMS)

    async def get(self, room_nid: int, user_id: str) -> Summary:
        """The room's summary as of now."""
        version = self._news.summary_version(room_nid)
        known = self._counts.get(room_nid)
        if known is None or known[0] != version:
            has_name = await self._has_name(room_nid)
            # One more than anybody is shown: nobody is their own hero.
            counts = await self._members.count_members(room_nid, 0 if has_name else _HEROES + 1)
            known = self._counts[room_nid] = (version, counts)
        counts = known[1]
        if counts.heroes is None:
            return Summary(counts.joined, counts.invited, None)
        heroes = [hero for hero in counts.heroes if hero != user_id]
        if not heroes:
            heroes = [hero for hero in counts.former if hero != user_id]
        return Summary(counts.joined, counts.invited, tuple(heroes[:_HEROES]))

    async def _has_name(self, room_nid: int) -> bool:
        root = await self._states.current(room_nid)
        nids = await self._states.get_many(room_nid, root, _NAMES)
        found = await self._events.get_many(list(nids.values()))
        return any(found[nid].content.get(_NAMES[key]) for key, nid in nids.items() if nid in found)
