"""The state of a room as another server gives it whole, as when joining: stored a part at a time.

However large the room is, no more of it is held than its PDUs as they came, which are in a file where they are many,
and a part of them as events. Spec: server-server-api "Joining Rooms".
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from hs.matrix.event import Event
from hs.matrix.keys import ALGORITHM
from hs.net.errors import BadAnswer
from hs.net.room_client import decode_pdus
from hs.rooms.checks import PduChecker
from hs.rooms.outliers import OutlierImporter
from hs.storage.outliers import OutlierStore
from hs.storage.rooms import RoomInfo
from hs.storage.state import StateKey

# Events that are checked and stored together, about 3 KiB each.
_CHUNK: Final = 1000
# Events that claim to be no younger than what they rest on wait for it, so many at most.
_MAX_WAITING: Final = 10_000
_MAX_PASSES: Final = 20
# How many were stored when the database looks whether its plans are still good.
_STOCKTAKINGS: Final = (_CHUNK, 8 * _CHUNK, 64 * _CHUNK)
# Servers whose keys are asked for, all of them side by side: the largest rooms have fewer.
_MAX_SERVERS: Final = 20_000


class _Claim(msgspec.Struct):
    """What a PDU says of its place and of who has signed it."""

    depth: int = 0
    origin_server_ts: int = 0
    signatures: dict[str, dict[str, str]] = {}


_claims: Final = msgspec.json.Decoder(_Claim)


class _Kind(msgspec.Struct):
    """Which entry of a state a PDU is."""

    type: str = ""
    state_key: str | None = None


_kinds: Final = msgspec.json.Decoder(_Kind)


@dataclass(slots=True)
class _Survey:
    """Indices of the PDUs, oldest first and each PDU once, and the keys that they are signed with."""

    indices: list[int]
    keys: dict[str, dict[str, int]]


@dataclass(slots=True)
class _Part:
    """Events that were checked; `state_ids` are those that the state is said to consist of."""

    events: list[Event] = field(default_factory=list)
    state_ids: set[str] = field(default_factory=set)


class WholeImports:
    """Stores states that were given whole."""

    def __init__(
        self,
        checker: PduChecker,
        importer: OutlierImporter,
        store: OutlierStore,
        at_once: int = _CHUNK,
    ) -> None:
        self._checker = checker
        self._importer = importer
        self._store = store
        self._at_once = at_once

    async def store(
        self, room: RoomInfo, state: Sequence[msgspec.Raw], auth_chain: Sequence[msgspec.Raw]
    ) -> dict[StateKey, int]:
        """The state: (type, state_key) to numbers of events that we hold now.

        What cannot be verified is left out, with what needs it: keys of servers that are gone are nowhere to
        be had, and old rooms are full of those.
        """
        pdus = [*state, *auth_chain]
        survey = await _look_over(pdus, room.version.enforces_key_validity)
        checker = await self._checker.with_keys(survey.keys)
        found: dict[StateKey, int] = {}
        waiting = _Part()
        for start in range(0, len(survey.indices), self._at_once):
            indices = survey.indices[start : start + self._at_once]
            part = await _check(checker, room, pdus, indices, len(state))
            await self._store_part(room, part, waiting, found)
            if start in _STOCKTAKINGS:
                await self._store.take_stock(start)
        for _ in range(_MAX_PASSES):
            before, waiting = waiting, _Part()
            for start in range(0, len(before.events), self._at_once):
                part = _Part(before.events[start : start + self._at_once], before.state_ids)
                await self._store_part(room, part, waiting, found)
            if len(waiting.events) in (0, len(before.events)):
                break
        return found

    async def _store_part(
        self, room: RoomInfo, part: _Part, waiting: _Part, found: dict[StateKey, int]
    ) -> None:
        """Store those of the events that can be, put the others to those that wait, and the state's to the state."""
        nids = await self._importer.add_ready(room, part.events)
        of_state = [nid for event_id, nid in nids.items() if event_id in part.state_ids]
        for entry in await self._store.list_state(room.room_nid, of_state) if of_state else ():
            # What is rejected is in no state, whatever the other server says.
            if not entry.is_rejected:
                found[entry.type, entry.state_key] = entry.event_nid
        left = [event for event in part.events if event.event_id not in nids]
        waiting.events += left[: _MAX_WAITING - len(waiting.events)]
        waiting.state_ids |= part.state_ids.intersection(event.event_id for event in left)


async def find_create(state: Sequence[msgspec.Raw]) -> dict[str, Any]:
    """What a state that was given whole has for its m.room.create event, unchecked; BadAnswer where it has none."""
    for i, pdu in enumerate(state, 1):
        if i % _CHUNK == 0:
            await asyncio.sleep(0)
        try:
            kind = _kinds.decode(pdu)
        except (msgspec.DecodeError, RecursionError):
            continue
        if kind.type == "m.room.create" and kind.state_key == "":
            for create in decode_pdus([pdu]):
                return create
    raise BadAnswer("the room has no create event")


async def _check(
    checker: PduChecker,
    room: RoomInfo,
    pdus: Sequence[msgspec.Raw],
    indices: Sequence[int],
    state_count: int,
) -> _Part:
    """What of a part is valid by itself; the state's PDUs come before the others."""
    of_state = decode_pdus([pdus[i] for i in indices if i < state_count])
    others = decode_pdus([pdus[i] for i in indices if i >= state_count])
    state = await checker.check(of_state, room.version, room.room_id)
    chain = await checker.check(others, room.version, room.room_id)
    return _Part([*state.events, *chain.events], {event.event_id for event in state.events})


async def _look_over(pdus: Sequence[msgspec.Raw], needs_valid_keys: bool) -> _Survey:
    """A first look at all of them; what is no PDU is left out."""
    places: list[tuple[int, int, int]] = []
    keys: dict[str, dict[str, int]] = {}
    seen: set[int] = set()
    for i, pdu in enumerate(pdus):
        if i % _CHUNK == 0:
            await asyncio.sleep(0)
        # State events are in each other's auth chain: the same bytes are checked once.
        digest = hash(bytes(pdu))
        try:
            claim = _claims.decode(pdu)
        except (msgspec.DecodeError, RecursionError):
            continue
        if digest in seen:
            continue
        seen.add(digest)
        places.append((claim.depth, claim.origin_server_ts, i))
        # Before v5 any key counts that a server ever had.
        valid_at_ts = claim.origin_server_ts if needs_valid_keys else 0
        for server_name, signatures in claim.signatures.items():
            if server_name in keys or len(keys) < _MAX_SERVERS:
                by_key = keys.setdefault(server_name, {})
                for key_id in signatures:
                    if key_id.startswith(ALGORITHM + ":"):
                        by_key[key_id] = max(by_key.get(key_id, 0), valid_at_ts)
    # What others rest on comes first, as far as everybody tells the truth.
    return _Survey([i for _, _, i in sorted(places)], keys)
