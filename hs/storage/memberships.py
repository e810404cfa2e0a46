"""Single memberships: what the room engine asks before it lets somebody in or out."""

from collections.abc import Sequence

from hs.storage.database import Database


class MembershipStore:
    """Point look-ups in the current memberships; lists for clients are in hs.storage.members."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_membership(self, room_nid: int, user_id: str) -> str | None:
        """The user's current membership, or None where the room has no member event for them."""
        membership: str | None = await self._database.fetchval(
            "SELECT membership FROM memberships WHERE room_nid = $1 AND user_id = $2", room_nid, user_id
        )
        return membership

    async def list_joined_among(self, room_nid: int, user_ids: Sequence[str]) -> set[str]:
        """Those of the users who are in the room."""
        rows = await self._database.fetch(
            "SELECT user_id FROM memberships "
            "WHERE room_nid = $1 AND user_id = ANY($2::text[]) AND membership = 'join'",
            room_nid,
            user_ids,
        )
        return {row["user_id"] for row in rows}

    async def is_joined_to_any(self, user_id: str, room_ids: Sequence[str]) -> bool:
        """Whether the user is joined to at least one of the rooms, as far as this server knows."""
        # The rules of a room are anybody's text; no room id has a NUL, and the database takes none.
        room_ids = [room_id for room_id in room_ids if "\x00" not in room_id]
        found: bool = await self._database.fetchval(
            "SELECT EXISTS (SELECT 1 FROM memberships m JOIN rooms r USING (room_nid) "
            "WHERE r.room_id = ANY($2::text[]) AND m.user_id = $1 AND m.membership = 'join')",
            user_id,
            room_ids,
        )
        return found

    async def has_local_member_in_all(self, room_ids: Sequence[str]) -> bool:
        """Whether users of ours are in each of the rooms, so that we know who else is."""
        wanted = list(dict.fromkeys(room_ids))
        known = [room_id for room_id in wanted if "\x00" not in room_id]
        count: int = await self._database.fetchval(
            "SELECT count(*) FROM rooms r WHERE r.room_id = ANY($1::text[]) AND EXISTS "
            "(SELECT 1 FROM local_memberships l WHERE l.room_nid = r.room_nid AND l.membership = 'join')",
            known,
        )
        return count == len(wanted)

    async def list_local_joined(self, room_nid: int, limit: int) -> list[str]:
        """At most `limit` of our own users who are in the room, longest member first."""
        rows = await self._database.fetch(
            "SELECT user_id FROM local_memberships WHERE room_nid = $1 AND membership = 'join' "
            "ORDER BY stream_ordering LIMIT $2",
            room_nid,
            limit,
        )
        return [row["user_id"] for row in rows]

    async def find_local_sender(self, room_nid: int, user_id: str) -> str | None:
        """Who has sent the present member event of one of our users."""
        sender: str | None = await self._database.fetchval(
            "SELECT sender FROM local_memberships WHERE user_id = $2 AND room_nid = $1", room_nid, user_id
        )
        return sender

    async def find_event_id(self, room_nid: int, user_id: str) -> str | None:
        """The present member event of a user."""
        event_id: str | None = await self._database.fetchval(
            "SELECT e.event_id FROM memberships m JOIN events e USING (room_nid, event_nid) "
            "WHERE m.room_nid = $1 AND m.user_id = $2",
            room_nid,
            user_id,
        )
        return event_id

    async def list_joined_servers(self, room_nid: int, limit: int) -> list[str]:
        """At most `limit` servers with users in the room, ours too, those longest in it first.

        These know most of its history, and are the least likely to be gone.
        """
        rows = await self._database.fetch(
            "SELECT substr(user_id, strpos(user_id, ':') + 1) AS server FROM memberships "
            "WHERE room_nid = $1 AND membership = 'join' GROUP BY server ORDER BY min(event_nid) LIMIT $2",
            room_nid,
            limit,
        )
        return [row["server"] for row in rows]

    async def is_deserted(self, room_nid: int) -> bool:
        """Whether we know the room, and that nobody is in it."""
        deserted: bool = await self._database.fetchval(
            "SELECT EXISTS (SELECT 1 FROM forward_extremities WHERE room_nid = $1) AND NOT EXISTS "
            "(SELECT 1 FROM memberships WHERE room_nid = $1 AND membership = 'join')",
            room_nid,
        )
        return deserted

    async def set_forgotten(self, room_nid: int, user_id: str) -> None:
        """Hide the room from the user, who is not in it any more; a later join shows it again."""
        async with self._database.write() as writer:
            await writer.execute(
                "UPDATE local_memberships SET forgotten = true "
                "WHERE user_id = $2 AND room_nid = $1 AND membership IN ('leave', 'ban')",
                room_nid,
                user_id,
            )
