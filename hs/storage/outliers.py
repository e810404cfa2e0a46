"""Events that we hold without a place in their room's history: others' auth events and state refer to them."""

from collections.abc import Sequence
from dataclasses import dataclass

from hs.matrix.event import Event
from hs.storage.database import Database
from hs.storage.events import Flag
from hs.storage.pdu_codec import encode_pdu

_EVENT_COLUMNS = (
    "room_nid",
    "event_nid",
    "event_id",
    "type",
    "state_key",
    "sender",
    "depth",
    "stream_ordering",
    "origin_server_ts",
    "state_id",
    "redacts",
    "flags",
    "rule",
    "prev_nids",
)


@dataclass(frozen=True, slots=True)
class OutlierRow:
    """An outlier with what state resolution needs of it; `rule` is the auth rule that rejects it."""

    event_nid: int
    event: Event
    auth_nids: Sequence[int]
    record: bytes
    rule: str | None


@dataclass(frozen=True, slots=True)
class StateEntry:
    """What a state has of one of its events."""

    type: str
    state_key: str
    event_nid: int
    is_rejected: bool


class OutlierStore:
    """Writes outliers, many at once, and reads what a state made of them is."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, room_nid: int, rows: Sequence[OutlierRow], replaced: Sequence[int]) -> None:
        """Write events that the room does not have yet, or only `replaced`, unjudged; all of them or none."""
        async with self._database.write() as writer:
            for table in ("events", "event_json") if replaced else ():
                await writer.execute(
                    f"DELETE FROM {table} WHERE room_nid = $1 AND event_nid = ANY($2::bigint[])",
                    room_nid,
                    replaced,
                )
            await writer.copy_records_to_table(
                "events", records=[_event_row(room_nid, row) for row in rows], columns=_EVENT_COLUMNS
            )
            await writer.copy_records_to_table(
                "event_json",
                records=[(room_nid, row.event_nid, encode_pdu(row.event.pdu_json)) for row in rows],
                columns=("room_nid", "event_nid", "pdu"),
            )
            await writer.copy_records_to_table(
                "auth_records",
                records=[
                    (room_nid, row.event_nid, row.auth_nids, row.record) for row in rows if row.event.is_state
                ],
                columns=("room_nid", "event_nid", "auth_nids", "record"),
            )

    async def take_stock(self, written: int) -> None:
        """Have the database count its events anew where it believes that there are fewer than were just written.

        Queries that were planned when there were none go on reading whole rooms until somebody counts; the
        database does so by itself about once a minute.
        """
        counted = await self._database.fetchval(
            "SELECT reltuples FROM pg_class WHERE oid = 'events'::regclass"
        )
        if counted < written:
            async with self._database.write() as writer:
                await writer.execute("ANALYZE events, event_json, auth_records")

    async def list_state(self, room_nid: int, event_nids: Sequence[int]) -> list[StateEntry]:
        """The entries of those of the events that are state events."""
        rows = await self._database.fetch(
            "SELECT type, state_key, event_nid, flags & $3 <> 0 AS is_rejected FROM events "
            "WHERE room_nid = $1 AND event_nid = ANY($2::bigint[]) AND state_key IS NOT NULL",
            room_nid,
            event_nids,
            int(Flag.REJECTED),
        )
        return [StateEntry(*row) for row in rows]


def _event_row(room_nid: int, row: OutlierRow) -> tuple[object, ...]:
    event, flags = row.event, Flag.OUTLIER
    if row.rule is not None:
        flags |= Flag.REJECTED
    return (
        room_nid,
        row.event_nid,
        event.event_id,
        event.type,
        event.state_key,
        event.sender,
        event.depth,
        0,
        event.origin_server_ts,
        0,
        event.redacts,
        int(flags),
        row.rule,
        [],
    )
