"""Room versions 1 to 12: what differs between them, as named flags.

The rest of the code asks for the flag, never for the number. Spec: rooms/v1 to rooms/v12; each flag
says since which version it holds. Kernels take `number`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from hs.matrix.errors import UnsupportedRoomVersion


class EventIds(StrEnum):
    """Where an event's id comes from. Spec: "Event IDs" of rooms/v1, v3 and v4."""

    GIVEN = "given"  # the sender chooses `$opaque:domain` and puts it into the event
    HASH_BASE64 = "base64"  # "$" + unpadded base64 of the reference hash
    HASH_URLSAFE = "urlsafe"  # the same in the URL-safe alphabet


class StateResolution(StrEnum):
    """The algorithm that merges states. Spec: "State resolution" of rooms/v1, v2 and v12."""

    V1 = "v1"
    V2 = "v2"
    V2_1 = "v2.1"


class RedactionRules(StrEnum):
    """Which keys outlive a redaction, named by the first room version that has the rules."""

    V1 = "v1"
    V6 = "v6"  # m.room.aliases is nothing special any more
    V8 = "v8"  # m.room.join_rules keeps `allow`
    V9 = "v9"  # m.room.member keeps `join_authorised_via_users_server`
    V11 = (
        "v11"  # whole create content, power_levels.invite, redacts, third_party_invite.signed; fewer top keys
    )


@dataclass(frozen=True, slots=True)
class RoomVersion:
    """One room version's rules; `number` is what kernels take, `id` what the protocol says."""

    id: str
    number: int
    event_ids: EventIds
    state_resolution: StateResolution
    redaction_rules: RedactionRules
    # v1, v2: prev_events and auth_events are [event_id, {"sha256": hash}] pairs, not ids.
    has_reference_pairs: bool = False
    # v1, v2, auth rule 11: who may redact is part of the auth rules; since v3 it is checked on applying.
    redactions_in_auth_rules: bool = False
    # v1 to v5, auth rule 4: a server may set only the m.room.aliases event of its own name.
    aliases_in_auth_rules: bool = False
    # Since v5: a signing key counts only for events up to its valid_until_ts.
    enforces_key_validity: bool = False
    # Since v6: events are strictly canonical JSON: no floats, integers within +-(2^53 - 1).
    strict_json: bool = False
    # Since v6, auth rules 9.4 and 9.5: power_levels.notifications is guarded like power_levels.events.
    guards_notification_levels: bool = False
    # Since v7: membership and join rule `knock`.
    knocking: bool = False
    # Since v8: join rule `restricted`.
    restricted_joins: bool = False
    # Since v10: join rule `knock_restricted`.
    knock_restricted_joins: bool = False
    # Since v10: power levels must be integers, not strings.
    integer_power_levels: bool = False
    # Since v11: the creator is the sender of m.room.create; `content.creator` is gone.
    implicit_creator: bool = False
    # Since v11: what a redaction redacts is `content.redacts`, not the top-level `redacts`.
    redacts_in_content: bool = False
    # Since v12: creators (sender and content.additional_creators) stand above all power levels.
    privileged_creators: bool = False
    # Since v12: the room id is the create event's id with "!"; that event has no room_id, and nobody
    # names it in auth_events.
    room_id_is_create_hash: bool = False

    @property
    def max_depth(self) -> int:
        """The greatest depth an event may claim. Since v6 what canonical JSON can say."""
        return 2**53 - 1 if self.strict_json else 2**63 - 1


_V1 = RoomVersion(
    "1",
    1,
    EventIds.GIVEN,
    StateResolution.V1,
    RedactionRules.V1,
    has_reference_pairs=True,
    redactions_in_auth_rules=True,
    aliases_in_auth_rules=True,
)
_V2 = replace(_V1, id="2", number=2, state_resolution=StateResolution.V2)
_V3 = replace(
    _V2,
    id="3",
    number=3,
    event_ids=EventIds.HASH_BASE64,
    has_reference_pairs=False,
    redactions_in_auth_rules=False,
)
_V4 = replace(_V3, id="4", number=4, event_ids=EventIds.HASH_URLSAFE)
_V5 = replace(_V4, id="5", number=5, enforces_key_validity=True)
_V6 = replace(
    _V5,
    id="6",
    number=6,
    redaction_rules=RedactionRules.V6,
    aliases_in_auth_rules=False,
    strict_json=True,
    guards_notification_levels=True,
)
_V7 = replace(_V6, id="7", number=7, knocking=True)
_V8 = replace(_V7, id="8", number=8, redaction_rules=RedactionRules.V8, restricted_joins=True)
_V9 = replace(_V8, id="9", number=9, redaction_rules=RedactionRules.V9)
_V10 = replace(_V9, id="10", number=10, knock_restricted_joins=True, integer_power_levels=True)
_V11 = replace(
    _V10,
    id="11",
    number=11,
    redaction_rules=RedactionRules.V11,
    implicit_creator=True,
    redacts_in_content=True,
)
_V12 = replace(
    _V11,
    id="12",
    number=12,
    state_resolution=StateResolution.V2_1,
    privileged_creators=True,
    room_id_is_create_hash=True,
)

ROOM_VERSIONS: Final[Mapping[str, RoomVersion]] = MappingProxyType(
    {v.id: v for v in (_V1, _V2, _V3, _V4, _V5, _V6, _V7, _V8, _V9, _V10, _V11, _V12)}
)

# rooms/_index: "Servers SHOULD use room version 12 as the default room version when creating new rooms."
DEFAULT_ROOM_VERSION: Final = "12"


def get_room_version(version_id: str) -> RoomVersion:
    """The rules of the room version; UnsupportedRoomVersion for an unknown one."""
    version = ROOM_VERSIONS.get(version_id)
    if version is None:
        raise UnsupportedRoomVersion(f"room version {version_id!r} is not supported")
    return version
