"""Lists of members and of a user's rooms, as clients ask for them."""

from collections.abc import Sequence
from dataclasses import dataclass

from hs.storage.batching import Batcher
from hs.storage.database import Database

# room_nid, "in" for those in the room or "out" for those who were, how many
_Heroes = tuple[int, str, int]


@dataclass(frozen=True, slots=True)
class UserRoomRow:
    """A room of one of our users and what the user is in it."""

    room_nid: int
    membership: str
    event_nid: int
    stream_ordering: int
    sender: str
    forgotten: bool = False


@dataclass(frozen=True, slots=True)
class Departure:
    """The event that ended a user's membership, and when it arrived."""

    stream_ordering: int
    event_nid: int


@dataclass(frozen=True, slots=True)
class MemberCounts:
    """How many users are joined and invited, and whom to name the room after (None: not asked for)."""

    joined: int
    invited: int
    heroes: tuple[str, ...] | None
    former: tuple[str, ...]


class MemberStore:
    """Reads the member tables."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counts: Batcher[int, dict[str, int]] = Batcher(self._load_counts)
        self._heroes: Batcher[_Heroes, tuple[str, ...]] = Batcher(self._load_heroes)

    async def list_rooms_of(self, user_id: str) -> list[UserRoomRow]:
        """All rooms that the user has a membership in."""
        rows = await self._database.fetch(
            "SELECT room_nid, membership, event_nid, stream_ordering, sender, forgotten "
            "FROM local_memberships WHERE user_id = $1 ORDER BY room_nid",
            user_id,
        )
        return [UserRoomRow(**row) for row in rows]

    async def list_last_changes(self, user_id: str, room_nids: Sequence[int], upto: int) -> list[UserRoomRow]:
        """The user's last membership change up to a stream ordering in each of the rooms where there was one."""
        rows = await self._database.fetch(
            "SELECT c.room_nid, c.membership, c.event_nid, c.stream_ordering, e.sender "
            "FROM unnest($2::bigint[]) AS r (room_nid) CROSS JOIN LATERAL ("
            " SELECT * FROM local_membership_changes WHERE user_id = $1 AND room_nid = r.room_nid"
            " AND stream_ordering <= $3 ORDER BY stream_ordering DESC LIMIT 1) c "
            "JOIN events e ON e.room_nid = c.room_nid AND e.event_nid = c.event_nid",
            user_id,
            room_nids,
            upto,
        )
        return [UserRoomRow(**row) for row in rows]

    async def list_changes_in_room(self, user_id: str, room_nid: int) -> list[tuple[int, str]]:
        """(stream_ordering, membership) of all of the user's membership changes in the room, oldest first."""
        rows = await self._database.fetch(
            "SELECT stream_ordering, membership FROM local_membership_changes "
            "WHERE user_id = $1 AND room_nid = $2 ORDER BY stream_ordering",
            user_id,
            room_nid,
        )
        return [(row["stream_ordering"], row["membership"]) for row in rows]

    async def find_departure(self, user_id: str, room_nid: int) -> Departure | None:
        """How the user's last time in the room ended; None where they never were in it, are still, or forgot it."""
        row = await self._database.fetchrow(
            "SELECT c.stream_ordering, c.event_nid FROM local_memberships m JOIN local_membership_changes c "
            "USING (user_id, room_nid) WHERE m.user_id = $1 AND m.room_nid = $2 AND NOT m.forgotten "
            "AND c.membership <> 'join' AND c.stream_ordering > ("
            " SELECT max(stream_ordering) FROM local_membership_changes"
            " WHERE user_id = $1 AND room_nid = $2 AND membership = 'join'"
            ") ORDER BY c.stream_ordering LIMIT 1",
            user_id,
            room_nid,
        )
        return None if row is None else Departure(**row)

    async def list_forgotten(self, user_id: str, room_nids: Sequence[int]) -> set[int]:
        """Those of the rooms that the user has left and does not want to see again."""
        rows = await self._database.fetch(
            "SELECT room_nid FROM local_memberships "
            "WHERE user_id = $1 AND room_nid = ANY($2::bigint[]) AND forgotten",
            user_id,
            room_nids,
        )
        return {row["room_nid"] for row in rows}

    async def list_joined_profiles(self, room_nid: int) -> list[tuple[str, str | None, str | None]]:
        """(user_id, display name, avatar URL) of everybody in the room."""
        rows = await self._database.fetch(
            "SELECT user_id, display_name, avatar_url FROM memberships "
            "WHERE room_nid = $1 AND membership = 'join' ORDER BY user_id",
            room_nid,
        )
        return [(row["user_id"], row["display_name"], row["avatar_url"]) for row in rows]

    async def list_member_nids(
        self, room_nid: int, membership: str | None, not_membership: str | None
    ) -> list[int]:
        """The current member events of the room: with one membership OR with any but another; None is not asked for."""
        rows = await self._database.fetch(
            "SELECT event_nid FROM memberships WHERE room_nid = $1 AND ("
            "($2::text IS NULL AND $3::text IS NULL) OR membership = $2 OR membership <> $3) ORDER BY user_id",
            room_nid,
            membership,
            not_membership,
        )
        return [row["event_nid"] for row in rows]

    async def count_members(self, room_nid: int, heroes: int) -> MemberCounts:
        """Counts, and so many users to name the room after; none are looked for where `heroes` is 0.

        Spec: client-server-api GET /sync, `m.heroes`: joined and invited users first, by the order of
        their events; where there are none, those who left or were banned.
        """
        by_kind = await self._counts.get(room_nid) or {}
        joined, invited = by_kind.get("join", 0), by_kind.get("invite", 0)
        if not heroes:
            return MemberCounts(joined, invited, None, ())
        present = await self._heroes.get((room_nid, "in", heroes)) or ()
        # Nobody is their own hero: whoever is alone is shown who was there before.
        former = (await self._heroes.get((room_nid, "out", heroes)) or ()) if len(present) < 2 else ()
        return MemberCounts(joined, invited, present, former)

    async def _load_counts(self, room_nids: Sequence[int]) -> dict[int, dict[str, int]]:
        rows = await self._database.fetch(
            "SELECT room_nid, membership, count(*) AS n FROM memberships "
            "WHERE room_nid = ANY($1::bigint[]) AND membership IN ('join', 'invite') GROUP BY room_nid, membership",
            room_nids,
        )
        found: dict[int, dict[str, int]] = {}
        for row in rows:
            found.setdefault(row["room_nid"], {})[row["membership"]] = row["n"]
        return found

    async def _load_heroes(self, wanted: Sequence[_Heroes]) -> dict[_Heroes, tuple[str, ...]]:
        rows = await self._database.fetch(
            "SELECT w.n, m.user_id FROM unnest($1::bigint[], $2::text[], $3::bigint[]) "
            "WITH ORDINALITY AS w (room_nid, place, size, n) CROSS JOIN LATERAL ("
            " SELECT user_id, event_nid FROM memberships WHERE room_nid = w.room_nid"
            " AND membership IN (CASE w.place WHEN 'in' THEN 'join' ELSE 'leave' END,"
            " CASE w.place WHEN 'in' THEN 'invite' ELSE 'ban' END)"
            " ORDER BY event_nid LIMIT w.size"
            ") m ORDER BY w.n, m.event_nid",
            *zip(*wanted, strict=True),
        )
        found: dict[_Heroes, tuple[str, ...]] = {}
        for row in rows:
            key = wanted[row["n"] - 1]
            found[key] = (*found.get(key, ()), row["user_id"])
        return found
