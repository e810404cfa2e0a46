"""The one transaction that adds events to a room: one statement for events, one more for state.

Every statement takes whole batches as arrays. `RoomBatch` says what is new; nothing here decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hs.storage.database import Writer
from hs.storage.pdu_codec import encode_pdu


@dataclass(frozen=True, slots=True)
class EventRow:
    """One new event, placed."""

    event_nid: int
    event_id: str
    type: str
    state_key: str | None
    sender: str
    depth: int
    stream_ordering: int
    origin_server_ts: int
    state_id: int
    key_ix: int | None
    replaces_nid: int
    redacts: str | None
    flags: int
    rule: str | None
    txn_device_id: str | None
    txn_key: str | None
    txn_id: str | None
    prev_nids: tuple[int, ...]
    pdu_json: bytes
    relates_to: str | None = None
    rel_type: str | None = None
    thread_nid: int = 0
    push: int = 0
    # Of one of our users, who has read what came before it.
    is_read_by_sender: bool = False


@dataclass(frozen=True, slots=True)
class AuthRow:
    """What resolution needs of a new state event."""

    event_nid: int
    auth_nids: tuple[int, ...]
    record: bytes


@dataclass(frozen=True, slots=True)
class StateDelta:
    """One change of the current state; `event_nid` or `replaced_nid` is 0 where there is none."""

    type: str
    state_key: str
    key_ix: int
    event_nid: int
    replaced_nid: int
    stream_ordering: int
    state_id: int


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A user's new current membership; `is_local` where the user is ours."""

    user_id: str
    membership: str
    event_nid: int
    sender: str
    stream_ordering: int
    display_name: str | None
    avatar_url: str | None
    is_local: bool


@dataclass(frozen=True, slots=True)
class ExceptionRow:
    """A user to whom an event is something else than what `base` says."""

    user_id: str
    stream_ordering: int
    thread_nid: int
    base: int
    push: int


@dataclass(frozen=True, slots=True)
class RoomBatch:
    """All that one commit adds to a room."""

    room_nid: int
    events: Sequence[EventRow]
    new_extremities: Sequence[int]
    old_extremities: Sequence[int]
    auth_rows: Sequence[AuthRow] = ()
    state_keys: Sequence[tuple[int, str, str]] = ()
    state_nodes: Sequence[tuple[int, bytes]] = ()
    deltas: Sequence[StateDelta] = ()
    members: Sequence[MemberRow] = ()
    gone_members: Sequence[str] = ()
    redactions: Sequence[tuple[str, int]] = ()
    redacted: Sequence[tuple[int, int]] = ()
    state_id: int = 0
    new_room: tuple[str, str] | None = None
    # The depth from which on the room is known to us; None where that stays as it is.
    begins_at_depth: int | None = None
    exceptions: Sequence[ExceptionRow] = ()
    # (event_nid, event_id) of previous events that we lack.
    missing_prevs: Sequence[tuple[int, str]] = ()
    # Events whose rows are written anew: outliers that get their place, soft-failed messages that are accepted.
    rewritten: Sequence[int] = ()
    # Users, and whether the room is quiet to them from the batch's first event on.
    quiet: Sequence[tuple[str, bool]] = ()

    @property
    def is_plain(self) -> bool:
        """Whether it is messages alone, which one statement writes."""
        return not (
            self.new_room
            or self.auth_rows
            or self.deltas
            or self.state_nodes
            or self.redactions
            or self.redacted
            or self.missing_prevs
            or self.rewritten
        )


async def insert_batch(writer: Writer, batch: RoomBatch) -> None:
    """Write the batch; all of it or, where a statement fails, none."""
    if batch.new_room is not None:
        await _insert_room(writer, batch, *batch.new_room)
    if batch.rewritten:
        await writer.execute(_DELETE_EVENTS, batch.room_nid, batch.rewritten)
    if batch.missing_prevs:
        await _insert_missing(writer, batch)
    await _insert_events(writer, batch)
    if batch.auth_rows or batch.deltas or batch.state_nodes:
        await _insert_state(writer, batch)
    if batch.deltas:
        await _set_current_state(writer, batch)
    if batch.redactions or batch.redacted:
        await _insert_redactions(writer, batch)


async def _insert_room(writer: Writer, batch: RoomBatch, room_id: str, room_version: str) -> None:
    await writer.execute(
        "INSERT INTO rooms (room_nid, room_id, room_version, created_ts) "
        "VALUES ($1, $2, $3, (extract(epoch FROM now()) * 1000)::bigint)",
        batch.room_nid,
        room_id,
        room_version,
    )


_DELETE_EVENTS = """
    WITH old AS (
        SELECT event_nid, prev_nids, redacts FROM events WHERE room_nid = $1 AND event_nid = ANY($2::bigint[])
    ), edge AS (
        DELETE FROM event_edges d USING old, unnest(old.prev_nids) AS before (nid)
        WHERE d.room_nid = $1 AND d.prev_nid = before.nid AND d.event_nid = old.event_nid
    ), redaction AS (
        DELETE FROM redactions d USING old
        WHERE d.room_nid = $1 AND d.redacts = old.redacts AND d.event_nid = old.event_nid
    ), pdu AS (
        DELETE FROM event_json WHERE room_nid = $1 AND event_nid = ANY($2::bigint[])
    ), record AS (
        DELETE FROM auth_records WHERE room_nid = $1 AND event_nid = ANY($2::bigint[])
    )
    DELETE FROM events WHERE room_nid = $1 AND event_nid = ANY($2::bigint[])
"""


async def _insert_missing(writer: Writer, batch: RoomBatch) -> None:
    await writer.execute(
        "INSERT INTO backward_extremities (room_nid, event_nid, event_id) "
        "SELECT $1, event_nid, event_id FROM unnest($2::bigint[], $3::text[]) AS n (event_nid, event_id) "
        "ON CONFLICT DO NOTHING",
        batch.room_nid,
        [nid for nid, _ in batch.missing_prevs],
        [event_id for _, event_id in batch.missing_prevs],
    )


def _bigint_array(nids: Sequence[int]) -> str:
    # unnest() flattens arrays of arrays, so each row's array travels as its literal.
    return "{" + ",".join(map(str, nids)) + "}"


_NEW_EVENTS = """
    WITH new AS (
        SELECT * FROM unnest(
            $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::bigint[], $9::bigint[],
            $10::bigint[], $11::int[], $12::bigint[], $13::text[], $14::int[], $15::text[], $16::text[], $17::text[],
            $18::text[], $19::text[], $20::bytea[], $23::text[], $24::text[], $25::bigint[], $26::smallint[],
            $27::bool[]
        ) AS n (event_nid, event_id, type, state_key, sender, depth, stream_ordering, origin_server_ts, state_id,
                key_ix, replaces_nid, redacts, flags, rule, txn_device_id, txn_key, txn_id, prev_nids, pdu,
                relates_to, rel_type, thread_nid, push, is_read_by_sender)
    ), event AS (
        INSERT INTO events (room_nid, event_nid, event_id, type, state_key, sender, depth, stream_ordering,
            origin_server_ts, state_id, key_ix, replaces_nid, redacts, flags, rule, txn_device_id, txn_id, prev_nids,
            relates_to, rel_type, thread_nid, push)
        SELECT $1, event_nid, event_id, type, state_key, sender, depth, stream_ordering, origin_server_ts, state_id,
            key_ix, replaces_nid, redacts, flags, rule, txn_device_id, txn_id, prev_nids::bigint[],
            relates_to, rel_type, thread_nid, push
        FROM new
    ), pdu AS (
        INSERT INTO event_json (room_nid, event_nid, pdu) SELECT $1, event_nid, pdu FROM new
    ), edge AS (
        INSERT INTO event_edges (room_nid, prev_nid, event_nid)
        SELECT $1, prev_nid, event_nid FROM new, unnest(prev_nids::bigint[]) AS prev_nid
    ), transaction AS (
        INSERT INTO event_transactions (user_id, device_id, room_nid, txn_key, event_nid, event_id, created_ts)
        SELECT sender, txn_device_id, $1, txn_key, event_nid, event_id, (extract(epoch FROM now()) * 1000)::bigint
        FROM new WHERE txn_key IS NOT NULL
    ), arrived AS (
        DELETE FROM backward_extremities WHERE room_nid = $1 AND event_nid = ANY($2::bigint[])
    ), covered AS (
        DELETE FROM forward_extremities WHERE room_nid = $1 AND event_nid = ANY($22::bigint[])
    ), sent AS (
        INSERT INTO sent_positions (user_id, room_nid, thread_nid, stream_ordering)
        SELECT sender, $1, thread_nid, max(stream_ordering) FROM new WHERE is_read_by_sender GROUP BY sender, thread_nid
        ON CONFLICT (user_id, room_nid, thread_nid) DO UPDATE SET stream_ordering = excluded.stream_ordering
    )
"""

_NEW_EXTREMITIES = """
    INSERT INTO forward_extremities (room_nid, event_nid) SELECT $1, unnest($21::bigint[])
"""

_EXCEPTIONS = """
    , exception AS (
        INSERT INTO push_exceptions (user_id, room_nid, stream_ordering, thread_nid, base, push)
        SELECT user_id, $1, stream_ordering, thread_nid, base, push
        FROM unnest($28::text[], $29::bigint[], $30::bigint[], $31::smallint[], $32::smallint[])
        AS n (user_id, stream_ordering, thread_nid, base, push)
    ), loud AS (
        UPDATE push_quiet SET until = $35
        WHERE user_id = ANY($34::text[]) AND room_nid = $1 AND until IS NULL
    ), quiet AS (
        INSERT INTO push_quiet (user_id, room_nid, since) SELECT unnest($33::text[]), $1, $35
    )
"""

_INSERT_EVENTS = _NEW_EVENTS + _NEW_EXTREMITIES
_INSERT_EVENTS_WITH_EXCEPTIONS = _NEW_EVENTS + _EXCEPTIONS + _NEW_EXTREMITIES


async def _insert_events(writer: Writer, batch: RoomBatch) -> None:
    events, exceptions = batch.events, batch.exceptions
    args: list[Any] = [
        batch.room_nid,
        [e.event_nid for e in events],
        [e.event_id for e in events],
        [e.type for e in events],
        [e.state_key for e in events],
        [e.sender for e in events],
        [e.depth for e in events],
        [e.stream_ordering for e in events],
        [e.origin_server_ts for e in events],
        [e.state_id for e in events],
        [e.key_ix for e in events],
        [e.replaces_nid for e in events],
        [e.redacts for e in events],
        [e.flags for e in events],
        [e.rule for e in events],
        [e.txn_device_id for e in events],
        [e.txn_key for e in events],
        [e.txn_id for e in events],
        [_bigint_array(e.prev_nids) for e in events],
        [encode_pdu(e.pdu_json) for e in events],
        batch.new_extremities,
        batch.old_extremities,
        [e.relates_to for e in events],
        [e.rel_type for e in events],
        [e.thread_nid for e in events],
        [e.push for e in events],
        [e.is_read_by_sender for e in events],
    ]
    if not exceptions and not batch.quiet:
        await writer.execute(_INSERT_EVENTS, *args)
        return
    await writer.execute(
        _INSERT_EVENTS_WITH_EXCEPTIONS,
        *args,
        [x.user_id for x in exceptions],
        [x.stream_ordering for x in exceptions],
        [x.thread_nid for x in exceptions],
        [x.base for x in exceptions],
        [x.push for x in exceptions],
        [user_id for user_id, is_quiet in batch.quiet if is_quiet],
        [user_id for user_id, is_quiet in batch.quiet if not is_quiet],
        events[0].stream_ordering - 1,
    )


_INSERT_STATE = """
    WITH record AS (
        INSERT INTO auth_records (room_nid, event_nid, auth_nids, record)
        SELECT $1, event_nid, auth_nids::bigint[], record
        FROM unnest($2::bigint[], $3::text[], $4::bytea[]) AS n (event_nid, auth_nids, record)
    ), key AS (
        INSERT INTO state_keys (room_nid, key_ix, type, state_key)
        SELECT $1, key_ix, type, state_key FROM unnest($5::int[], $6::text[], $7::text[]) AS n (key_ix, type, state_key)
    )
    INSERT INTO state_nodes (room_nid, node_id, blob)
    SELECT $1, node_id, blob FROM unnest($8::bigint[], $9::bytea[]) AS n (node_id, blob)
"""


async def _insert_state(writer: Writer, batch: RoomBatch) -> None:
    await writer.execute(
        _INSERT_STATE,
        batch.room_nid,
        [row.event_nid for row in batch.auth_rows],
        [_bigint_array(row.auth_nids) for row in batch.auth_rows],
        [row.record for row in batch.auth_rows],
        [key_ix for key_ix, _, _ in batch.state_keys],
        [type for _, type, _ in batch.state_keys],
        [state_key for _, _, state_key in batch.state_keys],
        [node_id for node_id, _ in batch.state_nodes],
        [blob for _, blob in batch.state_nodes],
    )


# Several changes of one key in a batch: the current tables get the last, the deltas get all.
_SET_CURRENT_STATE = """
    WITH delta AS (
        SELECT * FROM unnest($2::text[], $3::text[], $4::int[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[])
        AS n (type, state_key, key_ix, event_nid, replaced_nid, stream_ordering, state_id)
    ), logged AS (
        INSERT INTO current_state_deltas (room_nid, stream_ordering, key_ix, event_nid, replaced_nid, state_id)
        SELECT $1, stream_ordering, key_ix, event_nid, replaced_nid, state_id FROM delta
    ), last AS (
        SELECT DISTINCT ON (key_ix) * FROM delta ORDER BY key_ix, stream_ordering DESC
    ), gone AS (
        DELETE FROM current_state c USING last
        WHERE c.room_nid = $1 AND c.type = last.type AND c.state_key = last.state_key AND last.event_nid = 0
    ), upsert AS (
        INSERT INTO current_state (room_nid, type, state_key, key_ix, event_nid)
        SELECT $1, type, state_key, key_ix, event_nid FROM last WHERE event_nid <> 0
        ON CONFLICT (room_nid, type, state_key) DO UPDATE SET event_nid = excluded.event_nid
    )
    UPDATE rooms SET state_id = $9, begins_at_depth = coalesce($10, begins_at_depth) WHERE room_nid = $1
"""

_SET_MEMBERS = """
    WITH new AS (
        SELECT * FROM unnest($2::text[], $3::text[], $4::bigint[], $5::text[], $6::bigint[], $7::text[], $8::text[],
            $9::bool[])
        AS n (user_id, membership, event_nid, sender, stream_ordering, display_name, avatar_url, is_local)
    ), last AS (
        SELECT DISTINCT ON (user_id) * FROM new WHERE user_id <> ALL($10::text[])
        ORDER BY user_id, stream_ordering DESC
    ), gone AS (
        DELETE FROM memberships WHERE room_nid = $1 AND user_id = ANY($10::text[])
    ), gone_local AS (
        DELETE FROM local_memberships WHERE room_nid = $1 AND user_id = ANY($10::text[])
    ), member AS (
        INSERT INTO memberships AS m (room_nid, user_id, membership, event_nid, display_name, avatar_url)
        SELECT $1, user_id, membership, event_nid, display_name, avatar_url FROM last
        ON CONFLICT (room_nid, user_id) DO UPDATE SET membership = excluded.membership,
            event_nid = excluded.event_nid, display_name = excluded.display_name, avatar_url = excluded.avatar_url
    ), changed AS (
        INSERT INTO local_membership_changes (user_id, stream_ordering, room_nid, event_nid, membership)
        SELECT user_id, stream_ordering, $1, event_nid, membership FROM new WHERE is_local
    ), look AS (
        INSERT INTO second_looks (room_nid, user_id, stream_ordering)
        SELECT $1, user_id, stream_ordering FROM last WHERE membership = 'join' AND NOT is_local AND EXISTS (
            SELECT 1 FROM events e
            WHERE e.room_nid = $1 AND e.sender = last.user_id AND e.flags & 4 <> 0 AND e.state_key IS NULL)
    )
    INSERT INTO local_memberships AS l (user_id, room_nid, membership, event_nid, stream_ordering, sender)
    SELECT user_id, $1, membership, event_nid, stream_ordering, sender FROM last WHERE is_local
    ON CONFLICT (user_id, room_nid) DO UPDATE SET membership = excluded.membership, event_nid = excluded.event_nid,
        stream_ordering = excluded.stream_ordering, sender = excluded.sender, forgotten = false
"""


async def _set_current_state(writer: Writer, batch: RoomBatch) -> None:
    deltas = batch.deltas
    await writer.execute(
        _SET_CURRENT_STATE,
        batch.room_nid,
        [d.type for d in deltas],
        [d.state_key for d in deltas],
        [d.key_ix for d in deltas],
        [d.event_nid for d in deltas],
        [d.replaced_nid for d in deltas],
        [d.stream_ordering for d in deltas],
        [d.state_id for d in deltas],
        batch.state_id,
        batch.begins_at_depth,
    )
    if batch.members or batch.gone_members:
        members = batch.members
        await writer.execute(
            _SET_MEMBERS,
            batch.room_nid,
            [m.user_id for m in members],
            [m.membership for m in members],
            [m.event_nid for m in members],
            [m.sender for m in members],
            [m.stream_ordering for m in members],
            [m.display_name for m in members],
            [m.avatar_url for m in members],
            [m.is_local for m in members],
            batch.gone_members,
        )


# Redacted member events lose the name and the picture, so the member list must, too. What is redacted notifies
# nobody any more.
_INSERT_REDACTIONS = """
    WITH redaction AS (
        INSERT INTO redactions (room_nid, redacts, event_nid)
        SELECT $1, redacts, event_nid FROM unnest($2::text[], $3::bigint[]) AS n (redacts, event_nid)
    ), redacted AS (
        SELECT event_nid, min(by_nid) AS by_nid FROM unnest($4::bigint[], $5::bigint[]) AS n (event_nid, by_nid)
        GROUP BY event_nid
    ), member AS (
        UPDATE memberships m SET display_name = NULL, avatar_url = NULL
        FROM redacted n JOIN events e ON e.room_nid = $1 AND e.event_nid = n.event_nid
        WHERE e.type = 'm.room.member'
        AND m.room_nid = $1 AND m.user_id = e.state_key AND m.event_nid = e.event_nid
    ), exception AS (
        DELETE FROM push_exceptions x USING redacted n JOIN events e ON e.room_nid = $1 AND e.event_nid = n.event_nid
        WHERE x.room_nid = $1 AND x.stream_ordering = e.stream_ordering
    )
    UPDATE events e SET redacted_by_nid = n.by_nid, push = 0 FROM redacted n
    WHERE e.room_nid = $1 AND e.event_nid = n.event_nid AND e.redacted_by_nid = 0
"""


async def _insert_redactions(writer: Writer, batch: RoomBatch) -> None:
    await writer.execute(
        _INSERT_REDACTIONS,
        batch.room_nid,
        [redacts for redacts, _ in batch.redactions],
        [nid for _, nid in batch.redactions],
        [nid for nid, _ in batch.redacted],
        [by_nid for _, by_nid in batch.redacted],
    )
