"""Events that were made elsewhere get their place in a room, judged in the room's lane.

Spec: server-server-api "Checks performed on receipt of a PDU", 4 to 6, "Rejection", "Soft failure". Checks 1
to 3 (`hs.rooms.checks`) and all that asks the network (`hs.rooms.gaps`) come before; nothing here waits for others.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from hs._fast import event_auth
from hs._fast.event_auth import AuthRecord
from hs._fast.state_tree import EMPTY, Node
from hs.matrix.auth_rules import Rejected, Verdict, check_auth_list, make_record, select_auth_keys
from hs.matrix.event import Event, event_from_stored
from hs.rooms.branches import Branches
from hs.rooms.head import Extremity
from hs.rooms.redactions import Redactions
from hs.rooms.resolve import StateResolver
from hs.rooms.stage import PlacedEvent, Stage
from hs.rooms.stage_reader import CREATE, StageReader
from hs.rooms.state import RoomStates
from hs.storage.arrivals import ArrivalStore, HeldEvent, Known
from hs.storage.auth_records import AuthRecordStore
from hs.storage.events import Flag
from hs.storage.state import StateKey
from hs.storage.streams import NidAllocator

# How far back is looked for what a soft-failed or rejected event was built on, when history goes on from it.
_MAX_HIDDEN = 1000


@dataclass(frozen=True, slots=True)
class Arrival:
    """An event whose format, hashes and signatures were checked.

    `state_before` says what the state before it is where we lack its history: (type, state_key) to numbers of
    events that we hold. It is resolved with the states after those previous events that we have. `root_before` is
    that state where it is known for certain.
    """

    event: Event
    state_before: Mapping[StateKey, int] | None = None
    root_before: Node | None = None
    # It begins the room anew for us: nothing that we knew of it before is built upon.
    is_beginning: bool = False
    # Old history: it never changes where the room stands now.
    is_history: bool = False
    # We are the server through which its sender comes into the room, or leaves it: ours to pass on.
    is_relayed: bool = False
    # One of our users has come in through another server, which tells the others.
    is_told: bool = False
    # We have it, soft-failed; the join that it cites may be what counts now.
    is_second_look: bool = False

    @property
    def is_by_hearsay(self) -> bool:
        """Whether it is judged by what another server says of the state before it; joins of ours have their own checks."""
        return self.state_before is not None and not (self.is_beginning or self.is_told)


class MissingHistory(Exception):
    """We lack previous events of an event, and nobody has said what the state before it is."""

    def __init__(self, event_ids: Sequence[str]) -> None:
        super().__init__(f"{len(event_ids)} previous events are missing")
        self.event_ids = event_ids


class DoubtfulState(MissingHistory):
    """The state that we were told before an event refuses it, or one that old history has led to.

    To believe that would be to reject it for good, with all that builds on it, because one server has left something
    out. The event may come again, or another server tell something else.
    """


class MissingAuth(Exception):
    """We lack auth events of an event."""

    def __init__(self, event_ids: Sequence[str]) -> None:
        super().__init__(f"{len(event_ids)} auth events are missing")
        self.event_ids = event_ids


@dataclass(frozen=True, slots=True)
class _Prev:
    """A previous event; `root` is the state after it, None where that is not known."""

    event_nid: int
    root: Node | None
    is_hidden: bool = False
    is_new: bool = False
    event_id: str = ""


class ArrivalPlacer:
    """Judges arrivals and places them on a stage."""

    def __init__(
        self,
        store: ArrivalStore,
        states: RoomStates,
        resolver: StateResolver,
        reader: StageReader,
        auth_records: AuthRecordStore,
        event_nids: NidAllocator,
    ) -> None:
        self._store = store
        self._states = states
        self._resolver = resolver
        self._reader = reader
        self._auth_records = auth_records
        self._event_nids = event_nids
        self._branches = Branches(store)
        self._redactions = Redactions(reader)

    async def prepare(self, stage: Stage, arrivals: Iterable[Arrival]) -> Known:
        """What the database knows of the arrivals and of what they refer to; two queries for all of them."""
        events = [arrival.event for arrival in arrivals]
        arriving = [event.event_id for event in events]
        wanted = dict.fromkeys(arriving)
        keys: dict[StateKey, None] = {CREATE: None}
        for event in events:
            wanted |= dict.fromkeys((*event.prev_events, *event.auth_events))
            if event.redacts is not None:
                wanted[event.redacts] = None
            keys |= dict.fromkeys(
                select_auth_keys(event.version, event.type, event.sender, event.state_key, event.content)
            )
        known = await self._store.find(stage.head.room.room_nid, list(wanted), arriving)
        await self._reader.look_up(stage, keys)
        return known

    async def add(self, stage: Stage, arrival: Arrival, known: Known) -> PlacedEvent | None:
        """The event with its place, flags and all; None where it was there before.

        Raises MissingHistory and MissingAuth, which say what has to be fetched first, and DoubtfulState.
        """
        event = arrival.event
        held = known.held.get(event.event_id)
        if stage.find_staged_id(event.event_id) is not None:
            return None
        if arrival.is_second_look and held is not None:
            return await self._look_again(stage, arrival, held, known)
        if held is not None and not held.is_outlier and not await self._came_early(stage, arrival, held):
            return None
        if held is not None and event.redacted_for_hash:
            # Servers redact what we may not see: what we have as an outlier may be the whole event.
            arrival = replace(arrival, event=await self._stored(stage, event, held))
        return await self._place(stage, arrival, held, known)

    async def _place(
        self, stage: Stage, arrival: Arrival, held: HeldEvent | None, known: Known
    ) -> PlacedEvent:
        """The event in its place, judged; `held` is it as an outlier, or as old history."""
        event = arrival.event
        prevs = [await self._prev(stage, event_id, known) for event_id in event.prev_events]
        lacking = [prev.event_id for prev in prevs if prev.root is None]
        if lacking and arrival.state_before is None and arrival.root_before is None:
            raise MissingHistory(lacking)
        if arrival.is_by_hearsay and not lacking and not arrival.is_history:
            # It has come meanwhile: we know for ourselves. For old history that is not enough where it is asked for.
            arrival = replace(arrival, state_before=None)
        auth = await self._auth(stage, event, known)
        before = await self._state_before(stage, arrival, prevs)
        unjudged = known.unjudged.get(event.event_id)
        nid = held.event_nid if held is not None else unjudged or known.awaited.get(event.event_id)
        if nid is None:
            [nid] = await self._event_nids.take(1)
        record = make_record(event, nid, auth)
        flags, rule = await self._judge(stage, arrival, record, auth, before, prevs)
        if flags & Flag.REJECTED:
            record = make_record(event, nid, auth, is_rejected=True)
        placed = PlacedEvent(
            event,
            nid,
            tuple(prev.event_nid for prev in prevs),
            before,
            stage.head.root,
            record,
            flags=int(flags),
            rule=rule,
            was_here=held is not None or unjudged is not None,
            before=before,
            is_relayed=arrival.is_relayed,
            is_told=arrival.is_told,
            is_beginning=arrival.is_beginning,
            missing_prevs=tuple((prev.event_nid, prev.event_id) for prev in prevs if prev.is_new),
        )
        if event.state_key is not None and not flags & Flag.REJECTED:
            await self._reader.enter_state(stage, placed, event.state_key)
        await self._redactions.note(stage, placed, known)
        stage.place(placed)
        if not flags and not arrival.is_history:
            await self._advance(stage, arrival, placed, prevs, known)
        return placed

    async def _came_early(self, stage: Stage, arrival: Arrival, held: HeldEvent) -> bool:
        """Whether the event was taken for old history, as one found by its time is, and is news nevertheless.

        What nobody has built upon is the end of a branch, of which nobody was told.
        """
        if arrival.is_history or not held.is_old or held.is_hidden:
            return False
        return not await self._store.is_built_upon(stage.head.room.room_nid, held.event_nid)

    async def _look_again(
        self, stage: Stage, arrival: Arrival, held: HeldEvent, known: Known
    ) -> PlacedEvent | None:
        """The soft-failed message as news, where its sender is in the room by the very join that it cites.

        A later join does not count: who was thrown out and has come in again must not bring back what was said
        in between.
        """
        event = arrival.event
        if not held.flags & Flag.SOFT_FAILED or event.is_state:
            return None
        auth = await self._auth(stage, event, known)
        member = ("m.room.member", event.sender)
        current = await self._reader.find_nids(stage, stage.head.root, [member])
        record = make_record(event, held.event_nid, auth)
        if current.get(member) not in [cited.nid for cited in auth]:
            return None
        if isinstance(
            await self._reader.judge_by_state(stage, stage.head.root, record, event.version), Rejected
        ):
            return None
        root = self._states.root(held.state_id)
        prevs = [await self._prev(stage, event_id, known) for event_id in event.prev_events]
        placed = PlacedEvent(
            event, held.event_nid, held.prev_nids, root, stage.head.root, record, was_here=True, before=root
        )
        await self._redactions.note(stage, placed, known)
        stage.place(placed)
        await self._advance(stage, arrival, placed, prevs, known)
        return placed

    async def _stored(self, stage: Stage, event: Event, held: HeldEvent) -> Event:
        pdu_json = await self._store.find_pdu(stage.head.room.room_nid, held.event_nid)
        return event if pdu_json is None else event_from_stored(pdu_json, event.event_id, event.version)

    # --- what it refers to --------------------------------------------------------------------------

    async def _prev(self, stage: Stage, event_id: str, known: Known) -> _Prev:
        staged = stage.find_staged_id(event_id)
        if staged is not None:
            return _Prev(staged.event_nid, staged.root, bool(staged.flags))
        held = known.held.get(event_id)
        if held is not None and not held.is_outlier:
            return _Prev(held.event_nid, self._root_after(stage, held), held.is_hidden)
        if held is not None:
            # It has a number, and is awaited from now on.
            return _Prev(held.event_nid, None, is_new=True, event_id=event_id)
        awaited = known.unjudged.get(event_id) or known.awaited.get(event_id)
        if awaited is None:
            [awaited] = await self._event_nids.take(1)
            # Others of the batch may refer to it, too.
            known.awaited[event_id] = awaited
        return _Prev(awaited, None, is_new=True, event_id=event_id)

    def _root_after(self, stage: Stage, held: HeldEvent) -> Node:
        for extremity in stage.head.extremities:
            if extremity.event_nid == held.event_nid:
                return extremity.root
        return self._states.root(held.state_id)

    async def _auth(self, stage: Stage, event: Event, known: Known) -> list[AuthRecord]:
        """The auth records of the event's whole auth_events list, in its order."""
        nids: list[int] = []
        missing: list[str] = []
        for event_id in event.auth_events:
            staged, held = stage.find_staged_id(event_id), known.held.get(event_id)
            if staged is not None:
                nids.append(staged.event_nid)
            elif held is not None:
                nids.append(held.event_nid)
            else:
                missing.append(event_id)
        if missing:
            raise MissingAuth(missing)
        stored = [nid for nid in nids if stage.find_staged(nid) is None]
        found = await self._auth_records.get_many(stage.head.room.room_nid, stored)
        return [self._auth_record(stage, nid, found) for nid in nids]

    def _auth_record(self, stage: Stage, nid: int, found: Mapping[int, AuthRecord]) -> AuthRecord:
        staged = stage.find_staged(nid)
        if staged is not None:
            return staged.auth
        # A message has none: as an auth event it is refused by the rules, whatever it says.
        return found.get(nid) or message_record(nid)

    async def _state_before(self, stage: Stage, arrival: Arrival, prevs: Sequence[_Prev]) -> Node:
        if arrival.root_before is not None:
            return arrival.root_before
        roots = [prev.root for prev in prevs if prev.root is not None]
        if arrival.is_beginning:
            roots = []
        if arrival.state_before is not None:
            roots.append(await self._reader.make_root(stage, arrival.state_before))
        return await self._resolver.resolve(stage, roots) if roots else EMPTY

    # --- judging ------------------------------------------------------------------------------------

    async def _judge(
        self,
        stage: Stage,
        arrival: Arrival,
        record: AuthRecord,
        auth: Sequence[AuthRecord],
        before: Node,
        prevs: Sequence[_Prev],
    ) -> tuple[Flag, str | None]:
        """The event's flags, and the rule that refuses it. Spec: checks 4, 5 and 6."""
        event = arrival.event
        if not prevs and not await self._is_creation(stage, record):
            return Flag.REJECTED, "event.prev_events"
        state = await self._reader.records_at(stage, before, [CREATE])
        verdict = check_auth_list(event.version, record, auth, state.get(CREATE))
        if isinstance(verdict, Rejected):
            return Flag.REJECTED, verdict.rule
        verdict = await self._reader.judge_by_state(stage, before, record, event.version)
        if isinstance(verdict, Rejected):
            # Nobody has old events that are rejected to give: what we were told further on is as likely wrong.
            if arrival.is_by_hearsay or arrival.is_history:
                raise DoubtfulState(event.prev_events)
            return Flag.REJECTED, verdict.rule
        if arrival.is_history or arrival.is_beginning:
            return Flag(0), None
        verdict = await self._judge_by_now(stage, arrival, record, before)
        if isinstance(verdict, Rejected):
            return Flag.SOFT_FAILED, verdict.rule
        if await self._branches.are_too_many_with(stage, event, [prev.event_nid for prev in prevs]):
            return Flag.SOFT_FAILED, "branches"
        return Flag(0), None

    async def _is_creation(self, stage: Stage, record: AuthRecord) -> bool:
        """Whether it is the event that the room began with; no other one can begin it again."""
        found = await self._reader.find_nids(stage, stage.head.root, [CREATE])
        return found.get(CREATE) == record.nid

    async def _judge_by_now(
        self, stage: Stage, arrival: Arrival, record: AuthRecord, before: Node
    ) -> Verdict:
        """Judge the event by the room's current state, which the lane's own commits have made."""
        head, version = stage.head, arrival.event.version
        verdict = await self._reader.judge_by_state(stage, head.root, record, version)
        if not isinstance(verdict, Rejected) or arrival.state_before is None:
            return verdict
        # We have missed some of the room: what is said of the state before the event may be newer than what we
        # know, a join above all. A ban that we know of wins in the resolution.
        merged = await self._resolver.resolve(stage, [head.root, before])
        return await self._reader.judge_by_state(stage, merged, record, version)

    # --- the room after it ----------------------------------------------------------------------------

    async def _advance(
        self,
        stage: Stage,
        arrival: Arrival,
        placed: PlacedEvent,
        prevs: Sequence[_Prev],
        known: Known,
    ) -> None:
        """Let the room's extremities and current state follow from an accepted event."""
        extremity = Extremity(placed.event_nid, placed.event.event_id, placed.event.depth, placed.root)
        if arrival.is_beginning:
            stage.advance([extremity], placed.root)
            placed.room_root = placed.root
            return
        covered = await self._covered(stage, prevs)
        extremities = [e for e in stage.head.extremities if e.event_nid not in covered]
        if not await self._is_built_upon(stage, placed, known):
            extremities.append(extremity)
        placed.room_root = await self._resolver.resolve(stage, [e.root for e in extremities])
        stage.advance(extremities, placed.room_root)

    async def _covered(self, stage: Stage, prevs: Sequence[_Prev]) -> set[int]:
        """The events that are no extremities any more.

        An accepted event may build on hidden ones: what those were built on is history, too.
        """
        covered = {prev.event_nid for prev in prevs}
        hidden = [prev.event_nid for prev in prevs if prev.is_hidden]
        seen = set(hidden)
        while hidden and len(seen) < _MAX_HIDDEN:
            found: list[tuple[int, ...]] = []
            stored = []
            for nid in hidden:
                staged = stage.find_staged(nid)
                if staged is not None:
                    found.append(staged.prev_nids)
                else:
                    stored.append(nid)
            room_nid = stage.head.room.room_nid
            rows = await self._store.find_held_nids(room_nid, stored) if stored else {}
            found += [row.prev_nids for row in rows.values()]
            below = {nid for nids in found for nid in nids} - covered
            covered |= below
            known = await self._store.find_held_nids(room_nid, list(below)) if below else {}
            staged_hidden = [n for n in below if (p := stage.find_staged(n)) is not None and p.flags]
            hidden = [n for n, row in known.items() if row.is_hidden and not row.is_outlier] + staged_hidden
            hidden = [nid for nid in hidden if nid not in seen]
            seen |= set(hidden)
        return covered

    async def _is_built_upon(self, stage: Stage, placed: PlacedEvent, known: Known) -> bool:
        """Whether history that we have goes on from the event already: it fills a gap."""
        nid = placed.event_nid
        if any(nid in other.prev_nids and not other.flags for other in stage.placed):
            return True
        if not placed.was_here and placed.event.event_id not in known.awaited:
            return False
        return await self._store.is_built_upon(stage.head.room.room_nid, nid)


def message_record(nid: int) -> AuthRecord:
    """What stands for a message that an event calls an auth event: the rules refuse it."""
    return event_auth.make_record(
        version=1,
        nid=nid,
        event_id="",
        type="",
        state_key=None,
        sender="",
        room_id="",
        origin_server_ts=0,
        depth=0,
        content={},
        auth_nids=(),
    )
