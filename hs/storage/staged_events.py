"""Events of other servers that wait for what is before them; bounded in number by whoever inserts them."""

from collections.abc import Sequence
from dataclasses import dataclass

from hs.matrix.event import Event, event_from_stored
from hs.storage.database import Database
from hs.storage.pdu_codec import decode_pdu, encode_pdu
from hs.storage.rooms import RoomInfo


@dataclass(frozen=True, slots=True)
class StagedRow:
    """A staged event without its JSON; `retry_ts` in milliseconds, 0 where it was not tried in vain yet."""

    room_nid: int
    event_id: str
    origin: str
    failed_attempts: int
    retry_ts: int


class StagedEventStore:
    """Keeps them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert_events(
        self, room_nid: int, origin: str, events: Sequence[Event], received_ts: int
    ) -> None:
        """Keep events of a room; those that are kept already stay as they are."""
        async with self._database.write() as writer:
            await writer.execute(
                "INSERT INTO staged_events (room_nid, event_id, origin, received_ts, depth, redacted_for_hash, pdu) "
                "SELECT $1, event_id, $2, $3, depth, redacted_for_hash, pdu "
                "FROM unnest($4::text[], $5::bigint[], $6::bool[], $7::bytea[]) "
                "AS n (event_id, depth, redacted_for_hash, pdu) ON CONFLICT DO NOTHING",
                room_nid,
                origin,
                received_ts,
                [event.event_id for event in events],
                [event.depth for event in events],
                [event.redacted_for_hash for event in events],
                [encode_pdu(event.pdu_json) for event in events],
            )

    async def list_rows(self) -> list[StagedRow]:
        """All that wait, in the order in which they came."""
        rows = await self._database.fetch(
            "SELECT room_nid, event_id, origin, failed_attempts, retry_ts FROM staged_events "
            "ORDER BY received_ts, depth"
        )
        return [StagedRow(*row) for row in rows]

    async def find_event(self, room: RoomInfo, event_id: str) -> Event | None:
        """The event; None where it does not wait any more."""
        row = await self._database.fetchrow(
            "SELECT pdu, redacted_for_hash FROM staged_events WHERE room_nid = $1 AND event_id = $2",
            room.room_nid,
            event_id,
        )
        if row is None:
            return None
        return event_from_stored(
            decode_pdu(row["pdu"]), event_id, room.version, redacted_for_hash=row["redacted_for_hash"]
        )

    async def set_failed(self, room_nid: int, event_id: str, failed_attempts: int, retry_ts: int) -> None:
        """Note how often it was tried in vain, and when the next try is."""
        async with self._database.write() as writer:
            await writer.execute(
                "UPDATE staged_events SET failed_attempts = $3, retry_ts = $4 WHERE room_nid = $1 AND event_id = $2",
                room_nid,
                event_id,
                failed_attempts,
                retry_ts,
            )

    async def delete_event(self, room_nid: int, event_id: str) -> None:
        """It is in the room, or given up."""
        async with self._database.write() as writer:
            await writer.execute(
                "DELETE FROM staged_events WHERE room_nid = $1 AND event_id = $2", room_nid, event_id
            )
