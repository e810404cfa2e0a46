"""What a commit writes, as rows, made of a stage."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hs._fast import canonical_json, event_auth, event_record
from hs.rooms.drafts import Judgement, Judgements
from hs.rooms.stage import PlacedEvent, Stage
from hs.storage.events import Flag
from hs.storage.room_writes import AuthRow, EventRow, ExceptionRow, MemberRow, RoomBatch, StateDelta


@dataclass(frozen=True, slots=True)
class RoomChanges:
    """What a stage does to the room, beside its events."""

    deltas: Sequence[StateDelta]
    members: Sequence[MemberRow]
    gone_members: Sequence[str]
    judgements: Judgements


def build_batch(
    stage: Stage,
    first: int,
    nodes: Sequence[tuple[int, bytes]],
    changes: RoomChanges,
    is_local: Callable[[str], bool],
    *,
    is_new: bool = False,
) -> RoomBatch:
    """The rows of a stage; `first` is the place of its first event in its stream, `nodes` are new ones of its states."""
    room = stage.head.room
    before = {e.event_nid for e in stage.committed.extremities}
    after = {e.event_nid for e in stage.head.extremities}
    judgements = changes.judgements.events
    return RoomBatch(
        room_nid=room.room_nid,
        events=[
            _event_row(placed, stream_ordering, judgement, is_local)
            for stream_ordering, (placed, judgement) in enumerate(
                zip(stage.placed, judgements, strict=True), first
            )
        ],
        new_extremities=sorted(after - before),
        old_extremities=sorted(before - after),
        auth_rows=[
            AuthRow(placed.event_nid, tuple(placed.auth.auth_nids), event_auth.pack_record(placed.auth))
            for placed in stage.placed
            if placed.event.is_state
        ],
        state_keys=[(ix, type, state_key) for (type, state_key), ix in stage.new_keys.items()],
        state_nodes=nodes,
        deltas=changes.deltas,
        members=changes.members,
        gone_members=changes.gone_members,
        redactions=[(p.event.redacts, p.event_nid) for p in stage.placed if p.event.redacts is not None],
        redacted=[
            *((p.redacts_nid, p.event_nid) for p in stage.placed if p.redacts_nid),
            *((p.event_nid, p.redacted_by_nid) for p in stage.placed if p.redacted_by_nid),
        ],
        missing_prevs=_list_missing(stage),
        rewritten=[p.event_nid for p in stage.placed if p.was_here],
        state_id=stage.head.root.id,
        begins_at_depth=next((p.event.depth for p in stage.placed if p.is_beginning), None),
        new_room=(room.room_id, room.version.id) if is_new else None,
        exceptions=[
            ExceptionRow(user_id, stream_ordering, judgement.thread_nid, base, push)
            for stream_ordering, judgement in enumerate(judgements, first)
            for user_id, (base, push) in judgement.exceptions.items()
        ],
        quiet=list(changes.judgements.quiet.items()),
    )


def _event_row(
    placed: PlacedEvent, stream_ordering: int, judgement: Judgement, is_local: Callable[[str], bool]
) -> EventRow:
    event, transaction, relation = placed.event, placed.transaction, judgement.relation
    return EventRow(
        event_nid=placed.event_nid,
        event_id=event.event_id,
        type=event.type,
        state_key=event.state_key,
        sender=event.sender,
        depth=event.depth,
        stream_ordering=stream_ordering,
        origin_server_ts=event.origin_server_ts,
        state_id=placed.root.id,
        key_ix=placed.key_ix,
        replaces_nid=placed.replaces_nid,
        redacts=event.redacts,
        flags=_flags(placed),
        rule=placed.rule,
        txn_device_id=transaction.device_id if transaction else None,
        txn_key=transaction.key if transaction else None,
        txn_id=transaction.txn_id if transaction else None,
        prev_nids=placed.prev_nids,
        pdu_json=event.pdu_json,
        relates_to=relation.event_id if relation else None,
        rel_type=relation.rel_type if relation else None,
        thread_nid=judgement.thread_nid,
        push=judgement.push,
        is_read_by_sender=judgement.is_reading and is_local(event.sender),
    )


def _list_missing(stage: Stage) -> list[tuple[int, str]]:
    """Previous events that we lack, each once; some may have come in the same batch."""
    missing = {nid: event_id for placed in stage.placed for nid, event_id in placed.missing_prevs}
    return [(nid, event_id) for nid, event_id in missing.items() if stage.find_staged(nid) is None]


def _flags(placed: PlacedEvent) -> int:
    flags = placed.flags
    if placed.is_relayed:
        flags |= Flag.RELAYED
    if placed.missing_prevs:
        flags |= Flag.AFTER_GAP
    return int(flags)


def pack_record(stage: Stage, placed: PlacedEvent, stream_ordering: int) -> bytes:
    """The event as caches hold it."""
    event, transaction = placed.event, placed.transaction
    return event_record.pack(
        event_nid=placed.event_nid,
        room_nid=stage.head.room.room_nid,
        stream_ordering=stream_ordering,
        depth=event.depth,
        origin_server_ts=event.origin_server_ts,
        flags=_flags(placed),
        state_id=placed.root.id,
        replaces_nid=placed.replaces_nid,
        redacted_by_nid=0,
        event_id=event.event_id,
        room_id=event.room_id,
        type=event.type,
        sender=event.sender,
        state_key=event.state_key,
        redacts=event.redacts,
        txn_id=transaction.txn_id if transaction else None,
        txn_device_id=transaction.device_id if transaction else None,
        content_json=canonical_json.encode(event.content, event.version.strict_json),
        prev_event_ids=event.prev_events,
        auth_event_ids=event.auth_events,
    )
