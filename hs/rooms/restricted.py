"""Restricted rooms: who may join since they are in another room, and who of us vouches for them.

Spec: client-server-api "Restricted rooms"; rooms/v8 "Authorisation rules"; server-server-api "Restricted rooms".
"""

from hs._fast.event_record import EventRecord
from hs.matrix.errors import Forbidden, UnableToAuthoriseJoin, UnableToGrantJoin
from hs.matrix.power_levels import PowerLevels
from hs.rooms.state import RoomStates
from hs.storage.events import EventStore
from hs.storage.memberships import MembershipStore
from hs.storage.rooms import RoomInfo

# How many of our own members are asked whether they may vouch for a restricted join.
_MAX_AUTHORISERS_TRIED = 1000

# Never taken from a client: only the server that lets a user in says who vouches for them.
AUTHORISER = "join_authorised_via_users_server"


class RestrictedJoins:
    """Judges joins of rooms that let in who is in another room."""

    def __init__(self, states: RoomStates, events: EventStore, members: MembershipStore) -> None:
        self._states = states
        self._events = events
        self._members = members

    async def find_authoriser(self, room: RoomInfo, user_id: str) -> str | None:
        """A member of ours who vouches for the join; None where nobody has to.

        Raises UnableToAuthoriseJoin where we cannot say whether the user may join, UnableToGrantJoin where
        none of us may let them in, Forbidden where they may not join.
        """
        rules = await self._find_state(room, "m.room.join_rules")
        if rules is None or rules.content.get("join_rule") not in ("restricted", "knock_restricted"):
            return None
        if await self._members.find_membership(room.room_nid, user_id) in ("join", "invite"):
            return None
        allowing = _list_rooms(rules.content.get("allow"))
        if not await self._members.is_joined_to_any(user_id, allowing):
            if allowing and not await self._members.has_local_member_in_all(allowing):
                raise UnableToAuthoriseJoin("this server does not know who is in the rooms that let users in")
            raise Forbidden("you are not in any of the rooms whose members may join")
        inviter = await self._find_inviter(room)
        if inviter is None:
            raise UnableToGrantJoin("nobody on this server can let you in")
        return inviter

    async def _find_inviter(self, room: RoomInfo) -> str | None:
        create = await self._find_state(room, "m.room.create")
        levels = await self._find_state(room, "m.room.power_levels")
        if create is None:
            return None
        power = PowerLevels.of_room(room.version, create, levels)
        for member in await self._members.list_local_joined(room.room_nid, _MAX_AUTHORISERS_TRIED):
            if power.of_user(member) >= power.invite:
                return member
        return None

    async def _find_state(self, room: RoomInfo, type: str) -> EventRecord | None:
        root = await self._states.current(room.room_nid)
        nid = await self._states.get(room.room_nid, root, type, "")
        return await self._events.get(nid) if nid else None


def _list_rooms(allow: object) -> list[str]:
    return [
        condition["room_id"]
        for condition in (allow if isinstance(allow, list) else [])
        if isinstance(condition, dict)
        and condition.get("type") == "m.room_membership"
        and isinstance(condition.get("room_id"), str)
    ]
