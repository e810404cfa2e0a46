"""Checks of events from elsewhere that need no room: format, hashes, signatures.

Spec: server-server-api "Checks performed on receipt of a PDU", 1 to 3, "Validating hashes and signatures on
received events".
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from hs.matrix.errors import BadJson, Forbidden, InvalidParam, MatrixError
from hs.matrix.event import Event, InvalidEvent, parse_event
from hs.matrix.keys import BadSignature, ServerKey
from hs.matrix.room_versions import RoomVersion
from hs.matrix.signing import SignedEvent, signed_event, verify_event_signatures

# A signature takes about 54 us to check, a thread as much to ask.
_IN_LOOP = 4
# What one thread does before another request's events may have their turn.
_PER_THREAD = 50
# Parsing and hashing takes about 30 us each: others have their turn in between.
_PARSED_AT_ONCE = 50


def refusal_of(error: InvalidEvent) -> MatrixError:
    """What is answered to another server that has asked us to take such a PDU in."""
    reason = f"not an event of this room's version: {error.reason}"
    if error.rule == "json":
        return BadJson(reason)
    # Nobody has signed it; it is no matter of its format.
    if error.rule in ("format.signatures", "format.hashes"):
        return Forbidden(reason)
    return InvalidParam(reason)


class KeySource(Protocol):
    """Knows the signing keys of servers."""

    async def get_keys(
        self, wanted: Mapping[str, Mapping[str, int]]
    ) -> Mapping[str, Mapping[str, ServerKey]]:
        """Keys by id, by server. `wanted` says which, and until when each must have been valid (0: at any time).

        Those that nobody knows are left out.
        """


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of some PDUs."""

    events: list[Event] = field(default_factory=list)
    # Why others were dropped, by event id; what is no event has none, and is left out.
    dropped: dict[str, str] = field(default_factory=dict)


class _KnownKeys:
    """Keys that were fetched before: servers that do not answer are not asked again and again."""

    def __init__(self, keys: Mapping[str, Mapping[str, ServerKey]]) -> None:
        self._keys = keys

    async def get_keys(
        self, wanted: Mapping[str, Mapping[str, int]]
    ) -> Mapping[str, Mapping[str, ServerKey]]:
        """Those of them that are wanted."""
        return {name: self._keys.get(name, {}) for name in wanted}


class PduChecker:
    """Turns PDUs into events that are valid by themselves."""

    def __init__(self, keys: KeySource) -> None:
        self._keys = keys

    async def with_keys(self, wanted: Mapping[str, Mapping[str, int]]) -> "PduChecker":
        """One that has these keys, as far as they can be had, and asks for no others."""
        return PduChecker(_KnownKeys(await self._keys.get_keys(wanted)))

    async def check(self, pdus: Sequence[dict[str, Any]], version: RoomVersion, room_id: str) -> Checked:
        """The PDUs of a room as events, redacted where their hash is wrong; what is not valid is dropped."""
        checked = Checked()
        signed: list[tuple[Event, SignedEvent]] = []
        for i, pdu in enumerate(pdus, 1):
            if i % _PARSED_AT_ONCE == 0:
                await asyncio.sleep(0)
            try:
                event = parse_event(pdu, version)
            except InvalidEvent:
                continue
            if event.room_id != room_id:
                checked.dropped[event.event_id] = "the event is of another room"
                continue
            if "\x00" in event.type or "\x00" in (event.state_key or ""):
                # Allowed by the specification, kept by no server on PostgreSQL: no room can rely on it.
                checked.dropped[event.event_id] = "the type or the state key holds a NUL character"
                continue
            try:
                signed.append((event, signed_event(event)))
            except BadSignature as error:
                checked.dropped[event.event_id] = str(error)
        await self._verify(signed, checked)
        return checked

    async def _verify(self, signed: Sequence[tuple[Event, SignedEvent]], checked: Checked) -> None:
        keys = await self._keys.get_keys(_wanted_keys([s for _, s in signed])) if signed else {}
        if len(signed) <= _IN_LOOP:
            errors = _verify_all([s for _, s in signed], keys)
        else:
            errors = []
            for start in range(0, len(signed), _PER_THREAD):
                part = [s for _, s in signed[start : start + _PER_THREAD]]
                errors += await asyncio.to_thread(_verify_all, part, keys)
        for (event, _), error in zip(signed, errors, strict=True):
            if error is None:
                checked.events.append(event)
            else:
                checked.dropped[event.event_id] = error


def _wanted_keys(signed: Sequence[SignedEvent]) -> dict[str, dict[str, int]]:
    wanted: dict[str, dict[str, int]] = {}
    for event in signed:
        for server_name in event.required:
            by_key = wanted.setdefault(server_name, {})
            for key_id in event.key_ids(server_name):
                by_key[key_id] = max(by_key.get(key_id, 0), event.valid_at_ts or 0)
    return wanted


def _verify_all(
    signed: Sequence[SignedEvent], keys: Mapping[str, Mapping[str, ServerKey]]
) -> list[str | None]:
    """For each event None, or what is wrong with its signatures. Fit for a thread."""
    errors: list[str | None] = []
    for event in signed:
        try:
            verify_event_signatures(event, keys)
            errors.append(None)
        except BadSignature as error:
            errors.append(str(error))
    return errors
