"""State and auth events that other servers tell us: all of it or nothing, and only what we lack is fetched.

    fetch(server, room, event)
      /state_ids                         that server's word, and nobody else's
      _fetch_contents                    what we lack of it, whoever gives it: events prove themselves
      _check_told                        what the event rests on is there, or the state counts for nothing

What is being fetched is not fetched a second time (`Flights`).

Spec: server-server-api "Retrieving previous events": /state_ids, /state, /event, /event_auth.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from hs.matrix.auth_rules import select_auth_keys
from hs.matrix.event import Event
from hs.net.errors import RemoteError, RemoteRefused
from hs.net.room_client import RoomClient, StateIds, decode_pdus
from hs.rooms.arrivals import MissingAuth
from hs.rooms.checks import PduChecker
from hs.rooms.flights import Flights
from hs.rooms.outliers import OutlierImporter
from hs.storage.outliers import OutlierStore
from hs.storage.rooms import RoomInfo
from hs.storage.state import StateKey

logger = logging.getLogger(__name__)

# Where a tenth of it is missing, one answer with all of it is cheaper than many requests.
_WHOLE_FROM = 10
_EVENTS_AT_ONCE = 8
# Requests for single events of one state; more are missing only from a whole one.
_MAX_SINGLE = 2000
# Auth events have auth events: rounds of asking for what is still missing.
_MAX_ROUNDS = 20
# Events that are checked, and ids that are looked up, together.
_CHUNK = 1000

_CREATE: Final = ("m.room.create", "")


class IncompleteState(RemoteError):
    """The other server has not given all of a state."""


class NotGiven(RemoteError):
    """The other server has given another event than it was asked for, or one that cannot be verified."""


class FetchedStates:
    """Fetches states of rooms, and stores their events as outliers."""

    def __init__(
        self, client: RoomClient, checker: PduChecker, importer: OutlierImporter, store: OutlierStore
    ) -> None:
        self._client = client
        self._checker = checker
        self._importer = importer
        self._store = store
        self._ids: Flights[tuple[str, int, str], StateIds] = Flights()
        self._contents: Flights[tuple[int, str], bool] = Flights()
        self._auth: Flights[tuple[int, str], bool] = Flights()
        self._events: Flights[tuple[int, str], Event] = Flights()

    async def fetch(
        self, origin: str, room: RoomInfo, event: Event, followers: Sequence[Event] = ()
    ) -> dict[StateKey, int]:
        """The state before an event as the server tells it: (type, state_key) to numbers of events we hold.

        `followers` are events that this state is to be the ground of, too: see `list_followers`.
        Raises RemoteError where it does not tell all of it, or what cannot be: then nothing is taken.
        """
        ids = await self._fetch_ids(origin, room, event.event_id)
        missing = await self._list_missing(room, ids)
        key = (room.room_nid, event.event_id)
        if missing and await self._contents.join(key):
            missing = await self._list_missing(room, ids)
        if missing:
            await self._contents.run(
                key, lambda: self._fetch_contents(origin, room, event.event_id, ids, missing)
            )
        state = await self._entries(room, ids.pdu_ids)
        await self._check_told(room, state, [event, *followers])
        return state

    async def fetch_before(
        self,
        origin: str,
        room: RoomInfo,
        event: Event,
        missing: Sequence[str],
        followers: Sequence[Event] = (),
    ) -> dict[StateKey, int]:
        """The same for an event that we hold, where these of its previous events are missing.

        One that is missing is asked for the state after it, as other servers do: it leaves out what comes by the
        event's other branches, which we know. A server that does not have the missing one itself knows no such
        state, and is asked for the state before the event.
        """
        if len(missing) == 1:
            try:
                state = await self._fetch_after(origin, room, missing[0])
            except RemoteRefused as error:
                logger.info("%s does not know the state after %s: %s", origin, missing[0], error)
            else:
                if len(event.prev_events) == 1:
                    await self._check_told(room, state, [event, *followers])
                return state
        return await self.fetch(origin, room, event, followers)

    async def fetch_event(self, origin: str, room: RoomInfo, event_id: str) -> Event:
        """One event, valid by itself. Raises RemoteError."""
        key = (room.room_nid, event_id)
        event = await self._events.join(key)
        # What somebody has changed on the way is good for nobody else.
        if event is None or event.redacted_for_hash:
            event = await self._events.run(key, lambda: self._ask_event(origin, room, event_id))
        return event

    async def _ask_event(self, origin: str, room: RoomInfo, event_id: str) -> Event:
        pdu = await self._client.get_event(origin, event_id)
        checked = await self._checker.check([pdu], room.version, room.room_id)
        for event in checked.events:
            if event.event_id == event_id:
                return event
        raise NotGiven(f"{event_id} is not what was given, or cannot be verified")

    async def _fetch_ids(self, origin: str, room: RoomInfo, event_id: str) -> StateIds:
        key = (origin, room.room_nid, event_id)
        ids = await self._ids.join(key)
        if ids is None:
            ids = await self._ids.run(key, lambda: self._client.get_state_ids(origin, room.room_id, event_id))
        return ids

    async def _list_missing(self, room: RoomInfo, ids: StateIds) -> list[str]:
        wanted = dict.fromkeys((*ids.pdu_ids, *ids.auth_chain_ids))
        held = await self._importer.find_nids(room, list(wanted))
        return [event_id for event_id in wanted if event_id not in held]

    async def _fetch_contents(
        self, origin: str, room: RoomInfo, event_id: str, ids: StateIds, missing: Sequence[str]
    ) -> bool:
        """Store what we lack of a state, all of it or nothing."""
        total = len(ids.pdu_ids) + len(ids.auth_chain_ids)
        if len(missing) * _WHOLE_FROM >= total or len(missing) > _MAX_SINGLE:
            whole = await self._client.get_state(origin, room.room_id, event_id)
            events = await self.check(room, [*whole.auth_chain, *whole.pdus])
        else:
            events = await self._fetch_events(origin, room, missing)
        got = {event.event_id for event in events}
        of_state = set(ids.pdu_ids)
        if any(id in of_state and id not in got for id in missing):
            raise IncompleteState("not all of the state is given")
        await self._import(origin, room, events)
        return True

    async def _fetch_after(self, origin: str, room: RoomInfo, event_id: str) -> dict[StateKey, int]:
        event = await self.fetch_event(origin, room, event_id)
        state = await self.fetch(origin, room, event)
        if event.is_state:
            await self._import(origin, room, [event])
            state |= await self._entries(room, [event_id])
        return state

    async def _check_told(
        self, room: RoomInfo, state: Mapping[StateKey, int], events: Sequence[Event]
    ) -> None:
        """IncompleteState where the state lacks what there must have been for the first of the events to be made.

        Its sender has seen a member event of his own there, and so on: another one may have taken its place, but
        something is there. The others follow the first, and what is among the events themselves is not asked of it.
        """
        own = {event.event_id for event in events}
        cited = dict.fromkeys(id for event in events for id in event.auth_events if id not in own)
        nids = await self._importer.find_nids(room, list(cited))
        entries = await self._store.list_state(room.room_nid, list(nids.values()))
        keys = {entry.event_nid: (entry.type, entry.state_key) for entry in entries if not entry.is_rejected}
        needed = {_CREATE}
        for event in events:
            selected = select_auth_keys(
                event.version, event.type, event.sender, event.state_key, event.content
            )
            found = {keys[nid] for id in event.auth_events if (nid := nids.get(id)) in keys}
            needed |= found.intersection(selected)
        lacking = needed - state.keys()
        if lacking:
            raise IncompleteState(f"the state lacks what is built on it: {sorted(lacking)[:3]}")

    async def fetch_auth(self, origin: str, room: RoomInfo, event: Event) -> None:
        """Store the auth events of an event, and theirs; MissingAuth or RemoteError where they cannot be had."""
        key = (room.room_nid, event.event_id)
        if not await self._auth.join(key):
            await self._auth.run(key, lambda: self._fetch_auth(origin, room, event.event_id))

    async def _fetch_auth(self, origin: str, room: RoomInfo, event_id: str) -> bool:
        pdus = await self._client.get_event_auth(origin, room.room_id, event_id)
        await self._import(origin, room, await self.check(room, pdus))
        return True

    async def fetch_missing_auth(self, origin: str, room: RoomInfo, events: Sequence[Event]) -> None:
        """Store auth events of several events that are neither held nor among them, as far as they can be had."""
        own = {event.event_id for event in events}
        wanted = list(dict.fromkeys(id for event in events for id in event.auth_events if id not in own))
        held = await self._importer.find_nids(room, wanted)
        missing = [event_id for event_id in wanted if event_id not in held]
        if not missing:
            return
        try:
            await self._import(origin, room, await self._fetch_events(origin, room, missing))
        except MissingAuth as error:
            logger.info("%s does not give all auth events in %s: %s", origin, room.room_id, error)

    async def check(self, room: RoomInfo, pdus: Sequence[msgspec.Raw]) -> list[Event]:
        """The events among the PDUs of a room, a part of them decoded at a time."""
        events: list[Event] = []
        for start in range(0, len(pdus), _CHUNK):
            decoded = decode_pdus(pdus[start : start + _CHUNK])
            events += (await self._checker.check(decoded, room.version, room.room_id)).events
        return events

    async def _entries(self, room: RoomInfo, event_ids: Sequence[str]) -> dict[StateKey, int]:
        nids = await self._importer.find_nids(room, event_ids)
        lacking = len(set(event_ids)) - len(nids)
        if lacking:
            raise IncompleteState(f"{lacking} events of the state are missing")
        state: dict[StateKey, int] = {}
        numbers = list(nids.values())
        for start in range(0, len(numbers), _CHUNK):
            for entry in await self._store.list_state(room.room_nid, numbers[start : start + _CHUNK]):
                # What is rejected is in no state, whatever the other server says.
                if not entry.is_rejected:
                    state[entry.type, entry.state_key] = entry.event_nid
        return state

    async def _import(self, origin: str, room: RoomInfo, events: Sequence[Event]) -> None:
        """Store the events; auth events that are still missing are asked for one by one."""
        gathered = {event.event_id: event for event in events}
        for _ in range(_MAX_ROUNDS):
            try:
                await self._importer.add(room, list(gathered.values()))
                return
            except MissingAuth as missing:
                wanted = [event_id for event_id in missing.event_ids if event_id not in gathered]
                if not wanted or len(wanted) > _MAX_SINGLE:
                    raise
                fetched = await self._fetch_events(origin, room, wanted)
                if not fetched:
                    raise
                gathered |= {event.event_id: event for event in fetched}
        raise IncompleteState("auth events of auth events are missing without end")

    async def _fetch_events(self, origin: str, room: RoomInfo, event_ids: Sequence[str]) -> list[Event]:
        """Those of the events that the server gives us and that are valid; asked for a few at a time."""
        slots = asyncio.Semaphore(_EVENTS_AT_ONCE)

        async def fetch(event_id: str) -> Event | None:
            async with slots:
                try:
                    return await self.fetch_event(origin, room, event_id)
                except RemoteError as error:
                    logger.debug("%s does not give %s: %s", origin, event_id, error)
                    return None

        found = await asyncio.gather(*(fetch(event_id) for event_id in event_ids))
        return [event for event in found if event is not None]


def list_followers(event: Event, events: Sequence[Event]) -> list[Event]:
    """Those of the events, oldest first, before which there is nothing but the one event, and each other."""
    line = {event.event_id}
    followers = []
    for other in events:
        if other.event_id not in line and other.prev_events and line.issuperset(other.prev_events):
            line.add(other.event_id)
            followers.append(other)
    return followers
