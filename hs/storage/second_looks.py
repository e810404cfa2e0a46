"""Joins that may allow soft-failed messages; they are written with their commit, by hs.storage.room_writes."""

from collections.abc import Sequence
from dataclasses import dataclass

from hs.matrix.event import Event, event_from_stored
from hs.storage.database import Database
from hs.storage.pdu_codec import decode_pdu
from hs.storage.rooms import RoomInfo


@dataclass(frozen=True, slots=True)
class DueLook:
    """A user's join, by its place in the stream, that nobody has looked at yet."""

    user_id: str
    stream_ordering: int


# The condition is that of the index.
_SOFT_FAILED = """
    SELECT event_id, pdu FROM (
        SELECT room_nid, event_nid, event_id, depth FROM events
        WHERE room_nid = $1 AND sender = ANY($2::text[]) AND flags & 4 <> 0 AND state_key IS NULL
        ORDER BY stream_ordering DESC LIMIT $3
    ) AS newest JOIN event_json USING (room_nid, event_nid) ORDER BY depth, event_nid
"""


class SecondLookStore:
    """Reads what is to be looked at, and deletes what was."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_room_nids(self, after: int, limit: int) -> list[int]:
        """The next rooms with looks to come after the room `after`, ascending."""
        rows = await self._database.fetch(
            "SELECT DISTINCT room_nid FROM second_looks WHERE room_nid > $1 ORDER BY room_nid LIMIT $2",
            after,
            limit,
        )
        return [row["room_nid"] for row in rows]

    async def list_due(self, room_nid: int, limit: int) -> list[DueLook]:
        """Looks to come in a room."""
        rows = await self._database.fetch(
            "SELECT user_id, stream_ordering FROM second_looks WHERE room_nid = $1 "
            "ORDER BY user_id, stream_ordering LIMIT $2",
            room_nid,
            limit,
        )
        return [DueLook(*row) for row in rows]

    async def list_soft_failed(self, room: RoomInfo, senders: Sequence[str], limit: int) -> list[Event]:
        """The newest soft-failed messages of these users, oldest first."""
        rows = await self._database.fetch(_SOFT_FAILED, room.room_nid, senders, limit)
        return [event_from_stored(decode_pdu(row["pdu"]), row["event_id"], room.version) for row in rows]

    async def delete(self, room_nid: int, looks: Sequence[DueLook]) -> None:
        """These are done with."""
        async with self._database.write_once() as writer:
            await writer.execute(
                "DELETE FROM second_looks s USING unnest($2::text[], $3::bigint[]) AS d (user_id, stream_ordering) "
                "WHERE s.room_nid = $1 AND s.user_id = d.user_id AND s.stream_ordering = d.stream_ordering",
                room_nid,
                [look.user_id for look in looks],
                [look.stream_ordering for look in looks],
            )
