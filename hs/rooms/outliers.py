"""Import of events that others refer to: kept as outliers, each judged by its own auth events.

Spec: server-server-api "Rejection" and "Retrieving event authorisation information". An event is never
stored without its auth events.
"""

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TypeVar

from hs._fast import event_auth
from hs._fast.event_auth import AuthRecord
from hs.matrix.auth_rules import Rejected, check_auth_list, make_record
from hs.matrix.event import Event
from hs.rooms.arrivals import MissingAuth, message_record
from hs.rooms.lane import Lanes
from hs.storage.arrivals import ArrivalStore
from hs.storage.auth_records import AuthRecordStore
from hs.storage.outliers import OutlierRow, OutlierStore
from hs.storage.rooms import RoomInfo
from hs.storage.streams import NidAllocator

T = TypeVar("T")

# Ids that one query looks up, and events that one transaction writes.
_CHUNK = 1000


class OutlierImporter:
    """Stores outliers of rooms."""

    def __init__(
        self,
        lanes: Lanes,
        known: ArrivalStore,
        store: OutlierStore,
        auth_records: AuthRecordStore,
        event_nids: NidAllocator,
    ) -> None:
        self._lanes = lanes
        self._known = known
        self._store = store
        self._auth_records = auth_records
        self._event_nids = event_nids

    async def add(self, room: RoomInfo, events: Sequence[Event]) -> None:
        """Store those of the events that we do not hold.

        Raises MissingAuth where auth events are neither among them nor in the database: then nothing is stored.
        Stored in parts, each with its auth events: what stands after a crash is whole.
        """
        async with self._lanes.turn(room.room_nid):
            missing = await _Import(self, room).run(events, is_partial=False)
        if missing:
            raise MissingAuth(missing)

    async def add_ready(self, room: RoomInfo, events: Sequence[Event]) -> dict[str, int]:
        """Store those of the events whose auth events are held or among them; numbers of all that are held now."""
        async with self._lanes.turn(room.room_nid):
            work = _Import(self, room)
            await work.run(events, is_partial=True)
        return {event.event_id: nid for event in events if (nid := work.find_nid(event.event_id)) is not None}

    async def find_nids(self, room: RoomInfo, event_ids: Sequence[str]) -> dict[str, int]:
        """Numbers of those of the events that we hold in any way."""
        found: dict[str, int] = {}
        for part in _chunks(event_ids):
            known = await self._known.find(room.room_nid, part)
            found |= {event_id: held.event_nid for event_id, held in known.held.items()}
        return found


class _Import:
    """One import, in the room's lane."""

    def __init__(self, importer: OutlierImporter, room: RoomInfo) -> None:
        self._importer = importer
        self._room = room
        self._nids: dict[str, int] = {}
        self._awaited: dict[str, int] = {}
        self._unjudged: set[int] = set()
        self._records: dict[int, AuthRecord] = {}

    def find_nid(self, event_id: str) -> int | None:
        """The number of an event that is held."""
        return self._nids.get(event_id)

    async def run(self, events: Sequence[Event], *, is_partial: bool) -> list[str]:
        """Store the events, those alone that have what they need where it `is_partial`; what is missing otherwise."""
        by_id = {event.event_id: event for event in events}
        await self._look_up(by_id)
        new = {event_id: event for event_id, event in by_id.items() if event_id not in self._nids}
        needed = {event_id: self._needs(event) for event_id, event in new.items()}
        ordered = _order(needed)
        if len(ordered) < len(new) and not is_partial:
            missing = {auth_id for needs in needed.values() for auth_id in needs} - new.keys()
            return sorted(missing or new.keys() - set(ordered))
        new = {event_id: new[event_id] for event_id in ordered}
        wanted = [id for event in new.values() for id in event.auth_events] + [self._create_id]
        stored = [self._nids[event_id] for event_id in wanted if event_id in self._nids]
        room_nid, importer = self._room.room_nid, self._importer
        self._records |= await importer._auth_records.get_many(room_nid, list(dict.fromkeys(stored)))
        for part in _chunks(list(new.values())):
            rows = await self._make_rows(part)
            replaced = [row.event_nid for row in rows if row.event_nid in self._unjudged]
            await importer._store.insert(room_nid, rows, replaced)
            # Large rooms take a while: others have their turn.
            await asyncio.sleep(0)
        return []

    async def _look_up(self, by_id: Mapping[str, Event]) -> None:
        wanted = dict.fromkeys(by_id)
        for event in by_id.values():
            wanted |= dict.fromkeys(event.auth_events)
        if self._room.version.room_id_is_create_hash:
            wanted[self._create_id] = None
        for part in _chunks(list(wanted)):
            known = await self._importer._known.find(self._room.room_nid, part)
            self._nids |= {event_id: held.event_nid for event_id, held in known.held.items()}
            self._awaited |= known.awaited | known.unjudged
            self._unjudged |= set(known.unjudged.values())

    def _needs(self, event: Event) -> set[str]:
        """What must be stored before the event, and is not yet.

        Since v12 nothing names the create event, and all else is judged by it.
        """
        needs = set(event.auth_events)
        if self._room.version.room_id_is_create_hash and event.type != "m.room.create":
            needs.add(self._create_id)
        return needs - self._nids.keys()

    @property
    def _create_id(self) -> str:
        return "$" + self._room.room_id[1:]

    async def _make_rows(self, events: Sequence[Event]) -> list[OutlierRow]:
        fresh = await self._importer._event_nids.take(len(events))
        rows = []
        for event, number in zip(events, fresh, strict=True):
            nid = self._awaited.get(event.event_id, number)
            auth = [self._record_of(self._nids[auth_id]) for auth_id in event.auth_events]
            create_nid = self._nids.get(self._create_id)
            create = None if create_nid is None else self._records.get(create_nid)
            record = make_record(event, nid, auth)
            verdict = check_auth_list(event.version, record, auth, create)
            rule = verdict.rule if isinstance(verdict, Rejected) else None
            if rule is not None:
                record = make_record(event, nid, auth, is_rejected=True)
            self._nids[event.event_id] = nid
            if event.is_state:
                self._records[nid] = record
            auth_nids = [found.nid for found in auth]
            rows.append(OutlierRow(nid, event, auth_nids, event_auth.pack_record(record), rule))
        return rows

    def _record_of(self, nid: int) -> AuthRecord:
        return self._records.get(nid) or message_record(nid)


def _order(needed: Mapping[str, Collection[str]]) -> list[str]:
    """The events, each after those that it needs.

    Left out are those in a cycle, those that need what is not among them, and what needs these.
    """
    waiting = {event_id: len(needs) for event_id, needs in needed.items()}
    allows: dict[str, list[str]] = {}
    for event_id, needs in needed.items():
        for auth_id in needs:
            allows.setdefault(auth_id, []).append(event_id)
    ready = [event_id for event_id, count in waiting.items() if count == 0]
    ordered: list[str] = []
    while ready:
        event_id = ready.pop()
        ordered.append(event_id)
        for allowed in allows.get(event_id, ()):
            waiting[allowed] -= 1
            if waiting[allowed] == 0:
                ready.append(allowed)
    return ordered


def _chunks(items: Sequence[T]) -> Iterator[list[T]]:
    for start in range(0, len(items), _CHUNK):
        yield list(items[start : start + _CHUNK])
