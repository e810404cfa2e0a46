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
# Below the stream ordering of every event, backfilled ones included.
_NEVER = -(2**63)


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

    @property
    def is_shared(self) -> bool:
        """Whether those who join later may see it: the spec's default, and so what nobody understands."""
        return self.visibility not in ("world_readable", "invited", "joined")


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
        # Asked for only where it matters: whoever has been in all the time never needs it.
        last_join: int | None = None
        moments: dict[int, _Moment] = {}
        seen = []
        for record in records:
            after = await self._moment(room_nid, self._states.after(record), user_id, moments)
            sides = [after]
            if _is_turning_point(record, user_id):
                # What ends or begins one's view is seen by whoever may see either side of it.
                before = await self._states.before(record)
                sides.append(await self._moment(room_nid, before, user_id, moments))
            # One's own memberships are never a secret to oneself.
            is_own = record.type == _MEMBER and record.state_key == user_id
            is_visible = is_own or any(_is_visible(side) for side in sides)
            if not is_visible and any(side.is_shared for side in sides):
                if last_join is None:
                    last_join = await self._find_last_join(user_id, room_nid)
                is_visible = last_join >= record.stream_ordering
            if is_visible:
                seen.append(Seen(record, after.membership))
        return seen

    async def _find_last_join(self, user_id: str, room_nid: int) -> int:
        """The stream ordering of the user's last join; below all others where there is none."""
        changes = await self._members.list_changes_in_room(user_id, room_nid)
        return max((stream for stream, kind in changes if kind == "join"), default=_NEVER)

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


def _is_visible(moment: _Moment) -> bool:
    """Whether the event is visible whatever came later."""
    return (
        moment.visibility == "world_readable"
        or moment.membership == "join"
        or (moment.visibility == "invited" and moment.membership == "invite")
    )
