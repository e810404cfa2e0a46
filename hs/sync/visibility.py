"""Which events of a room a user may see.

Spec: client-server-api "Room history visibility". Judged for each event by the room's visibility and the
user's membership at that event; both are point look-ups in the state tree, made once for each
distinct state among the events.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hs._fast.event_record import EventRecord
from hs._fast.state_tree import Node
from hs.rooms.state import RoomStates
from hs.storage.events import EventStore
from hs.storage.members import MemberStore

_VISIBILITY = "m.room.history_visibility"
_MEMBER = "m.room.member"


@dataclass(frozen=True, slots=True)
class Seen:
    """An event that a user may see, and the user's membership at it."""

    record: EventRecord
    membership: str


@dataclass(frozen=True, slots=True)
class _Moment:
    """What counts of a state."""

    visibility: str
    membership: str


class Visibility:
    """Judges events."""

    def __init__(self, states: RoomStates, events: EventStore, members: MemberStore) -> None:
        self._states = states
        self._events = events
        self._members = members

    async def filter(self, user_id: str, records: Sequence[EventRecord]) -> list[Seen]:
        """Those of the records, all of one room, that the user may see, in order."""
        if not records:
            return []
        room_nid = records[0].room_nid
        joins = [
            s for s, kind in await self._members.list_changes_in_room(user_id, room_nid) if kind == "join"
        ]
        last_join = max(joins, default=0)
        moments: dict[int, _Moment] = {}
        seen = []
        for record in records:
            after = await self._moment(room_nid, self._states.after(record), user_id, moments)
            sides = [after]
            if _is_turning_point(record, user_id):
                # What ends or begins one's view is seen by whoever may see either side of it.
                before = await self._states.before(record)
                sides.append(await self._moment(room_nid, before, user_id, moments))
            joined_later = last_join >= record.stream_ordering
            # One's own memberships are never a secret to oneself.
            is_own = record.type == _MEMBER and record.state_key == user_id
            if is_own or any(_is_visible(side, joined_later) for side in sides):
                seen.append(Seen(record, after.membership))
        return seen

    async def _moment(self, room_nid: int, root: Node, user_id: str, known: dict[int, _Moment]) -> _Moment:
        if root.id and root.id in known:
            return known[root.id]
        keys = [(_VISIBILITY, ""), (_MEMBER, user_id)]
        nids = await self._states.get_many(room_nid, root, keys)
        found = await self._events.get_many(list(nids.values()))
        visibility = found.get(nids.get((_VISIBILITY, ""), 0))
        member = found.get(nids.get((_MEMBER, user_id), 0))
        moment = _Moment(
            _text(visibility, "history_visibility", "shared"), _text(member, "membership", "leave")
        )
        if root.id:
            known[root.id] = moment
        return moment


def _text(record: EventRecord | None, key: str, default: str) -> str:
    value = record.content.get(key) if record is not None else None
    return value if isinstance(value, str) else default


def _is_turning_point(record: EventRecord, user_id: str) -> bool:
    return record.state_key is not None and (
        record.type == _VISIBILITY or (record.type == _MEMBER and record.state_key == user_id)
    )


def _is_visible(moment: _Moment, joined_later: bool) -> bool:
    if moment.visibility == "world_readable" or moment.membership == "join":
        return True
    if moment.visibility == "joined":
        return False
    if moment.visibility == "invited":
        return moment.membership == "invite"
    # "shared", and what nobody knows: the spec's default.
    return joined_later
