"""m.room.member by PUT /state: the same checks as the membership endpoints, with the client's own fields.

Spec: client-server-api "Room membership": "a user can directly adjust the target member's state".
"""

from typing import Any

from hs.matrix.errors import BadJson, Forbidden
from hs.matrix.ids import parse_user_id
from hs.rooms.create import InviteGate
from hs.rooms.membership import RoomMemberships
from hs.storage.memberships import MembershipStore
from hs.storage.rooms import RoomInfo


class MemberEvents:
    """Turns a member event that a client wants into a change of membership."""

    def __init__(self, memberships: RoomMemberships, members: MembershipStore, gate: InviteGate) -> None:
        self._memberships = memberships
        self._members = members
        self._gate = gate

    async def set(self, room: RoomInfo, sender: str, target: str, content: dict[str, Any]) -> str:
        """The id of the member event that now stands for `target`."""
        parse_user_id(target)
        membership, reason = content.get("membership"), content.get("reason")
        if reason is not None and not isinstance(reason, str):
            raise BadJson("reason must be a string")
        changes = self._memberships
        if membership == "join":
            _check_self(sender, target, "join")
            sent = await changes.join(room, sender, content)
        elif membership == "knock":
            _check_self(sender, target, "knock")
            sent = await changes.knock(room, sender, reason)
        elif membership == "invite":
            self._gate.check_invite(target)
            sent = await changes.invite(room, sender, target, content)
        elif membership == "ban":
            sent = await changes.ban(room, sender, target, reason)
        elif membership == "leave" and sender == target:
            sent = await changes.leave(room, sender, reason)
        elif membership == "leave":
            banned = await self._members.find_membership(room.room_nid, target) == "ban"
            remove = changes.unban if banned else changes.kick
            sent = await remove(room, sender, target, reason)
        else:
            raise BadJson("membership must be one of join, invite, leave, ban and knock")
        return sent.event_id


def _check_self(sender: str, target: str, what: str) -> None:
    if sender != target:
        raise Forbidden(f"you cannot {what} for somebody else")
