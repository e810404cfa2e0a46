"""What the database knows of events that other servers speak of."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import asyncpg

from hs.storage.database import Database
from hs.storage.events import HIDDEN, Flag
from hs.storage.pdu_codec import decode_pdu


@dataclass(frozen=True, slots=True)
class HeldEvent:
    """An event that we hold, perhaps as an outlier; `state_id` is the root of the state after it."""

    event_nid: int
    flags: int
    state_id: int
    sender: str
    prev_nids: tuple[int, ...]
    # It came as old history, and was nobody's news.
    is_old: bool

    @property
    def is_outlier(self) -> bool:
        """Whether it has no place in the room's history: nothing is known of the state around it."""
        return bool(self.flags & Flag.OUTLIER)

    @property
    def is_hidden(self) -> bool:
        """Whether history does not build on it: it is rejected, soft-failed or an outlier."""
        return bool(self.flags & HIDDEN)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of some event ids of a room."""

    held: dict[str, HeldEvent] = field(default_factory=dict)
    # Numbers of events that others refer to and that we lack.
    awaited: dict[str, int] = field(default_factory=dict)
    # Of those that we have without their auth events: as good as none, but the number is taken.
    unjudged: dict[str, int] = field(default_factory=dict)
    # (event_nid, sender) of redactions that came before what they redact, by what they redact.
    redactions: dict[str, list[tuple[int, str]]] = field(default_factory=dict)


_FIND = """
    SELECT e.event_id, e.event_nid, e.flags, e.state_id, e.sender, e.prev_nids, e.stream_ordering < 0 AS is_old
    FROM events e WHERE e.room_nid = $1 AND e.event_id = ANY($2::text[])
    UNION ALL
    SELECT b.event_id, b.event_nid, -1, 0, NULL, NULL, NULL
    FROM backward_extremities b WHERE b.room_nid = $1 AND b.event_id = ANY($2::text[])
    UNION ALL
    SELECT d.redacts, e.event_nid, -2, 0, e.sender, NULL, NULL
    FROM redactions d JOIN events e ON e.room_nid = d.room_nid AND e.event_nid = d.event_nid
    WHERE d.room_nid = $1 AND d.redacts = ANY($3::text[]) AND e.flags & $4 = 0
"""


class ArrivalStore:
    """Looks up what arrives from other servers, many ids in one query."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, room_nid: int, event_ids: Sequence[str], arriving: Sequence[str] = ()) -> Known:
        """What is known of these events of the room; for those `arriving` also what redacts them."""
        known = Known()
        rows = await self._database.fetch(_FIND, room_nid, event_ids, arriving, HIDDEN)
        for row in rows:
            event_id, nid, flags = row["event_id"], row["event_nid"], row["flags"]
            if flags == -1:
                known.awaited[event_id] = nid
            elif flags == -2:
                known.redactions.setdefault(event_id, []).append((nid, row["sender"]))
            elif flags & Flag.UNJUDGED:
                known.unjudged[event_id] = nid
            else:
                known.held[event_id] = _held(row)
        return known

    async def find_held_nids(self, room_nid: int, event_nids: Sequence[int]) -> dict[int, HeldEvent]:
        """Those of the numbers whose events we hold."""
        rows = await self._database.fetch(
            "SELECT event_nid, flags, state_id, sender, prev_nids, stream_ordering < 0 AS is_old FROM events "
            "WHERE room_nid = $1 AND event_nid = ANY($2::bigint[])",
            room_nid,
            event_nids,
        )
        return {row["event_nid"]: _held(row) for row in rows}

    async def is_built_upon(self, room_nid: int, event_nid: int) -> bool:
        """Whether an accepted event of the room's history has this one as a previous event."""
        return bool(
            await self._database.fetchval(
                "SELECT EXISTS (SELECT 1 FROM event_edges d JOIN events e USING (room_nid, event_nid) "
                "WHERE d.room_nid = $1 AND d.prev_nid = $2 AND e.flags & $3 = 0)",
                room_nid,
                event_nid,
                HIDDEN,
            )
        )

    async def list_senders(self, room_nid: int, event_nids: Sequence[int]) -> list[str]:
        """Who has sent these events, those left out that we do not hold."""
        rows = await self._database.fetch(
            "SELECT sender FROM events WHERE room_nid = $1 AND event_nid = ANY($2::bigint[])",
            room_nid,
            event_nids,
        )
        return [row["sender"] for row in rows]

    async def find_pdu(self, room_nid: int, event_nid: int) -> bytes | None:
        """An event's PDU as it was stored; None where we do not hold it."""
        pdu = await self._database.fetchval(
            "SELECT pdu FROM event_json WHERE room_nid = $1 AND event_nid = $2", room_nid, event_nid
        )
        return None if pdu is None else decode_pdu(pdu)


def _held(row: asyncpg.Record) -> HeldEvent:
    return HeldEvent(
        row["event_nid"],
        row["flags"],
        row["state_id"],
        row["sender"],
        tuple(row["prev_nids"]),
        row["is_old"],
    )
