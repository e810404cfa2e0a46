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
from hs.sync.access import END

_VISIBILITY = "m.room.history_visibility"
_VISIBILITY_KEY = (_VISIBILITY, "")
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

    async def filter(
        self, user_id: str, records: Sequence[EventRecord], joined_at: int | None = None
    ) -> list[Seen]:
        """Those of the records, all of one room, that the user may see, in order.

        `joined_at` says that the user is in the room, and since when nothing about that has changed: what
        arrived later is theirs to see.
        """
        if not records:
            return []
        room_nid = records[0].room_nid
        judged = [r for r in records if joined_at is None or r.stream_ordering <= joined_at]
        moments = await self._moments(room_nid, judged, user_id) if judged else {}
        # Asked for only where it matters: whoever has been in all the time never needs it.
        present_until = None if joined_at is None else END
        seen = []
        for record in records:
            if joined_at is not None and record.stream_ordering > joined_at:
                seen.append(Seen(record, "join"))
                continue
            after = moments[record.state_id]
            sides = [after]
            if _is_turning_point(record, user_id):
                # What ends or begins one's view is seen by whoever may see either side of it.
                sides.append(await self._moment(room_nid, await self._states.before(record), user_id))
            # One's own memberships are never a secret to oneself.
            is_own = record.type == _MEMBER and record.state_key == user_id
            is_visible = is_own or any(_is_visible(side) for side in sides)
            if not is_visible and any(side.is_shared for side in sides):
                if present_until is None:
                    present_until = await self._find_end_of_stay(user_id, room_nid)
                is_visible = present_until >= record.stream_ordering
            if is_visible:
                seen.append(Seen(record, after.membership))
        return seen

    async def memberships(
        self, user_id: str, records: Sequence[EventRecord], joined_at: int | None = None
    ) -> dict[int, str]:
        """The user's memberships at events of one room, by number; `joined_at` is as in `filter`."""
        found = {
            r.event_nid: "join" for r in records if joined_at is not None and r.stream_ordering > joined_at
        }
        judged = [record for record in records if record.event_nid not in found]
        if judged:
            moments = await self._moments(judged[0].room_nid, judged, user_id)
            found |= {record.event_nid: moments[record.state_id].membership for record in judged}
        return found

    async def _find_end_of_stay(self, user_id: str, room_nid: int) -> int:
        """The stream ordering up to which the user was in the room last; above all others where they are there now.

        In between, branches of other servers come in that know nothing of the user: what is shared on them is for
        who is there.
        """
        changes = await self._members.list_changes_in_room(user_id, room_nid)
        end = _NEVER
        was_in = False
        for stream, kind in changes:
            if kind == "join":
                end = END
            elif was_in:
                end = stream
            was_in = kind == "join"
        return end

    async def _moments(
        self, room_nid: int, records: Sequence[EventRecord], user_id: str
    ) -> dict[int, _Moment]:
        """What counts after each of the records, by state id."""
        roots = {record.state_id: self._states.after(record) for record in records}
        return dict(
            zip(roots, await self._read_moments(room_nid, list(roots.values()), user_id), strict=True)
        )

    async def _moment(self, room_nid: int, root: Node, user_id: str) -> _Moment:
        [moment] = await self._read_moments(room_nid, [root], user_id)
        return moment

    async def _read_moments(self, room_nid: int, roots: Sequence[Node], user_id: str) -> list[_Moment]:
        states = await self._states.get_many_at(room_nid, roots, [_VISIBILITY_KEY, (_MEMBER, user_id)])
        pairs = [(nids.get(_VISIBILITY_KEY, 0), nids.get((_MEMBER, user_id), 0)) for nids in states]
        distinct = dict.fromkeys(pairs)
        found = await self._events.get_many([*{nid for pair in distinct for nid in pair if nid}])
        made = {
            (visibility, member): _Moment(
                _text(found.get(visibility), "history_visibility", "shared"),
                _text(found.get(member), "membership", "leave"),
            )
            for visibility, member in distinct
        }
        return [made[pair] for pair in pairs]


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
