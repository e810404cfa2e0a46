"""Memberships of our users in rooms that nobody of this server is in: single events, without the room around them."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from hs.matrix.event import Event
from hs.storage.batching import Batcher
from hs.storage.database import Database, Writer
from hs.storage.events import Flag
from hs.storage.pdu_codec import encode_pdu


@dataclass(frozen=True, slots=True)
class OutsideRow:
    """A user's new membership; `stripped` is what they are told of the room, None to leave that as it is."""

    room_nid: int
    event_nid: int
    stream_ordering: int
    event: Event
    membership: str
    stripped: bytes | None = None


_INSERT = """
    WITH event AS (
        INSERT INTO events (room_nid, event_nid, event_id, type, state_key, sender, depth, stream_ordering,
            origin_server_ts, state_id, flags, prev_nids)
        VALUES ($1, $2, $3, 'm.room.member', $4, $5, $6, $7, $8, 0, $9, '{}')
    ), pdu AS (
        INSERT INTO event_json (room_nid, event_nid, pdu) VALUES ($1, $2, $10)
    ), change AS (
        INSERT INTO local_membership_changes (user_id, stream_ordering, room_nid, event_nid, membership)
        VALUES ($4, $7, $1, $2, $11)
    ), member AS (
        INSERT INTO memberships AS m (room_nid, user_id, membership, event_nid) VALUES ($1, $4, $11, $2)
        ON CONFLICT (room_nid, user_id) DO UPDATE SET membership = excluded.membership,
            event_nid = excluded.event_nid, display_name = NULL, avatar_url = NULL
    )
    INSERT INTO local_memberships AS l (user_id, room_nid, membership, event_nid, stream_ordering, sender)
    VALUES ($4, $1, $11, $2, $7, $5)
    ON CONFLICT (user_id, room_nid) DO UPDATE SET membership = excluded.membership, event_nid = excluded.event_nid,
        stream_ordering = excluded.stream_ordering, sender = excluded.sender, forgotten = false
"""


async def insert_outside(writer: Writer, row: OutsideRow) -> None:
    """Write a membership; its event must not be there yet."""
    event = row.event
    await writer.execute(
        _INSERT,
        row.room_nid,
        row.event_nid,
        event.event_id,
        event.state_key,
        event.sender,
        event.depth,
        row.stream_ordering,
        event.origin_server_ts,
        int(Flag.OUTLIER | Flag.UNJUDGED),
        encode_pdu(event.pdu_json),
        row.membership,
    )
    if row.stripped is not None:
        await writer.execute(
            "INSERT INTO stripped_states (user_id, room_nid, events) VALUES ($1, $2, $3) "
            "ON CONFLICT (user_id, room_nid) DO UPDATE SET events = excluded.events",
            event.state_key,
            row.room_nid,
            row.stripped,
        )


class StrippedStateStore:
    """Reads what users were told of rooms."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._batches: Batcher[tuple[str, int], bytes] = Batcher(self._load)

    async def find(self, user_id: str, room_nid: int) -> bytes | None:
        """The stripped state as a JSON array; None where the user was told nothing."""
        return await self._batches.get((user_id, room_nid))

    async def list_senders(self, user_id: str, room_nid: int) -> list[str]:
        """The senders of the events that the user was told."""
        found = await self.find(user_id, room_nid)
        events = [] if found is None else msgspec.json.decode(found)
        return [event["sender"] for event in events]

    async def _load(self, wanted: Sequence[tuple[str, int]]) -> dict[tuple[str, int], bytes]:
        rows = await self._database.fetch(
            "SELECT s.user_id, s.room_nid, s.events FROM unnest($1::text[], $2::bigint[]) AS w (user_id, room_nid) "
            "JOIN stripped_states s USING (user_id, room_nid)",
            [user_id for user_id, _ in wanted],
            [room_nid for _, room_nid in wanted],
        )
        return {(row["user_id"], row["room_nid"]): row["events"] for row in rows}
