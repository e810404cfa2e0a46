"""What other servers read of rooms: steps back through history, PDUs as they are given away, their users."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import asyncpg
import msgspec

from hs._fast import canonical_json
from hs.matrix.redaction import redact
from hs.matrix.room_versions import get_room_version
from hs.storage.database import Database
from hs.storage.events import Flag
from hs.storage.pdu_codec import decode_pdu

# Rooms that have an event of the same id: in room versions 1 and 2 the sender chooses it.
_MOST_PLACES = 10


@dataclass(frozen=True, slots=True)
class Step:
    """An event and what it was built on."""

    event_nid: int
    depth: int
    stream_ordering: int
    flags: int
    prev_nids: Sequence[int]


class PduStore:
    """Reads PDUs as other servers are given them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get_many(self, event_nids: Sequence[int], hidden: Collection[int] = ()) -> dict[int, bytes]:
        """PDUs as canonical JSON, by number: redacted where the event was redacted, or is `hidden`.

        All others are given away as they are stored, and never decoded.
        """
        if not event_nids:
            return {}
        rows = await self._database.fetch(
            "SELECT e.event_nid, e.redacted_by_nid, e.room_nid, j.pdu "
            "FROM events e JOIN event_json j USING (room_nid, event_nid) WHERE e.event_nid = ANY($1::bigint[])",
            event_nids,
        )
        cut = [row for row in rows if row["redacted_by_nid"] or row["event_nid"] in hidden]
        found = {row["event_nid"]: decode_pdu(row["pdu"]) for row in rows}
        return found | await self._redact(cut, found) if cut else found

    async def _redact(self, rows: Sequence[asyncpg.Record], pdus: dict[int, bytes]) -> dict[int, bytes]:
        versions = {
            row["room_nid"]: get_room_version(row["room_version"])
            for row in await self._database.fetch(
                "SELECT room_nid, room_version FROM rooms WHERE room_nid = ANY($1::bigint[])",
                list({row["room_nid"] for row in rows}),
            )
        }
        return {
            row["event_nid"]: canonical_json.encode(
                redact(msgspec.json.decode(pdus[row["event_nid"]]), versions[row["room_nid"]]), False
            )
            for row in rows
        }


class HistoryStore:
    """Reads where events are, and which users of a server a room knows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_places(self, event_id: str) -> list[tuple[int, int]]:
        """(room_nid, event_nid) of the event in each of the rooms that have it."""
        rows = await self._database.fetch(
            "SELECT room_nid, event_nid FROM events WHERE event_id = $1 ORDER BY room_nid LIMIT $2",
            event_id,
            _MOST_PLACES,
        )
        return [(row["room_nid"], row["event_nid"]) for row in rows]

    async def list_steps(self, room_nid: int, event_nids: Sequence[int], more: int) -> dict[int, Step]:
        """These events, as far as we hold them, and so many that come right before the deepest of them."""
        rows = await self._database.fetch(
            "WITH wanted AS MATERIALIZED ("
            " SELECT event_nid, depth, stream_ordering, flags, prev_nids FROM events"
            " WHERE room_nid = $1 AND event_nid = ANY($2::bigint[])"
            ") SELECT * FROM wanted UNION ALL SELECT * FROM ("
            " SELECT event_nid, depth, stream_ordering, flags, prev_nids FROM events"
            " WHERE room_nid = $1 AND depth <= (SELECT max(depth) FROM wanted) AND flags & $4 = 0"
            " ORDER BY depth DESC, stream_ordering DESC LIMIT $3"
            ") AS before",
            room_nid,
            event_nids,
            more,
            int(Flag.OUTLIER),
        )
        return {row["event_nid"]: Step(**row) for row in rows}

    async def list_event_ids(self, room_nid: int, event_nids: Sequence[int]) -> bytes:
        """The ids of these events as JSON strings between commas."""
        listed: str = await self._database.fetchval(
            "SELECT coalesce(string_agg(to_json(event_id)::text, ','), '') FROM events "
            "WHERE room_nid = $1 AND event_nid = ANY($2::bigint[])",
            room_nid,
            event_nids,
        )
        return listed.encode()

    async def list_users(
        self, room_nid: int, server_name: str, after: int, limit: int
    ) -> list[tuple[int, str]]:
        """(key_ix, user id) of users of the server who ever had a membership in the room, after a key's number."""
        rows = await self._database.fetch(
            "SELECT key_ix, state_key FROM state_keys WHERE room_nid = $1 AND type = 'm.room.member' "
            "AND substr(state_key, strpos(state_key, ':') + 1) = $2 AND key_ix > $3 ORDER BY key_ix LIMIT $4",
            room_nid,
            server_name,
            after,
            limit,
        )
        return [(row["key_ix"], row["state_key"]) for row in rows]

    async def list_rooms_of(self, server_name: str, room_nids: Sequence[int]) -> set[int]:
        """Those of the rooms that users of the server are in."""
        rows = await self._database.fetch(
            "SELECT r.room_nid FROM unnest($2::bigint[]) AS r (room_nid) WHERE EXISTS ("
            " SELECT 1 FROM memberships m WHERE m.room_nid = r.room_nid AND m.membership = 'join'"
            " AND substr(m.user_id, strpos(m.user_id, ':') + 1) = $1)",
            server_name,
            room_nids,
        )
        return {row["room_nid"] for row in rows}

    async def list_rooms_inviting(self, server_name: str, room_nids: Sequence[int]) -> set[int]:
        """Those of the rooms that users of the server are invited to."""
        rows = await self._database.fetch(
            "SELECT r.room_nid FROM unnest($2::bigint[]) AS r (room_nid) WHERE EXISTS ("
            " SELECT 1 FROM state_keys s JOIN memberships m ON m.room_nid = s.room_nid AND m.user_id = s.state_key"
            " WHERE s.room_nid = r.room_nid AND s.type = 'm.room.member' AND m.membership = 'invite'"
            " AND substr(s.state_key, strpos(s.state_key, ':') + 1) = $1)",
            server_name,
            room_nids,
        )
        return {row["room_nid"] for row in rows}
