"""What is told of a room to somebody who is invited to it or knocks at it.

Spec: client-server-api "Stripped state"; invites-v2.yaml and knocks.yaml: since v1.16 these are whole PDUs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from hs._fast.state_tree import Node
from hs.matrix.event import pdu_dict
from hs.matrix.room_versions import RoomVersion
from hs.rooms.checks import PduChecker
from hs.rooms.outside import MAX_STRIPPED
from hs.rooms.state import RoomStates
from hs.storage.events import EventStore
from hs.storage.rooms import RoomInfo

# What names a room to somebody who is not in it. Spec: client-server-api "Stripped state".
NAMING = (
    "m.room.create",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.join_rules",
    "m.room.canonical_alias",
    "m.room.encryption",
)


class NamingState:
    """The events that name a room, as PDUs."""

    def __init__(self, states: RoomStates, events: EventStore) -> None:
        self._states = states
        self._events = events

    async def list_pdus(self, room: RoomInfo, inviter: str | None = None) -> list[dict[str, Any]]:
        """The present ones, and the inviter's membership."""
        root: Node = await self._states.current(room.room_nid)
        keys = [(type, "") for type in NAMING]
        if inviter is not None:
            keys.append(("m.room.member", inviter))
        nids = await self._states.get_many(room.room_nid, root, keys)
        found = await self._events.get_pdu_json(list(nids.values()))
        return [msgspec.json.decode(found[nid]) for nid in nids.values() if nid in found]


@dataclass(frozen=True, slots=True)
class Named:
    """What another server tells of a room: what of it may be shown, and what is wrong with the rest."""

    shown: list[Any]
    errors: list[str]


async def check_naming(checker: PduChecker, version: RoomVersion, room_id: str, told: Sequence[Any]) -> Named:
    """Take what another server tells of a room apart.

    Servers from before v1.16 of the specification send stripped events, of which nothing can be checked: these may be
    shown, as ever.
    """
    events = [event for event in told[:MAX_STRIPPED] if isinstance(event, dict)]
    pdus = [event for event in events if _is_pdu(event)]
    checked = await checker.check(pdus, version, room_id)
    shown = [*map(pdu_dict, checked.events), *(event for event in events if not _is_pdu(event))]
    errors = list(checked.dropped.values())
    if len(checked.events) + len(errors) < len(pdus):
        errors.append("not an event of this room's version")
    if not any(event.get("type") == "m.room.create" and event.get("state_key") == "" for event in shown):
        errors.append("the m.room.create event is missing")
    return Named(shown, errors)


def _is_pdu(event: dict[str, Any]) -> bool:
    return "signatures" in event or "hashes" in event
